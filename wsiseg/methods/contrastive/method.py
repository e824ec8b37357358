"""Contrast of pixels and objects: what is of one class shall have one embedding, in whatever slide it lies.

    labelled    image ─► G ─► cross-entropy + Dice against the annotations · supervised_weight
                         └─► embeddings ─┬─ pixels, classes alike ──► contrast with the prototypes of all classes
                                         └─ mean over each class's mask in a crop ──► contrast with those of all crops
    unlabelled  image ─► EMA ─► pseudo-labels where it is confident
                  └── strong view ─► G ─► embeddings ─► the same two losses, with these labels · weight

A prototype is the running mean of the embeddings of a class's annotated pixels. A crop holds several classes, so one
embedding of a crop says little: the mask of a class is the attention that picks its pixels (semantic attention).

Sources: attention-guided supervised contrastive learning (Lee et al. 2021); supervised contrastive loss (Khosla et al.
2020); pixels and a memory of classes (Wang et al. 2021, Alonso et al. 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsiseg.classes import IGNORE
from wsiseg.data.crops import Batch
from wsiseg.losses.contrastive import prototype_contrast, supervised_contrast
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.gate import UNSURE, Confidence
from wsiseg.methods.parts.prototypes import ClassMeans, shrunk
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.views import cutmix, without_padding

HEADS = ("embedding",)


class Contrastive(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        network = ctx.new_network()
        network.heads["embedding"] = Embedding(network.architecture.decoder_channels, ctx.options.embedding)
        super().__init__(ctx, network)
        self.gate = Confidence(ctx)
        self.means = ClassMeans(len(ctx.classes), ctx.options.embedding)

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """The labelled crops alone: their supervised loss, and their contrast."""
        images, labels = self.views.weak(batches.labelled)
        logits, heads = self.student.net(images, None, HEADS)
        return self._labelled(logits, heads["embedding"], images, labels, progress)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """The loss on labelled crops, and the contrast of strong views under the labels of the EMA."""
        images, labels = self.views.weak(labelled)
        view, target = self._strong_view(unlabelled)
        logits, heads = self.student.net(torch.cat([images, view]), None, HEADS)
        n, embedded = len(images), heads["embedding"]
        loss, metrics = self._labelled(logits[:n], embedded[:n], images, labels, progress)
        contrast = self._contrast(embedded[n:], target)
        return loss + weight * contrast, metrics | {"contrast_unlabelled": contrast.item()} | pseudo_metrics(target)

    def _labelled(self, logits: Tensor, embedded: Tensor, images: Tensor, labels: Tensor, progress: float) -> Loss:
        loss, metrics = self.labelled_loss(logits, images, labels, progress)
        self.means.watch(embedded.detach().float(), labels)
        contrast = self._contrast(embedded, torch.where(labels == IGNORE, UNSURE, labels))
        return self.options.supervised_weight * loss + contrast, metrics | {"contrast": contrast.item()}

    @torch.no_grad()
    def _strong_view(self, unlabelled: Batch) -> tuple[Tensor, Tensor]:
        """A strong view (n, 3, h, w) and its pseudo-labels (n, h, w), below 0 where unsure."""
        image, covered = self.views.plain(unlabelled)
        target = without_padding(self.gate(self.teacher(image)), covered)
        return cutmix(self.views.strong(image), target, self.options.cutmix)

    def _contrast(self, embedded: Tensor, labels: Tensor) -> Tensor:
        """Both contrasts of embeddings (n, channels, h / 4, w / 4) under labels (n, h, w), below 0 for none."""
        o, embedded = self.options, embedded.float()
        small = shrunk(labels, embedded)
        prototypes = F.normalize(self.means.means, dim=1).to(embedded)
        drawn = balanced_pixels(small, len(prototypes), o.pixels)
        pixels = embedded.movedim(1, -1).flatten(0, 2)[drawn]
        known = self.means.seen.to(embedded.device)
        pixel = prototype_contrast(pixels, small.flatten()[drawn], prototypes, known, o.temperature)
        whole = supervised_contrast(*attended(embedded, small, len(prototypes)), o.temperature)
        return o.pixel_weight * pixel + o.object_weight * whole


class Embedding(nn.Module):
    """(n, channels, h, w) features -> (n, out, h, w) of length 1."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, out, 1))

    def forward(self, decoded: Tensor) -> Tensor:
        return F.normalize(self.layers(decoded), dim=1)


def balanced_pixels(labels: Tensor, classes: int, count: int) -> Tensor:
    """(count,) places in the flattened labels, drawn with replacement, each class that is there as often.

    Args:
        labels: (n, h, w) int64, below 0 for no label; where there is no label at all, places are drawn anywhere
        classes: how many
        count: how many places
    """
    flat = labels.flatten().cpu()
    pixels = torch.stack([(flat == c).sum() for c in range(classes)]).clamp_min(1).double()
    chance = torch.where(flat >= 0, 1 / pixels[flat.clamp_min(0)], 0.0) + 1e-15
    return torch.searchsorted(chance.cumsum(0), torch.rand(count, dtype=torch.float64) * chance.sum()).clamp_max(
        len(flat) - 1
    ).to(labels.device)  # fmt: skip


def attended(embedded: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The mean embedding of each class in each crop, under the attention of the class's mask.

    Args:
        embedded: (n, channels, h, w) of length 1
        labels: (n, h, w) int64, below 0 for no label
        classes: how many

    Returns:
        (n · classes, channels) of length 1, and (n · classes,) int64 their class, below 0 where the crop has none of it
    """
    attention = torch.stack([labels == c for c in range(classes)], 1).to(embedded)
    pixels = attention.sum((2, 3))
    mean = torch.einsum("nkhw,nchw->nkc", attention, embedded) / pixels.clamp_min(1)[..., None]
    names = torch.arange(classes, device=labels.device).expand(len(labels), -1)
    return F.normalize(mean, dim=2).flatten(0, 1), torch.where(pixels > 0, names, UNSURE).flatten()
