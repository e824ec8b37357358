"""Mean teacher: on the same crop in two stains, the network must agree with its own EMA.

    labelled    image ─► G ─► cross-entropy + Dice against the annotations
    all         image in one stain ─► G ─────┬─► mean squared difference of the probabilities · weight
                image in another   ─► EMA ───┘

Source: Tarvainen & Valpola 2017. No threshold and no pseudo-label: an unsure teacher asks for an unsure answer, which
makes it the gentlest of the methods, and the weakest where the teacher is unsure of everything.
"""

from __future__ import annotations

import torch

from wsiseg.methods.context import Batches, Context, Method
from wsiseg.methods.parts.chooser import CropChooser
from wsiseg.methods.parts.student import LabelledLoss, Student
from wsiseg.methods.parts.teachers import EMATeacher
from wsiseg.methods.parts.views import Views
from wsiseg.methods.schedule import rampup
from wsiseg.nets.segmentation import SegmentationNet


class MeanTeacher(Method):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        self.options = ctx.options
        self.student = Student(ctx)
        self.teacher = EMATeacher(self.student.ema, ctx.fabric)
        self.views = Views(ctx)
        self.labelled_loss = LabelledLoss(ctx, self.student.ema)
        self.chooser = CropChooser(ctx)

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step. Returns all losses."""
        o = self.options
        self.student.set_lr(progress)
        self.student.net.train()
        plain, labels = self.views.unstained(batches.labelled)
        images = self.views.stain(plain)
        weight = o.unlabelled_weight * rampup(progress, o.unlabelled_start, o.rampup)
        metrics = self.chooser.step(self.teacher, weight > 0)
        if batches.unlabelled is None or weight == 0:
            loss, parts = self.labelled_loss(self.student.net(images), images, labels, progress)
        else:
            other, covered = self.views.plain(batches.unlabelled)
            logits = self.student.net(torch.cat([images, self.views.stain(other)]))
            loss, parts = self.labelled_loss(logits[: len(images)], images, labels, progress)
            wanted = self.teacher(self.views.stain(torch.cat([plain, other])))
            counted = torch.cat([torch.ones_like(labels, dtype=torch.bool), covered]).float()
            squares = (logits.float().softmax(1) - wanted).square().mean(1)
            difference = (squares * counted).sum() / counted.sum()
            loss = loss + weight * difference
            metrics["disagreement"] = difference.item()
        self.student.learn(loss)
        return {"loss": loss.item(), "learning_rate": self.student.lr, **metrics, **parts}

    def predictor(self) -> SegmentationNet:
        """The EMA."""
        return self.student.ema.net
