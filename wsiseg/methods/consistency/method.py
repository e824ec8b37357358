"""Weak to strong consistency: what the EMA says of a plain crop, the network must say of two distorted views of it.

    labelled    image ────────────────────► G ─► cross-entropy + Dice against the annotations
    unlabelled  image ─► EMA ─► pseudo-labels where it is confident
                  ├── strong view 1 ─► G ─► cross-entropy against the pseudo-labels ┐
                  └── strong view 2 ─► G ─► the same                                ┴─► their mean · weight

A strong view has another stain, another light and blur, and a rectangle of another crop with that crop's pseudo-labels
(CutMix). In half of the pairs each feature channel is dropped from one view and doubled in the other. Dropped channels
inflate the running variances of batch normalisation, so these are measured again on plain crops at the end.

Sources: FixMatch (Sohn et al. 2020); UniMatch and UniMatch V2 (Yang et al. 2023, 2025), whose teacher, two views and
complementary dropout these are. Stain jitter takes the place of their hue jitter and greyscale.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context, Method
from wsiseg.methods.parts.chooser import CropChooser
from wsiseg.methods.parts.gate import Confidence
from wsiseg.methods.parts.settle import settle_batch_norm
from wsiseg.methods.parts.student import LabelledLoss, Student
from wsiseg.methods.parts.teachers import EMATeacher
from wsiseg.methods.parts.views import ComplementaryDropout, Views, cutmix, without_padding
from wsiseg.methods.schedule import rampup
from wsiseg.nets.segmentation import SegmentationNet


class Consistency(Method):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        self.options = ctx.options
        self.student = Student(ctx)
        self.teacher = EMATeacher(self.student.ema, ctx.fabric)
        self.views = Views(ctx)
        self.labelled_loss = LabelledLoss(ctx, self.student.ema)
        self.gate = Confidence(ctx)
        self.chooser = CropChooser(ctx)

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step. Returns all losses, and the fraction of unlabelled pixels with a pseudo-label."""
        o = self.options
        self.student.set_lr(progress)
        self.student.net.train()
        images, labels = self.views.weak(batches.labelled)
        weight = o.unlabelled_weight * rampup(progress, o.unlabelled_start, o.rampup)
        metrics = self.chooser.step(self.teacher, weight > 0)
        if batches.unlabelled is None or weight == 0:
            loss, parts = self.labelled_loss(self.student.net(images), images, labels, progress)
        else:
            views, targets = self._strong_views(batches)
            # One pass for all, so that batch normalisation sees labelled and unlabelled slides together.
            perturb = ComplementaryDropout(len(targets) // 2, o.channel_dropout) if o.channel_dropout else None
            logits = self.student.net(torch.cat([images, views]), perturb)
            loss, parts = self.labelled_loss(logits[: len(images)], images, labels, progress)
            consistency = trusted_cross_entropy(logits[len(images) :], targets)
            loss = loss + weight * consistency
            metrics |= {"consistency": consistency.item(), "pseudo_labelled": (targets >= 0).float().mean().item()}
            metrics["pseudo_objects"] = (targets > 0).float().mean().item()
        self.student.learn(loss)
        return {"loss": loss.item(), "learning_rate": self.student.lr, **metrics, **parts}

    @torch.no_grad()
    def _strong_views(self, batches: Batches) -> tuple[Tensor, Tensor]:
        """Two strong views of n crops, (2 n, 3, h, w), and their pseudo-labels (2 n, h, w), below 0 where unsure."""
        assert batches.unlabelled is not None
        image, covered = self.views.plain(batches.unlabelled)
        target = without_padding(self.gate(self.teacher(image)), covered)
        views = [cutmix(self.views.strong(image), target, self.options.cutmix) for _ in range(2)]
        return torch.cat([v for v, _ in views]), torch.cat([t for _, t in views])

    def finish(self, crops: Iterable[Batches]) -> None:
        """Measure the EMA's batch statistics again on plain crops, unless no channel was ever dropped."""
        if self.options.channel_dropout:
            settle_batch_norm(self.student.ema.net, (self._plain(batches) for batches in crops))

    def _plain(self, batches: Batches) -> Tensor:
        images, _ = self.views.weak(batches.labelled)
        if batches.unlabelled is None:
            return images
        return torch.cat([images, self.views.stain(self.views.plain(batches.unlabelled)[0])])

    def predictor(self) -> SegmentationNet:
        """The EMA."""
        return self.student.ema.net
