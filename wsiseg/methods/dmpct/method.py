"""Multi-planar co-training: what one sees from several sides alike is probably so.

    each step   crops of one of the scales ─► G
    round 1     labelled image ─► G ─► cross-entropy + Dice against the annotations
    round r     the same, and
                unlabelled image ─► G of the round before, at every scale, turned and flipped ─► vote ─► labels of a majority
                                 └► strong view with CutMix ─► G ─► cross-entropy against them · weight

The paper has a volume that three networks see in axial, coronal and sagittal planes. A slide has one plane, so here its
planes are magnifications and symmetries; one network learns all of them, so that each plane can vote.

Source: deep multi-planar co-training (Zhou et al. 2019).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wsiseg.data.crops import Batch
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.gate import Confidence
from wsiseg.methods.parts.rounds import Rounds
from wsiseg.methods.parts.semi import Loss, pseudo_metrics
from wsiseg.methods.parts.teachers import Ensemble, probabilities
from wsiseg.methods.parts.views import cutmix, without_padding
from wsiseg.nets.segmentation import SegmentationNet

MULTIPLE = 16  # px; widths that the network takes


class DMPCT(Rounds):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.gate = Confidence(ctx)

    def make_ensemble(self, ctx: Context) -> Ensemble:
        """All planes of the newest networks."""
        o = ctx.options
        return Planes(ctx.fabric, self.student.ema.net, o.members, o.scales, o.symmetries)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Labelled loss, and the cross-entropy against the majority, at one of the scales."""
        scale = self._scale()
        images, labels = rescaled(*self.views.weak(labelled), scale)
        with torch.no_grad():
            plain, covered = self.views.plain(unlabelled)
            target = without_padding(self.gate(self.ensemble(plain)), covered)
            view, target = rescaled(*cutmix(self.views.strong(plain), target, self.options.cutmix), scale)
        logits = self.student.net(torch.cat([images, view]))
        loss, metrics = self.labelled_loss(logits[: len(images)], images, labels, progress)
        taught = trusted_cross_entropy(logits[len(images) :], target)
        return loss + weight * taught, metrics | {"co_training": taught.item()} | pseudo_metrics(target)

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """The labelled loss alone, at one of the scales."""
        images, labels = rescaled(*self.views.weak(batches.labelled), self._scale())
        return self.labelled_loss(self.student.net(images), images, labels, progress)

    def _scale(self) -> float:
        scales = self.options.scales
        return float(scales[int(torch.randint(len(scales), ()).item())])


class Planes(Ensemble):
    """The vote of networks that see an image at several scales, turned and flipped.

    Args:
        fabric, like, members: as of `Ensemble`
        scales: factors on µm/px; below 1 the image is enlarged, which adds no detail
        symmetries: how many of the eight
    """

    def __init__(
        self, fabric: Any, like: SegmentationNet, members: int, scales: tuple[float, ...], symmetries: int
    ) -> None:
        super().__init__(fabric, like, members)
        self.scales, self.symmetries = scales, range(symmetries)

    def __call__(self, images: Tensor) -> Tensor:
        """(n, classes, h, w) fraction of the planes in which each class is the most probable one."""
        votes: Tensor | float = 0.0
        for scale in self.scales:
            seen = resized(images, scale)
            for symmetry in self.symmetries:
                for net in self.members:
                    said = turned_back(probabilities(net, turned(seen, symmetry), self.fabric), symmetry)
                    said = F.interpolate(said, images.shape[-2:], mode="bilinear", align_corners=False)
                    votes = votes + F.one_hot(said.argmax(1), said.shape[1]).movedim(-1, 1).float()
        assert isinstance(votes, Tensor)
        return votes / (len(self.scales) * len(self.symmetries) * len(self.members))


def turned(images: Tensor, symmetry: int) -> Tensor:
    """(n, channels, h, w) under one of the symmetries of a square: 0 to 3 are flips, 4 to 7 the same of its transpose."""
    images = images.mT if symmetry & 4 else images
    return images.flip([axis for axis, bit in ((2, 1), (3, 2)) if symmetry & bit])


def turned_back(images: Tensor, symmetry: int) -> Tensor:
    """The inverse of `turned`."""
    images = images.flip([axis for axis, bit in ((2, 1), (3, 2)) if symmetry & bit])
    return images.mT if symmetry & 4 else images


def resized(images: Tensor, scale: float) -> Tensor:
    """(n, channels, h / scale, w / scale), both whole multiples of what the network takes."""
    h, w = (max(MULTIPLE, round(n / scale / MULTIPLE) * MULTIPLE) for n in images.shape[-2:])
    return F.interpolate(images, (h, w), mode="bilinear", align_corners=False, antialias=scale > 1)


def rescaled(images: Tensor, targets: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Images and targets at another scale; of what is enlarged a window of the former size, anywhere.

    Args:
        images: (n, 3, h, w)
        targets: (n, h, w) int64
        scale: factor on µm/px
    """
    h, w = images.shape[-2:]
    images = resized(images, scale)
    targets = F.interpolate(targets[:, None].float(), images.shape[-2:], mode="nearest")[:, 0].long()
    top, left = (
        int(torch.randint(max(0, n - size) + 1, ()).item()) for n, size in zip(images.shape[-2:], (h, w), strict=True)
    )
    return images[..., top : top + h, left : left + w], targets[..., top : top + h, left : left + w]
