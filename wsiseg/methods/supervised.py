"""Supervised learning: cross-entropy and Dice on the outlined slides, AdamW, averaged weights.

    images, labels  ──augment──►  generator  ──►  cross-entropy + dice · Dice  ──►  AdamW, falling rate
                                      │
                                      └──average──►  predictor

Annotations made for other purposes are often incomplete: tissue counts as background although it holds the very thing.
With `forgive` set, pixels of background, away from any outline, on which the averaged network is surer of an object
than that, take no part in the loss (in the spirit of the noisy-label bootstrapping of Reed et al. 2015).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsiseg.classes import ClassMap
from wsiseg.data.augment import Augmenter
from wsiseg.losses.segmentation import cross_entropy, soft_dice
from wsiseg.methods.method import Batch, rate
from wsiseg.nets.ema import Average
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Recipe

FORGIVE_MARGIN_UM = 30.0  # a border drawn a little too tight is no missed object


class Supervised:
    """Learns from labelled batches only; see the module's docstring."""

    def __init__(self, recipe: Recipe, classes: ClassMap, fabric: Any, generator: SegmentationNet) -> None:
        self.options, self.fabric = recipe.method, fabric
        self.architecture = generator.architecture
        self.margin = round(FORGIVE_MARGIN_UM / recipe.data.mpp)
        cut = recipe.augment
        self.augment = Augmenter(recipe.training.crop, cut.rotate, cut.scale, cut.stain, cut.brightness)
        generator = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(self._groups(generator), weight_decay=self.options.weight_decay)
        self.net, self.optimiser = fabric.setup(generator, optimiser)
        self.average = Average(self.net.module, self.options.ema)

    def _groups(self, generator: SegmentationNet) -> list[dict[str, Any]]:
        encoder = list(generator.net.encoder.parameters())
        known = {id(p) for p in encoder}
        head = [p for p in generator.parameters() if id(p) not in known]
        base = self.options.learning_rate
        slow = base * self.options.encoder_rate
        return [{"params": head, "lr": base, "top": base}, {"params": encoder, "lr": slow, "top": slow}]

    def update(self, labelled: Batch, unlabelled: Batch | None, progress: float) -> dict[str, float]:
        """One step; `unlabelled` is not used. Returns the losses, the learning rate and the share forgiven."""
        self.set_rate(progress)
        images, labels = self.augment(*labelled)
        self.net.train()
        loss, figures = self.labelled_loss(self.net(images), images, labels, progress)
        self.learn(loss)
        return {"loss": loss.item(), **figures}

    def set_rate(self, progress: float) -> None:
        """The learning rate of this moment."""
        factor = rate(progress, self.options.schedule, self.options.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["top"] * factor

    def labelled_loss(
        self, logits: Tensor, images: Tensor, labels: Tensor, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy and Dice on outlined crops, and the figures to log."""
        weight, forgiven = self._weight(images, labels, progress)
        ce, dice = cross_entropy(logits, labels, weight), soft_dice(logits, labels, weight)
        figures = {"cross_entropy": ce.item(), "dice_loss": dice.item(), "forgiven": forgiven}
        figures["learning_rate"] = self.optimiser.param_groups[0]["lr"]
        return ce + self.options.dice * dice, figures

    def learn(self, loss: Tensor) -> None:
        """One step of the generator, and of its average."""
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        self.average.update(self.net.module)

    @torch.no_grad()
    def _weight(self, images: Tensor, labels: Tensor, progress: float) -> tuple[Tensor | None, float]:
        """Weight of each pixel (None: all alike) and the share of pixels forgiven."""
        if not self.options.forgive or progress < self.options.forgive_after:
            return None, 0.0
        sure = 1 - self.probabilities(self.average.net, images)[:, 0] > self.options.forgive
        outlined = (labels > 0).float()[:, None]
        near = F.max_pool2d(outlined, 2 * self.margin + 1, stride=1, padding=self.margin)[:, 0] > 0
        forgiven = sure & (labels == 0) & ~near
        return (~forgiven).float(), forgiven.float().mean().item()

    @torch.no_grad()
    def probabilities(self, net: nn.Module, images: Tensor) -> Tensor:
        """(n, classes, h, w) float32 of a network that is not being trained, for (n, 3, h, w) images."""
        with self.fabric.autocast():
            logits: Tensor = net(images)
        return logits.float().softmax(1)

    def predictor(self) -> nn.Module:
        """The averaged network."""
        return self.average.net

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, and how often the average was updated."""
        return {
            "net": self.net.module.state_dict(),
            "average": self.average.net.state_dict(),
            "updates": self.average.updates,
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.net.module.load_state_dict(state["net"])
        self.average.net.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimiser.load_state_dict(state["optimiser"])
