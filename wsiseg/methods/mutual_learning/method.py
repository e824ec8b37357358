"""Robust mutual learning: two students, each taught by the EMA of the other, which first corrects its own labels.

    labelled    image ──► G₁, G₂ ─► cross-entropy + Dice against the annotations
    unlabelled  image ─┬► EMA₁ ─► rectified by EMA₁'s features ─► confident pixels ─► teach G₂ on a strong view of its own
                       └► EMA₂ ─► rectified by EMA₂'s features ─► confident pixels ─► teach G₁ on a strong view of its own
    prediction  mean of the probabilities of EMA₁ and EMA₂

A student that learns from the other student's present answer soon gives the same answer. So the EMA stands between them,
and the students differ in what they can: in their encoder or first weights, their strong views and their dropped channels.

Sources: robust mutual learning (Zhang et al. 2021a); the rectification by distances to class means is that of ProDA (Zhang
et al. 2021b).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context, Method
from wsiseg.methods.parts.chooser import CropChooser
from wsiseg.methods.parts.gate import Confidence
from wsiseg.methods.parts.prototypes import ClassMeans
from wsiseg.methods.parts.semi import pseudo_metrics
from wsiseg.methods.parts.settle import settle_batch_norm
from wsiseg.methods.parts.student import LabelledLoss, Student
from wsiseg.methods.parts.teachers import EMATeacher
from wsiseg.methods.parts.views import Views, cutmix, without_padding
from wsiseg.methods.schedule import rampup
from wsiseg.nets.segmentation import SegmentationNet


class MutualLearning(Method):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        self.options = ctx.options
        self.one = Learner(ctx, "")
        self.other = Learner(ctx, ctx.options.second_encoder)
        self.views, self.chooser = Views(ctx), CropChooser(ctx)

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step of each student. Returns losses, the means of both, and the learning rate."""
        o = self.options
        weight = float(o.unlabelled_weight * rampup(progress, o.unlabelled_start, o.rampup))
        metrics = self.chooser.step(self._both, weight > 0)
        images, labels = self.views.weak(batches.labelled)
        plain = targets = None
        if batches.unlabelled is not None and weight:
            plain, covered = self.views.plain(batches.unlabelled)
            targets = [without_padding(t, covered) for t in self._labels(images, labels, plain)]
        each = []
        for i, learner in enumerate((self.one, self.other)):
            student = learner.student
            student.set_lr(progress)
            student.net.train()
            if plain is None or targets is None:
                loss, parts = learner.labelled_loss(student.net(images), images, labels, progress)
            else:
                view, target = cutmix(self.views.strong(plain), targets[1 - i], o.cutmix)
                logits = student.net(torch.cat([images, view]), dropout(len(images), o.feature_dropout))
                loss, parts = learner.labelled_loss(logits[: len(images)], images, labels, progress)
                taught = trusted_cross_entropy(logits[len(images) :], target)
                loss = loss + weight * taught
                parts |= {"mutual": taught.item(), **pseudo_metrics(target)}
            student.learn(loss)
            each.append({"loss": loss.item(), **parts})
        if targets is not None:
            both = (targets[0] >= 0) & (targets[1] >= 0)
            metrics["peers_agree"] = ((targets[0] == targets[1]) & both).sum().item() / max(1, both.sum().item())
        return metrics | {k: (each[0][k] + each[1][k]) / 2 for k in each[0]} | {"learning_rate": self.one.student.lr}

    @torch.no_grad()
    def _labels(self, images: Tensor, labels: Tensor, plain: Tensor) -> list[Tensor]:
        """Rectified pseudo-labels (n, h, w) of each EMA for the plain images, after a look at the labelled ones."""
        found = []
        for learner in (self.one, self.other):
            net = learner.student.ema.net
            with learner.student.fabric.autocast():
                decoded = net.decode(net.encode(torch.cat([images, plain])))
                logits = net.classify(decoded[len(images) :])
            decoded, probability = decoded.float(), logits.float().softmax(1)
            if self.options.rectify_temperature:
                learner.means.watch(decoded[: len(images)], labels)
                probability = learner.means.rectified(
                    probability, decoded[len(images) :], self.options.rectify_temperature
                )
            found.append(learner.gate(probability))
        return found

    def _both(self, images: Tensor) -> Tensor:
        return (self.one.teacher(images) + self.other.teacher(images)) / 2

    def predictor(self) -> SegmentationNet:
        """Both EMAs as one network."""
        return self.one.student.ema.net.with_peers(self.other.student.ema.net)

    def finish(self, crops: Iterable[Batches]) -> None:
        """Measure batch statistics again on plain crops, unless no channel was ever dropped."""
        if self.options.feature_dropout:
            plain = [self.views.as_predicted(batches) for batches in crops]
            for learner in (self.one, self.other):
                settle_batch_norm(learner.student.ema.net, plain)


class Learner:
    """One of the two: the student, its EMA as a teacher, and what that needs to label crops."""

    def __init__(self, ctx: Context, encoder: str) -> None:
        self.student = Student(ctx, ctx.new_network(encoder or None))
        self.teacher = EMATeacher(self.student.ema, ctx.fabric)
        self.labelled_loss = LabelledLoss(ctx, self.student.ema)
        self.gate = Confidence(ctx)
        self.means = ClassMeans(len(ctx.classes), self.student.ema.net.architecture.decoder_channels)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {name: getattr(self, name).state_dict() for name in ("student", "gate", "means")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)


def dropout(first: int, chance: float) -> Any:
    """A perturbation for `SegmentationNet.forward` that drops feature channels of all but the first images; None: none."""
    if not chance:
        return None

    def drop(features: list[Tensor]) -> list[Tensor]:
        changed = []
        for f in features:
            kept = (torch.rand(f.shape[0], f.shape[1], 1, 1) >= chance) / (1 - chance)
            kept[:first] = 1
            changed.append(f * kept.to(f))
        return changed

    return drop
