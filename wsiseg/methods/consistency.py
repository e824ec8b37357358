"""Weak to strong consistency: what the averaged network says of a plain view, the network must say of a distorted one.

    labelled    image ──────────────────────────► G ─► cross-entropy + Dice against the outlines
    unlabelled  image ─► averaged G ─► pseudo-labels where it is sure enough
                  ├── strong view 1 ─► G ─► cross-entropy against the pseudo-labels ┐
                  └── strong view 2 ─► G ─► the same                                ┴─► their mean · weight

A strong view has another stain, another light and blur, and pieces of another image with that image's pseudo-labels
(CutMix). In the deep features of the two views, each channel is dropped from one and doubled in the other.

Sources: FixMatch (Sohn et al. 2020); UniMatch and UniMatch V2 (Yang et al. 2023, 2025), whose teacher, two views and
complementary dropout these are. Stain jitter takes the place of their hue jitter and greyscale.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wsiseg.classes import ClassMap
from wsiseg.data.augment import Augmenter
from wsiseg.data.mix import mixed, pieces
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.method import Batch, per_class, rise
from wsiseg.methods.supervised import Supervised
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Recipe


class Consistency(Supervised):
    """Learns from labelled and unlabelled batches; see the module's docstring."""

    def __init__(self, recipe: Recipe, classes: ClassMap, fabric: Any, generator: SegmentationNet) -> None:
        super().__init__(recipe, classes, fabric, generator)
        self.own = recipe.method.consistency
        self.sure = per_class(self.own.confidence, classes, "method.consistency.confidence")
        cut = recipe.augment
        self.strong = Augmenter(
            recipe.training.crop, cut.rotate, cut.scale, self.own.stain, self.own.brightness, self.own.blur
        )

    def update(self, labelled: Batch, unlabelled: Batch | None, progress: float) -> dict[str, float]:
        """One step. Returns all losses, and the share of unlabelled pixels that taught."""
        self.set_rate(progress)
        self.net.train()
        images, labels = self.augment(*labelled)
        weight = self.own.weight * rise(progress, self.own.start, self.own.ramp)
        if unlabelled is None or weight == 0:
            loss, figures = self.labelled_loss(self.net(images), images, labels, progress)
        else:
            views, targets = self._views(unlabelled)
            # One pass for all, so that batch normalisation sees labelled and unlabelled slides together.
            pairs = len(targets) // 2 if self.own.channel_dropout else 0
            logits = self.net(torch.cat([images, views]), pairs)
            loss, figures = self.labelled_loss(logits[: len(images)], images, labels, progress)
            strong = trusted_cross_entropy(logits[len(images) :], targets)
            loss = loss + weight * strong
            figures |= {"consistency": strong.item(), "pseudo_labelled": (targets >= 0).float().mean().item()}
        self.learn(loss)
        return {"loss": loss.item(), **figures}

    @torch.no_grad()
    def _views(self, unlabelled: Batch) -> tuple[Tensor, Tensor]:
        """Two strong views of n images, (2 n, 3, h, w), and their pseudo-labels (2 n, h, w), below 0 where unsure."""
        image, _ = self.augment.turn(*unlabelled)
        target = pseudo_labels(self.probabilities(self.average.net, self.augment.restain(image)), self.sure)
        views, targets = [], []
        for _ in range(2):
            where = pieces(len(image), image.shape[-1], self.own.cutmix).to(image.device)
            views.append(mixed(self.strong.restain(image), where))
            targets.append(mixed(target, where))
        return torch.cat(views), torch.cat(targets)


def pseudo_labels(probabilities: Tensor, sure: Tensor) -> Tensor:
    """The most probable class where it is sure enough, else -1.

    Args:
        probabilities: (n, classes, h, w)
        sure: (classes,) least probability of each class

    Returns:
        (n, h, w) int64
    """
    best, label = probabilities.max(1)
    return torch.where(best >= sure.to(best)[label], label, torch.full_like(label, -1))
