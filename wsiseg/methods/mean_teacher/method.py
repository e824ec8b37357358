"""Mean teacher: on the same crop in two stains, the network must agree with its own EMA.

    labelled    image ─► G ─► cross-entropy + Dice against the annotations
    all         image in one stain ─► G ─────┬─► mean squared difference of the probabilities · weight
                image in another   ─► EMA ───┘

Source: Tarvainen & Valpola 2017. No threshold and no pseudo-label: an unsure teacher asks for an unsure answer, which
makes it the gentlest of the methods, and the weakest where the teacher is unsure of everything.
"""

from __future__ import annotations

import torch

from wsiseg.data.crops import Batch
from wsiseg.methods.parts.semi import Loss, SemiSupervised


class MeanTeacher(SemiSupervised):
    """See the module's docstring."""

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Labelled loss, and the disagreement of student and EMA on all crops."""
        plain, labels = self.views.unstained(labelled)
        other, covered = self.views.plain(unlabelled)
        images = self.views.stain(plain)
        logits = self.student.net(torch.cat([images, self.views.stain(other)]))
        loss, metrics = self.labelled_loss(logits[: len(images)], images, labels, progress)
        wanted = self.teacher(self.views.stain(torch.cat([plain, other])))
        counted = torch.cat([torch.ones_like(labels, dtype=torch.bool), covered]).float()
        squares = (logits.float().softmax(1) - wanted).square().mean(1)
        difference = (squares * counted).sum() / counted.sum()
        return loss + weight * difference, metrics | {"disagreement": difference.item()}
