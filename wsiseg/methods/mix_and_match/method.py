"""Mix-and-match tuning: patches of all crops of a step, drawn to those of their class and away from the others.

    mix      labelled crops ─► patches of several widths, each with the label of its central pixel, all scaled to one width
    match    a graph for each class: in random order, each patch is joined to an earlier patch of its class
             patch, joined patch, a patch of another class ─► G ─► mean features of length 1 ─► triplet loss
    beside   image ─► G ─► cross-entropy + Dice against the annotations · supervised_weight

The graph of each class is connected, so the class is pulled together as a whole: triplets drawn without it can leave it in
several heaps that never meet.

Source: Zhan et al. 2018.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsiseg.classes import IGNORE
from wsiseg.data.crops import Stream
from wsiseg.losses.contrastive import triplet
from wsiseg.methods.context import Batches, Context, Method
from wsiseg.methods.parts.gate import UNSURE
from wsiseg.methods.parts.settle import settle_batch_norm
from wsiseg.methods.parts.student import LabelledLoss, Student
from wsiseg.methods.parts.views import Views
from wsiseg.nets.segmentation import SegmentationNet

STRIDE = 16  # px; patches are whole multiples for the network
NARROWEST = 32  # px; the deepest features are then 2 px wide


class MixAndMatch(Method):
    """See the module's docstring."""

    streams: ClassVar[tuple[Stream, ...]] = ("labelled",)

    def __init__(self, ctx: Context) -> None:
        self.options = ctx.options
        network = ctx.new_network()
        network.heads["mean"] = MeanFeatures()
        self.student = Student(ctx, network)
        self.views = Views(ctx)
        self.labelled_loss = LabelledLoss(ctx, self.student.ema)
        self.side = max(NARROWEST, ctx.crop // 4 // STRIDE * STRIDE)  # a quarter of the crop, as in the paper

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step on the labelled crops. Returns the losses and the learning rate."""
        o = self.options
        self.student.set_lr(progress)
        self.student.net.train()
        images, labels = self.views.weak(batches.labelled)
        loss, metrics = self.labelled_loss(self.student.net(images), images, labels, progress)
        patches, names = mix(images, labels, o.patches, o.patch_width, self.side)
        _, heads = self.student.net(patches, None, ("mean",))
        features = heads["mean"].float()
        positive, negative, valid = match(names)
        matched = triplet(features, features[positive], features[negative], valid, o.margin)
        loss = o.supervised_weight * loss + o.triplet_weight * matched
        self.student.learn(loss)
        metrics |= {"triplet": matched.item(), "triplets": valid.float().mean().item()}
        return {"loss": loss.item(), "learning_rate": self.student.lr, **metrics}

    def predictor(self) -> SegmentationNet:
        """The EMA."""
        return self.student.ema.net

    def finish(self, crops: Iterable[Batches]) -> None:
        """Measure the EMA's batch statistics again on whole crops: those of scaled patches are others."""
        settle_batch_norm(self.student.ema.net, map(self.views.as_predicted, crops))


class MeanFeatures(nn.Module):
    """(n, channels, h, w) features -> (n, channels), their mean with length 1."""

    def forward(self, decoded: Tensor) -> Tensor:
        return F.normalize(decoded.mean((2, 3)), dim=1)


def mix(images: Tensor, labels: Tensor, count: int, width: tuple[float, float], side: int) -> tuple[Tensor, Tensor]:
    """Patches of random width and place.

    Args:
        images: (n, 3, crop, crop)
        labels: (n, crop, crop) int64
        count: patches from each crop
        width: narrowest and widest, as a fraction of the crop
        side: px, what each patch is scaled to

    Returns:
        (n · count, 3, side, side), and (n · count,) int64 the labels of their central pixels, below 0 for none
    """
    crops = torch.arange(len(images)).repeat_interleave(count)
    n, crop = len(crops), labels.shape[-1]
    wide = width[0] + (width[1] - width[0]) * torch.rand(n)
    x, y = ((2 * torch.rand(n) - 1) * (1 - wide) for _ in range(2))  # centres, from -1 to 1 across the crop
    zero = torch.zeros(n)
    theta = torch.stack([torch.stack([wide, zero, x], 1), torch.stack([zero, wide, y], 1)], 1)
    grid = F.affine_grid(theta, [n, 3, side, side], align_corners=False).to(images.device)
    patches = F.grid_sample(images[crops], grid, mode="bilinear", padding_mode="border", align_corners=False)
    column, row = (((v + 1) / 2 * crop).long().clamp_max(crop - 1) for v in (x, y))
    names = labels[crops, row, column]
    return patches, torch.where(names == IGNORE, UNSURE, names)


def match(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each patch one of its class and one of another.

    In a random order, each patch is joined to an earlier one of its class, so that each class is one connected graph.

    Args:
        labels: (n,) int64, below 0 for patches that take no part

    Returns:
        (n,) int64 the joined patch, (n,) int64 one of another class, and (n,) bool where there are both
    """
    n = len(labels)
    order, first, second = torch.rand(n), torch.rand(n, n), torch.rand(n, n)
    earlier = (order[None] < order[:, None]).to(labels.device)
    part = labels >= 0
    same = (labels[:, None] == labels) & part & earlier
    other = (labels[:, None] != labels) & part & part[:, None]
    positive = first.to(labels.device).masked_fill(~same, -1).argmax(1)
    negative = second.to(labels.device).masked_fill(~other, -1).argmax(1)
    return positive, negative, same.any(1) & other.any(1)
