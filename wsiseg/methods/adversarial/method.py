"""A discriminator D sees image and label map together, and teaches the segmentation network G on slides without labels.

    labelled    image ─► G ─► map ──┬── cross-entropy + Dice against the annotations
                                    └── λ1 · gan_loss(D(image, map))
    unlabelled  image ─► G ─► map ──┬── λ2 · gan_loss(D(image, map))
                  └► EMA ─► labels ─┴── cross-entropy where D trusts them most  · self_taught_weight
    D           `correctness`  (image, map of the EMA) of held-out labelled crops: which pixels are right?
                `source`       (image, true map) against (image, predicted map) of the labelled crops

`correctness` is the reading that can filter pseudo-labels: D learns on tiles that G has not learnt from, where G errs as
it does on new slides, and the fraction of pixels that D gives the highest scores becomes labels, class by class. All
crops of G go through one pass, so that batch normalisation sees labelled and unlabelled slides together.

Sources: Lalwani, "DeepLab with adversarial loss for semi-supervised semantic segmentation of medical images" (the two
discriminators, two phases with `gan_schedule = "paper"`); Hung et al. 2018 (self-taught learning); Mittal et al. 2021
(feature matching; image and map as input).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from wsiseg.classes import IGNORE
from wsiseg.losses.adversarial import (
    correctness_loss,
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
)
from wsiseg.losses.encoding import encode, shown
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context, Method
from wsiseg.methods.parts.chooser import CropChooser
from wsiseg.methods.parts.critic import MEMORY, Critic, pixelwise
from wsiseg.methods.parts.gate import Quantile
from wsiseg.methods.parts.student import LabelledLoss, Student
from wsiseg.methods.parts.teachers import EMATeacher
from wsiseg.methods.parts.views import Views, without_padding
from wsiseg.methods.schedule import rampup
from wsiseg.nets.discriminators import Discriminator
from wsiseg.nets.segmentation import SegmentationNet

PAPER_PHASE_TWO = 0.5  # fraction of the steps after which `paper` turns to unlabelled slides


class Adversarial(Method):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        self.options = ctx.options
        if ctx.options.held_out:
            ctx.pools.hold_out(ctx.options.held_out)
        self.student = Student(ctx)
        self.teacher = EMATeacher(self.student.ema, ctx.fabric)
        self.critic = Critic(ctx)
        self.views = Views(ctx)
        self.labelled_loss = LabelledLoss(ctx, self.student.ema)
        self.gate = Quantile(len(ctx.classes), ctx.options.trusted_fraction)
        self.chooser = CropChooser(ctx)
        self.d_loss_mean, self.updates = math.log(2), 0

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step of G, then one of D. Returns all losses, D's AUC on held-out crops, and whether D was paused."""
        o = self.options
        self.updates += 1
        self.student.set_lr(progress)
        self.student.net.train()
        playing = progress >= o.adversarial_start
        weight = self.unlabelled_factor(progress)
        metrics = self.chooser.step(self.teacher, weight > 0)
        later = o.gan_schedule == "paper" and progress >= PAPER_PHASE_TWO
        phase_two = playing and later and batches.unlabelled is not None
        images, labels = self.views.weak(batches.labelled)

        if not playing or batches.unlabelled is None or weight == 0:
            logits, other = self.student.net(images), None
        else:
            plain, covered = self.views.plain(batches.unlabelled)
            other = self.views.stain(plain)
            shown_to_g = other if phase_two else torch.cat([images, other])
            logits = self.student.net(shown_to_g)
        loss = logits.new_zeros(())
        true = predicted = None
        if not phase_two:
            loss, parts = self.labelled_loss(logits[: len(images)], images, labels, progress)
            metrics |= parts
        if playing and not phase_two:
            true, predicted = encode(logits[: len(images)], labels, o.map_encoding)
            judged, _ = self.critic.judge(images, predicted)
            adversarial = generator_loss(judged, o.gan_loss, _stated(labels, judged))
            loss = loss + o.labelled_weight * adversarial
            metrics["adversarial_labelled"] = adversarial.item()
        if other is not None:
            extra, parts = self._unlabelled_loss(logits[-len(other) :], other, plain, covered, (images, labels, true))
            loss, metrics = loss + weight * extra, metrics | parts
        self.student.learn(loss)
        if playing and not phase_two:
            assert true is not None
            assert predicted is not None
            metrics |= self._learn_critic(batches, images, true.detach(), predicted.detach())
        return {"loss": loss.item(), "learning_rate": self.student.lr, **metrics}

    def unlabelled_factor(self, progress: float) -> float:
        """What the weights of unlabelled crops are multiplied by now; the schedule of the paper has a phase for them."""
        o = self.options
        if o.gan_schedule == "paper":
            return float(progress >= PAPER_PHASE_TWO)
        return rampup(progress, o.unlabelled_start, o.rampup)

    def _unlabelled_loss(
        self, logits: Tensor, images: Tensor, plain: Tensor, covered: Tensor,
        labelled: tuple[Tensor, Tensor, Tensor | None],
    ) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
        """Adversarial, self-taught and feature loss of G's logits on unlabelled images.

        The EMA sees the crop in its own stain, and D judges the EMA's map, as it does when it learns. `labelled` are
        images, labels and true maps, for D's features to match; in phase two, without logits of G, the true maps are
        the labels themselves.
        """
        o = self.options
        judged, features = self.critic.judge(images, shown(logits, o.map_encoding))
        adversarial = generator_loss(judged, o.gan_loss, _stated(torch.where(covered, 0, IGNORE), judged))
        loss, metrics = o.unlabelled_weight * adversarial, {"adversarial_unlabelled": adversarial.item()}
        if o.self_taught_weight:
            probability = self.teacher(plain)
            target = self.gate(probability.argmax(1), self.critic.score(plain, probability))
            target = without_padding(target, covered)
            taught = trusted_cross_entropy(logits, target)
            loss = loss + o.self_taught_weight * taught
            metrics |= {"self_taught": taught.item(), "pseudo_labelled": (target >= 0).float().mean().item()}
            metrics["pseudo_objects"] = (target > 0).float().mean().item()
        if o.feature_matching:
            known, labels, true = labelled
            if true is None:
                true = encode(logits.new_zeros(len(labels), logits.shape[1], *labels.shape[1:]), labels, "smooth")[0]
            with torch.no_grad():
                wanted = self.critic.judge(known, true)[1]
            matching = feature_matching(wanted, features)
            loss = loss + o.feature_matching * matching
            metrics["feature_matching"] = matching.item()
        return loss, metrics

    def _learn_critic(self, batches: Batches, images: Tensor, true: Tensor, predicted: Tensor) -> dict[str, float]:
        """D's step: on held-out crops (correctness), or on the maps that G made for its own step (source)."""
        o = self.options
        penalise = o.r1 > 0 and self.updates % o.r1_every == 0
        held = None if batches.held_out is None else self.views.weak(batches.held_out)
        if o.target == "correctness":
            # Without enough tiles to hold any out, D learns from G's own labelled crops, and nobody can tell what it knows.
            images, labels = self.views.weak(batches.labelled) if held is None else held
            maps = self.teacher(images)
            if penalise:
                images, maps = images.requires_grad_(), maps.requires_grad_()
            judged = self.critic(images, maps)
            label = maps.detach().argmax(1)
            if held is not None:
                self.critic.measure(pixelwise(judged, labels), label == labels, labels != IGNORE)
            loss, penalised = correctness_loss(judged, label, labels), maps
        else:
            if held is not None:
                self._watch(*held)
            if penalise:
                images, true = images.detach().requires_grad_(), true.requires_grad_()
            # One pass for both: D has no batch statistics that could tell them apart.
            pretended, judged = self.critic(torch.cat([images, images]), torch.cat([predicted, true])).chunk(2)
            loss, penalised = discriminator_loss(judged, pretended, o.gan_loss), true
        metrics = {"discriminator": loss.item(), "discriminator_auc": self.critic.auc}
        if penalise:
            penalty = gradient_penalty(judged, images, penalised)
            loss, metrics["r1"] = loss + o.r1 * o.r1_every * penalty, penalty.item()
        self.d_loss_mean = MEMORY * self.d_loss_mean + (1 - MEMORY) * metrics["discriminator"]
        paused = self.d_loss_mean < o.pause_below
        if not paused:
            self.critic.learn(loss)
        return metrics | {"discriminator_paused": float(paused)}

    def _watch(self, images: Tensor, labels: Tensor) -> None:
        """Note how well D tells true maps from predicted ones on crops that neither network learns from."""
        true, predicted = encode(self.teacher(images).clamp_min(1e-12).log(), labels, self.options.map_encoding)
        with torch.no_grad():
            judged = torch.stack([self.critic.judge(images, maps)[0] for maps in (true, predicted)])
        genuine = torch.zeros_like(judged, dtype=torch.bool)
        genuine[0] = True
        self.critic.measure(judged, genuine)

    def predictor(self) -> SegmentationNet:
        """The EMA."""
        return self.student.ema.net

    def remarks(self) -> tuple[str, ...]:
        """A warning where D knows nothing."""
        return self.critic.remark()

    def judge(self) -> Discriminator | None:
        """D, where it has learnt which pixels are right."""
        net: Discriminator = self.critic.net.module
        return net if self.options.target == "correctness" else None

    def state_dict(self) -> dict[str, Any]:
        """That of all parts, and D's running loss."""
        return super().state_dict() | {"d_loss_mean": self.d_loss_mean, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.d_loss_mean, self.updates = state["d_loss_mean"], state["updates"]


def _stated(labels: Tensor, judged: Tensor) -> Tensor:
    """(n, 1, h', w') 1 where the crop's labels say anything, in the size of the logits."""
    known = (labels != IGNORE).float()[:, None]
    return torch.nn.functional.interpolate(known, size=judged.shape[-2:], mode="nearest")
