"""Supervised learning: cross-entropy and Dice on labelled crops, AdamW, an EMA that predicts.

images, labels  ──weak view──►  G  ──►  cross-entropy + dice · Dice  ──►  AdamW, falling learning rate
                                │
                                └──EMA──►  predictor
"""

from __future__ import annotations

from typing import ClassVar

from wsiseg.data.crops import Stream
from wsiseg.methods.context import Batches, Context, Method
from wsiseg.methods.parts.student import LabelledLoss, Student
from wsiseg.methods.parts.views import Views
from wsiseg.nets.segmentation import SegmentationNet


class Supervised(Method):
    """See the module's docstring."""

    streams: ClassVar[tuple[Stream, ...]] = ("labelled",)

    def __init__(self, ctx: Context) -> None:
        self.student = Student(ctx)
        self.views = Views(ctx)
        self.labelled_loss = LabelledLoss(ctx, self.student.ema)

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step on the labelled crops. Returns the losses and the learning rate."""
        self.student.set_lr(progress)
        self.student.net.train()
        images, labels = self.views.weak(batches.labelled)
        loss, metrics = self.labelled_loss(self.student.net(images), images, labels, progress)
        self.student.learn(loss)
        return {"loss": loss.item(), "learning_rate": self.student.lr, **metrics}

    def predictor(self) -> SegmentationNet:
        """The EMA."""
        return self.student.ema.net
