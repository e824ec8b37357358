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

import torch
from torch import Tensor

from wsiseg.classes import IGNORE
from wsiseg.data.crops import Batch
from wsiseg.losses.adversarial import correctness_loss, discriminator_loss, feature_matching, generator_loss
from wsiseg.losses.encoding import encode, shown
from wsiseg.losses.segmentation import trusted_cross_entropy
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.parts.critic import Critic, pixelwise
from wsiseg.methods.parts.gate import Quantile
from wsiseg.methods.parts.semi import Loss, SemiSupervised, pseudo_metrics
from wsiseg.methods.parts.views import without_padding
from wsiseg.methods.schedule import rampup
from wsiseg.nets.discriminators import Discriminator

PAPER_PHASE_TWO = 0.5  # fraction of the steps after which `paper` turns to unlabelled slides


class Adversarial(SemiSupervised):
    """See the module's docstring."""

    def __init__(self, ctx: Context) -> None:
        if ctx.options.held_out:
            ctx.pools.hold_out(ctx.options.held_out)
        super().__init__(ctx)
        self.critic = Critic(ctx)
        self.gate = Quantile(len(ctx.classes), ctx.options.trusted_fraction)

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        """One step of D, then one of G. Returns all losses, D's AUC on held-out crops, and whether D was paused."""
        o = self.options
        frozen = o.gan_schedule == "paper" and batches.unlabelled is not None and self.weight(progress) > 0
        metrics: dict[str, float] = {}
        if progress >= o.adversarial_start and not frozen:
            held = None if batches.held_out is None else self.views.weak(batches.held_out)
            if o.target == "correctness":
                metrics = self._learn_correctness(batches.labelled, held)
            elif held is not None:
                self._watch(*held)
        return metrics | super().update(batches, progress)

    def loss(self, labelled: Batch, unlabelled: Batch, weight: float, progress: float) -> Loss:
        """Labelled and adversarial loss, and that of the unlabelled crops; in phase two of the paper these alone."""
        o = self.options
        images, labels = self.views.weak(labelled)
        plain, covered = self.views.plain(unlabelled)
        other = self.views.stain(plain)
        if o.gan_schedule == "paper":
            logits = self.student.net(other)
            true, _ = encode(torch.zeros_like(logits), labels, "smooth")
            return self._unlabelled_loss(logits, other, plain, covered, (images, true))
        logits = self.student.net(torch.cat([images, other]))
        loss, metrics, true = self._labelled_loss(logits[: len(images)], images, labels, progress)
        extra, parts = self._unlabelled_loss(logits[len(images) :], other, plain, covered, (images, true))
        return loss + weight * extra, metrics | parts

    def loss_before(self, batches: Batches, progress: float) -> Loss:
        """Labelled and adversarial loss."""
        if progress < self.options.adversarial_start:
            return super().loss_before(batches, progress)
        images, labels = self.views.weak(batches.labelled)
        loss, metrics, _ = self._labelled_loss(self.student.net(images), images, labels, progress)
        return loss, metrics

    def weight(self, progress: float) -> float:
        """What the weights of unlabelled crops are multiplied by now; the schedule of the paper has a phase for them."""
        o = self.options
        if progress < o.adversarial_start:
            return 0.0
        if o.gan_schedule == "paper":
            return float(progress >= PAPER_PHASE_TWO)
        return rampup(progress, o.unlabelled_start, o.rampup)

    def _labelled_loss(
        self, logits: Tensor, images: Tensor, labels: Tensor, progress: float
    ) -> tuple[Tensor, dict[str, float], Tensor]:
        """Labelled and adversarial loss of G's logits, and the true maps; with `source` D first learns from both maps."""
        o = self.options
        loss, metrics = self.labelled_loss(logits, images, labels, progress)
        true, predicted = encode(logits, labels, o.map_encoding)
        if o.target == "source":
            # One pass for both: D has no batch statistics that could tell them apart.
            pretended, judged = self.critic(torch.cat([images] * 2), torch.cat([predicted.detach(), true])).chunk(2)
            metrics |= self.critic.learn(discriminator_loss(judged, pretended, o.gan_loss), images, true)
        judged, _ = self.critic.judge(images, predicted)
        adversarial = generator_loss(judged, o.gan_loss, _stated(labels, judged))
        metrics["adversarial_labelled"] = adversarial.item()
        return loss + o.labelled_weight * adversarial, metrics, true

    def _unlabelled_loss(
        self, logits: Tensor, images: Tensor, plain: Tensor, covered: Tensor, known: tuple[Tensor, Tensor]
    ) -> Loss:
        """Adversarial, self-taught and feature loss of G's logits on unlabelled images.

        The EMA sees the crop in its own stain, and D judges the EMA's map, as it does when it learns. `known` are labelled
        images and their true maps, for D's features to match.
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
            metrics |= {"self_taught": taught.item(), **pseudo_metrics(target)}
        if o.feature_matching:
            with torch.no_grad():
                wanted = self.critic.judge(*known)[1]
            matching = feature_matching(wanted, features)
            loss = loss + o.feature_matching * matching
            metrics["feature_matching"] = matching.item()
        return loss, metrics

    def _learn_correctness(self, labelled: Batch, held: tuple[Tensor, Tensor] | None) -> dict[str, float]:
        """D learns which pixels of the EMA's maps are right, on held-out images and labels.

        Without enough tiles to hold any out, it learns from G's own labelled crops, and nobody can tell what it knows.
        """
        images, labels = self.views.weak(labelled) if held is None else held
        maps = self.teacher(images)
        judged, label = self.critic(images, maps), maps.argmax(1)
        if held is not None:
            self.critic.measure(pixelwise(judged, labels), label == labels, labels != IGNORE)
        return self.critic.learn(correctness_loss(judged, label, labels), images, maps)

    def _watch(self, images: Tensor, labels: Tensor) -> None:
        """Note how well D tells true maps from predicted ones on crops that neither network learns from."""
        true, predicted = encode(self.teacher(images).clamp_min(1e-12).log(), labels, self.options.map_encoding)
        with torch.no_grad():
            judged = torch.stack([self.critic.judge(images, maps)[0] for maps in (true, predicted)])
        genuine = torch.zeros_like(judged, dtype=torch.bool)
        genuine[0] = True
        self.critic.measure(judged, genuine)

    def remarks(self) -> tuple[str, ...]:
        """A warning where D knows nothing."""
        return self.critic.remark()

    def judge(self) -> Discriminator | None:
        """D, where it has learnt which pixels are right."""
        net: Discriminator = self.critic.net.module
        return net if self.options.target == "correctness" else None


def _stated(labels: Tensor, judged: Tensor) -> Tensor:
    """(n, 1, h', w') 1 where the crop's labels say anything, in the size of the logits."""
    known = (labels != IGNORE).float()[:, None]
    return torch.nn.functional.interpolate(known, size=judged.shape[-2:], mode="nearest")
