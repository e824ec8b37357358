"""What methods with one student and a teacher share: a step on labelled crops, with unlabelled ones where it is time."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from wsiseg.data.crops import Batch
from wsiseg.methods.context import Batches, Context, Method
from wsiseg.methods.parts.chooser import CropChooser
from wsiseg.methods.parts.student import LabelledLoss, Student
from wsiseg.methods.parts.teachers import EMATeacher, Ensemble
from wsiseg.methods.parts.views import Views
from wsiseg.methods.schedule import rampup
from wsiseg.nets.segmentation import SegmentationNet

Loss = tuple[Tensor, dict[str, float]]  # and what is to be logged of it


class SemiSupervised(Method):
    """One student, its EMA as the teacher and as the predictor. A method adds `loss`, the loss of a whole step.

    Until `unlabelled_start`, and without unlabelled slides, the student learns from labelled crops alone.
    """

    def __init__(self, ctx: Context, network: SegmentationNet | None = None) -> None:
        self.options = ctx.options
        self.student = Student(ctx, network)
        self.teacher: EMATeacher | Ensemble = EMATeacher(self.student.ema, ctx.fabric)
        self.views = Views(ctx)
        self.labelled_loss = LabelledLoss(ctx, self.student.ema)
        self.chooser = CropChooser(ctx)

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step of the student. Returns all losses and the learning rate."""
        weight = self.weight(progress)
        metrics = self.chooser.step(self.teacher, weight > 0)
        self.student.set_lr(self.lr_progress(progress))
        self.student.net.train()
        if batches.unlabelled is None or weight == 0:
            loss, parts = self.loss_before(batches, progress)
        else:
            loss, parts = self.loss(batches.labelled, batches.unlabelled, weight, progress)
        self.student.learn(loss)
        return {"loss": loss.item(), "learning_rate": self.student.lr, **metrics, **parts}

    @abstractmethod
    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """The loss on crops of both kinds; weight is that of the unlabelled ones now."""

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """The loss while unlabelled crops do not count: the labelled loss alone."""
        images, labels = self.views.weak(batches.labelled)
        return self.labelled_loss(self.student.net(images), images, labels, progress)

    def weight(self, progress: float) -> float:
        """The weight of the loss on unlabelled crops, from 0 up to the recipe's."""
        o = self.options
        return float(o.unlabelled_weight * rampup(progress, o.unlabelled_start, o.rampup))

    def lr_progress(self, progress: float) -> float:
        """Where in the schedule of the learning rate this moment lies."""
        return progress

    def predictor(self) -> SegmentationNet:
        """The EMA."""
        return self.student.ema.net


def pseudo_metrics(targets: Tensor) -> dict[str, float]:
    """What to log of pseudo-labels: the fraction of the pixels that have one, and one of an object."""
    return {
        "pseudo_labelled": (targets >= 0).float().mean().item(),
        "pseudo_objects": (targets > 0).float().mean().item(),
    }
