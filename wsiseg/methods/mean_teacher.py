"""Mean teacher: on the same image in two stains, the network must agree with its own average.

    labelled    image ─► G ─► cross-entropy + Dice against the outlines
    all         image in one stain ─► G ────────┬─► mean squared difference of the probabilities · weight
                image in another   ─► average ──┘

Source: Tarvainen & Valpola 2017. No threshold and no pseudo-label: an unsure teacher asks for an unsure answer, which
makes it the gentlest of the methods, and the weakest where the teacher is unsure of everything.
"""

from __future__ import annotations

from typing import Any

import torch

from wsiseg.classes import ClassMap
from wsiseg.methods.method import Batch, rise
from wsiseg.methods.supervised import Supervised
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Recipe


class MeanTeacher(Supervised):
    """Learns from labelled and unlabelled batches; see the module's docstring."""

    def __init__(self, recipe: Recipe, classes: ClassMap, fabric: Any, generator: SegmentationNet) -> None:
        super().__init__(recipe, classes, fabric, generator)
        self.own = recipe.method.mean_teacher

    def update(self, labelled: Batch, unlabelled: Batch | None, progress: float) -> dict[str, float]:
        """One step. Returns all losses."""
        self.set_rate(progress)
        self.net.train()
        plain, labels = self.augment.turn(*labelled)
        images = self.augment.restain(plain)
        weight = self.own.weight * rise(progress, self.own.start, self.own.ramp)
        if unlabelled is None or weight == 0:
            loss, figures = self.labelled_loss(self.net(images), images, labels, progress)
        else:
            other, _ = self.augment.turn(*unlabelled)
            logits = self.net(torch.cat([images, self.augment.restain(other)]))
            loss, figures = self.labelled_loss(logits[: len(images)], images, labels, progress)
            wanted = self.probabilities(self.average.net, self.augment.restain(torch.cat([plain, other])))
            difference = (logits.float().softmax(1) - wanted).square().mean()
            loss, figures["disagreement"] = loss + weight * difference, difference.item()
        self.learn(loss)
        return {"loss": loss.item(), **figures}
