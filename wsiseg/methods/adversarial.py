"""The semi-supervised GAN: a discriminator that sees image and label map together teaches from slides without outlines.

    labelled    image ─► G ─► map ──┬── cross-entropy + Dice against the outlines
                                    └── λ1 · game(D(image, map))
    unlabelled  image ─► G ─► map ───── λ2 · game(D(image, map))        [+ self-taught, + feature matching]
    D           (image, true map) against (image, predicted map), labelled slides only

Source: Lalwani, "DeepLab with adversarial loss for semi-supervised semantic segmentation of medical images". It gives
no weights, rates or split; the weights of Hung et al. 2018 (λ1 0.01, λ2 0.001, self-taught 0.1 with threshold 0.2) are
a starting point. `schedule = "paper"` has its two phases: first labelled slides with D, then unlabelled ones with D
frozen. `interleaved` does both in each step and keeps D learning from the labelled slides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wsiseg.classes import IGNORE, ClassMap
from wsiseg.losses.adversarial import (
    correctness_loss,
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
    self_taught,
)
from wsiseg.losses.encoding import encode, shown
from wsiseg.methods.method import Batch, rise
from wsiseg.methods.probe import sharpness_auc
from wsiseg.methods.supervised import Supervised
from wsiseg.nets.discriminators import DISCRIMINATORS
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Recipe

PAPER_PHASE_TWO = 0.5  # share of the steps after which `paper` turns to unlabelled slides
MEMORY = 0.95  # of the running mean of D's loss


class Adversarial(Supervised):
    """Learns from labelled and unlabelled batches; see the module's docstring."""

    def __init__(self, recipe: Recipe, classes: ClassMap, fabric: Any, generator: SegmentationNet) -> None:
        super().__init__(recipe, classes, fabric, generator)
        self.gan = recipe.method.adversarial
        discriminator = DISCRIMINATORS[self.gan.discriminator](len(classes), self.gan.width)
        optimiser = torch.optim.Adam(discriminator.parameters(), lr=self.gan.learning_rate, betas=(0.5, 0.999))
        self.discriminator, self.discriminator_optimiser = fabric.setup(discriminator, optimiser)
        self.discriminator_loss_mean, self.updates = math.log(2), 0

    def update(self, labelled: Batch, unlabelled: Batch | None, progress: float) -> dict[str, float]:
        """One step of G, then one of D. Returns all losses, and whether D rested."""
        gan = self.gan
        self.set_rate(progress)
        self.net.train()
        self.updates += 1
        phase_two = gan.schedule == "paper" and progress >= PAPER_PHASE_TWO and unlabelled is not None
        images, labels = self.augment(*labelled)
        if phase_two:
            assert unlabelled is not None
            loss, figures = self._unlabelled_loss(unlabelled, None, gan.unlabelled_weight)
            self.learn(loss)
            return {"loss": loss.item(), **figures}

        logits = self.net(images)
        loss, figures = self.labelled_loss(logits, images, labels, progress)
        playing = progress >= gan.start
        if playing:
            true, predicted = encode(logits, labels, gan.encoding)
            judged, _ = self._judge(images, predicted)
            features = self._judge(images, true)[1] if gan.feature_matching else None
            adversarial = generator_loss(judged, gan.game, _stated(labels, judged))
            loss = loss + gan.labelled_weight * adversarial
            figures["adversarial_labelled"] = adversarial.item()
            weight = self._unlabelled_weight(progress)
            if unlabelled is not None and weight > 0:
                extra, more = self._unlabelled_loss(unlabelled, features, weight)
                loss, figures = loss + extra, figures | more
        self.learn(loss)
        if playing:
            figures |= self._update_discriminator(images, labels, true.detach(), predicted.detach())
        return {"loss": loss.item(), **figures}

    def _unlabelled_weight(self, progress: float) -> float:
        """λ2 at this moment; the schedule of the paper has its own phase for it."""
        gan = self.gan
        return 0.0 if gan.schedule == "paper" else gan.unlabelled_weight * rise(progress, gan.unlabelled_from, gan.ramp)

    def _unlabelled_loss(
        self, unlabelled: Batch, features: Tensor | None, weight: float
    ) -> tuple[Tensor, dict[str, float]]:
        """G's loss on slides without outlines; self-taught and feature losses rise with the adversarial weight."""
        gan = self.gan
        images, _ = self.augment(*unlabelled)
        logits = self.net(images)
        judged, seen = self._judge(images, shown(logits, gan.encoding))
        adversarial = generator_loss(judged, gan.game)
        loss, figures = weight * adversarial, {"adversarial_unlabelled": adversarial.item()}
        rise = weight / gan.unlabelled_weight if gan.unlabelled_weight else 1.0
        if gan.self_taught:
            belief = nn.functional.interpolate(judged.sigmoid(), size=logits.shape[-2:], mode="nearest")
            taught = self_taught(logits, belief, gan.believe)
            loss, figures["self_taught"] = loss + rise * gan.self_taught * taught, taught.item()
        if features is not None:
            matching = feature_matching(features, seen)
            loss, figures["feature_matching"] = loss + rise * gan.feature_matching * matching, matching.item()
        return loss, figures

    def _judge(self, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits and features for G's step. Without Fabric's wrapper: no process waits for gradients of D here."""
        with frozen(self.discriminator.module), self.fabric.autocast():
            logits, features = self.discriminator.module(images, maps)
        return logits.float(), features.float()

    def _update_discriminator(
        self, images: Tensor, labels: Tensor, true: Tensor, predicted: Tensor
    ) -> dict[str, float]:
        """D's step, on the maps that G made for its own: G is not run again."""
        gan = self.gan
        penalise = gan.r1 > 0 and self.updates % gan.r1_every == 0
        if penalise:
            images, true = images.detach().requires_grad_(), true.requires_grad_()
        if gan.target == "correctness":
            real, _ = self.discriminator(images, predicted)
            loss = correctness_loss(real, predicted.argmax(1), labels)
        else:
            # One pass for both: D has no batch statistics that could tell them apart.
            said, _ = self.discriminator(torch.cat([images, images]), torch.cat([predicted, true]))
            pretended, real = said.chunk(2)
            loss = discriminator_loss(real, pretended, gan.game)
        figures = {"discriminator": loss.item()}
        if penalise and gan.target == "source":
            penalty = gradient_penalty(real, images, true)
            loss, figures["r1"] = loss + gan.r1 * gan.r1_every * penalty, penalty.item()
        self.discriminator_loss_mean = MEMORY * self.discriminator_loss_mean + (1 - MEMORY) * figures["discriminator"]
        resting = self.discriminator_loss_mean < gan.pause_below
        if not resting:
            self.discriminator_optimiser.zero_grad(set_to_none=True)
            self.fabric.backward(loss)
            self.discriminator_optimiser.step()
        figures["discriminator_paused"] = float(resting)
        if self.updates % gan.probe_every == 0:
            figures["probe_auc"] = sharpness_auc(true, predicted)
        return figures

    def state_dict(self) -> dict[str, Any]:
        """That of the supervised part, and D with its optimiser and running loss."""
        return super().state_dict() | {
            "discriminator": self.discriminator.module.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
            "discriminator_loss_mean": self.discriminator_loss_mean,
            "steps": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.discriminator.module.load_state_dict(state["discriminator"])
        self.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
        self.discriminator_loss_mean, self.updates = state["discriminator_loss_mean"], state["steps"]


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Gradients flow through the network but not into it, and its buffers (spectral norms) stay as they are."""
    training = net.training
    net.requires_grad_(False).eval()
    try:
        yield
    finally:
        net.requires_grad_(True).train(training)


def _stated(labels: Tensor, judged: Tensor) -> Tensor:
    """(n, 1, h', w') 1 where the crop's labels say anything, in the size of the logits."""
    known = (labels != IGNORE).float()[:, None]
    return nn.functional.interpolate(known, size=judged.shape[-2:], mode="nearest")
