"""A segmentation network that learns, and its loss on labelled crops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wsiseg.losses.focal import focal
from wsiseg.losses.locally_adaptive import locally_adaptive
from wsiseg.losses.segmentation import cross_entropy, soft_dice
from wsiseg.methods.context import Context
from wsiseg.methods.parts.teachers import probabilities
from wsiseg.methods.schedule import lr_factor
from wsiseg.nets.ema import EMA
from wsiseg.nets.segmentation import SegmentationNet

NOISY_MARGIN_UM = 30.0  # a border drawn a little too tight is no missed object


class Student:
    """A network with its AdamW, its learning rate and its EMA.

    Attributes:
        net: the network as Fabric wraps it; `net.module` is the `SegmentationNet`
        ema: its exponential moving average
    """

    def __init__(self, ctx: Context, network: SegmentationNet | None = None) -> None:
        self.options, self.fabric = ctx.options, ctx.fabric
        network = ctx.new_network() if network is None else network
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(parameter_groups(network, ctx.options))
        self.net, self.optimiser = ctx.fabric.setup(network, optimiser)
        self.ema = EMA(self.net.module, ctx.options.ema)

    def set_lr(self, progress: float) -> None:
        """The learning rate of this moment."""
        factor = lr_factor(progress, self.options.lr_schedule, self.options.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["highest"] * factor

    @property
    def lr(self) -> float:
        """The learning rate of all but the encoder."""
        lr: float = self.optimiser.param_groups[0]["lr"]
        return lr

    def learn(self, loss: Tensor) -> None:
        """One step of the network and of its EMA."""
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        self.ema.update(self.net.module)

    def restart(self, weights: dict[str, Tensor]) -> None:
        """Begin again from these weights, with nothing remembered by optimiser or EMA."""
        self.net.module.load_state_dict(weights)
        self.optimiser.state.clear()
        self.ema.updates = 0

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser and EMA."""
        return {
            "net": self.net.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.net.module.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.ema.load_state_dict(state["ema"])


def parameter_groups(network: SegmentationNet, options: Any) -> list[dict[str, Any]]:
    """For AdamW: the encoder slower than the rest, norms and biases without weight decay."""
    encoder = {id(p) for p in network.net.encoder.parameters()}
    groups = []
    for slow in (False, True):
        lr = options.learning_rate * (options.encoder_lr_factor if slow else 1.0)
        for decayed in (True, False):
            chosen = [p for p in network.parameters() if (id(p) in encoder) == slow and (p.ndim > 1) == decayed]
            decay = options.weight_decay if decayed else 0.0
            groups.append({"params": chosen, "lr": lr, "highest": lr, "weight_decay": decay})
    return groups


class LabelledLoss:
    """Cross-entropy, or what `loss` names, + dice · Dice on labelled crops, with pixels of probably missed objects left out.

    Annotations made for other purposes are often incomplete. With `noisy_label_threshold`, background pixels away from
    any annotation on which the EMA gives all objects together a higher probability than that have weight 0 (in the
    spirit of the bootstrapping of Reed et al. 2015).
    """

    def __init__(self, ctx: Context, ema: EMA) -> None:
        self.options, self.fabric, self.ema = ctx.options, ctx.fabric, ema
        self.margin = round(NOISY_MARGIN_UM / ctx.mpp)

    def __call__(
        self, logits: Tensor, images: Tensor, labels: Tensor, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss, and its parts to log.

        Args:
            logits: (n, classes, h, w) of the student
            images: (n, 3, h, w) that it saw
            labels: (n, h, w) int64
            progress: of the run
        """
        weight = self._weight(images, labels, progress)
        name, per_pixel = self._per_pixel(logits, labels, weight)
        dice = soft_dice(logits, labels, weight)
        metrics = {name: per_pixel.item(), "dice_loss": dice.item()}
        if weight is not None:
            metrics["noisy_labels"] = 1 - weight.mean().item()
        return per_pixel + self.options.dice * dice, metrics

    def _per_pixel(self, logits: Tensor, labels: Tensor, weight: Tensor | None) -> tuple[str, Tensor]:
        """The loss beside Dice, and its name in the log."""
        o = self.options
        match o.loss:
            case "lal+dice":
                loss = locally_adaptive(logits, labels, weight, window=o.lal_window, power=o.lal_power)
                return "locally_adaptive", loss
            case "focal+dice":
                return "focal", focal(logits, labels, weight, gamma=o.focal_gamma)
            case _:
                return "cross_entropy", cross_entropy(logits, labels, weight)

    @torch.no_grad()
    def _weight(self, images: Tensor, labels: Tensor, progress: float) -> Tensor | None:
        """(n, h, w) weight of each pixel, 0 or 1; None: all alike."""
        if not self.options.noisy_label_threshold or progress < self.options.noisy_label_warmup:
            return None
        confident = 1 - probabilities(self.ema.net, images, self.fabric)[:, 0] > self.options.noisy_label_threshold
        annotated = (labels > 0).float()[:, None]
        near = F.max_pool2d(annotated, 2 * self.margin + 1, stride=1, padding=self.margin)[:, 0] > 0
        return (~(confident & (labels == 0) & ~near)).float()
