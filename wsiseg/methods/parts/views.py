"""Views of a crop: the same tissue with another appearance."""

from __future__ import annotations

import torch
from torch import Tensor

from wsiseg.classes import IGNORE
from wsiseg.data.augment import Augmenter
from wsiseg.data.crops import Batch
from wsiseg.data.cutmix import mix, rectangles
from wsiseg.data.restain import in_stain_of
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.gate import UNSURE


class Views:
    """The weak view of the recipe's [augment], and the strong one of methods with `strong_…` options."""

    def __init__(self, ctx: Context) -> None:
        a, o = ctx.augment, ctx.options
        self._weak = Augmenter(ctx.crop, a.rotate, a.scale, a.stain, a.brightness)
        self._strong = self._weak
        if hasattr(o, "strong_stain"):
            self._strong = Augmenter(ctx.crop, a.rotate, a.scale, o.strong_stain, o.strong_brightness, o.strong_blur)

    def weak(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (n, 3, crop, crop) float32 from 0 to 1 and labels (n, crop, crop) int64: turned, scaled, restained."""
        return self._weak(batch.images, batch.labels)

    def plain(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images as in `weak` but in their own stain, and (n, crop, crop) bool: covered by a stored tile.

        The rest is white, and nobody should be taught that it is background.
        """
        unknown = torch.full_like(batch.labels, IGNORE)
        image, place = self._weak.random_affine(
            batch.images, torch.where(batch.covered, torch.zeros_like(unknown), unknown)
        )
        return image, place != IGNORE

    def unstained(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images and labels as in `weak`, but in their own stain."""
        return self._weak.random_affine(batch.images, batch.labels)

    def stain(self, images: Tensor) -> Tensor:
        """The same tissue in another stain and light, as the recipe's [augment] has them."""
        return self._weak.stain_jitter(images)

    def strong(self, images: Tensor) -> Tensor:
        """The same tissue in a very different stain, light and focus."""
        return self._strong.stain_jitter(images)

    def as_predicted(self, batches: Batches) -> Tensor:
        """All crops of a step as the network will see such slides: no strong view, nothing pasted."""
        images, _ = self.weak(batches.labelled)
        if batches.unlabelled is None:
            return images
        return torch.cat([images, self.stain(self.plain(batches.unlabelled)[0])])


def stain_view(images: Tensor, others: Tensor, chance: float, foreign: Tensor | None = None) -> Tensor:
    """With this chance each image in the stain of another one, drawn from the others (StyleMatch, Zhou et al. 2021).

    Args:
        images: (n, 3, h, w) from 0 to 1
        others: (m, 3, h, w)
        chance: of each image
        foreign: (n, m) bool, which of the others an image may be shown in, any where there is none; None: in all
    """
    giver = torch.randint(len(others), (len(images),)) if foreign is None else drawn(foreign.double() + 1e-9)
    chosen = (torch.rand(len(images)) < chance).to(images.device)
    return torch.where(chosen[:, None, None, None], in_stain_of(images, others[giver]), images)


def drawn(weights: Tensor) -> Tensor:
    """(n,) int64: of each row of (n, m) weights a column, drawn by them."""
    heights = weights.double().cumsum(1)
    at = torch.rand(len(weights), 1).to(heights) * heights[:, -1:]  # on the CPU, as all randomness of a step
    return torch.searchsorted(heights, at, right=True)[:, 0].clamp_max(weights.shape[1] - 1)


def cutmix(images: Tensor, targets: Tensor, chance: float) -> tuple[Tensor, Tensor]:
    """With this chance each image gets a rectangle of the image before, and its targets with it (Yun et al. 2019).

    Args:
        images: (n, channels, h, w)
        targets: (n, h, w)
        chance: of each image
    """
    where = rectangles(len(images), images.shape[-1], chance).to(images.device)
    return mix(images, where), mix(targets, where)


def without_padding(targets: Tensor, covered: Tensor) -> Tensor:
    """Targets (n, h, w), UNSURE where no stored tile lies."""
    return torch.where(covered, targets, torch.full_like(targets, UNSURE))


class ComplementaryDropout:
    """Of two strong views, each feature channel is doubled in one and zero in the other (UniMatch V2, Yang et al. 2025).

    A perturbation for `SegmentationNet.forward`: the last 2 · pairs images are two views of the same crops.

    Args:
        pairs: how many crops
        fraction: of the crops that are changed; UniMatch V2 changes half of its views
    """

    def __init__(self, pairs: int, fraction: float) -> None:
        self.pairs = pairs
        self.changed = torch.rand(pairs) < fraction

    def __call__(self, features: list[Tensor]) -> list[Tensor]:
        """The features of every depth, changed."""
        return [self._change(f) for f in features]

    def _change(self, features: Tensor) -> Tensor:
        # Drawn on the CPU, as all randomness of a step is: the same on every device.
        first = 2.0 * torch.randint(0, 2, (self.pairs, features.shape[1], 1, 1))
        first = torch.where(self.changed[:, None, None, None], first, torch.ones_like(first))
        plain = torch.ones(len(features) - 2 * self.pairs, features.shape[1], 1, 1)
        return features * torch.cat([plain, first, 2 - first]).to(features)
