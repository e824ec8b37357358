"""A discriminator with its optimiser, and an account of what it knows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsiseg.losses.adversarial import gradient_penalty
from wsiseg.methods.context import Context
from wsiseg.nets.discriminators import DISCRIMINATORS

MEMORY = 0.95  # of the running means
SAMPLE = 16384  # logits that an AUC is computed from
ENOUGH = 20  # measurements before a verdict
GUESSING = 0.55  # AUC below which it knows nothing
COUNTED = ("auc", "measured", "mean_loss", "steps")


class Critic:
    """Judges label maps beside their images.

    Attributes:
        net: the discriminator as Fabric wraps it
        auc: running mean of the area under the ROC curve on crops that it has not learnt from; 0.5 is guessing
        measured: how many batches went into it
        mean_loss: running mean of its loss; it is paused while that is below `pause_below`
        steps: how often it was to learn
    """

    def __init__(self, ctx: Context) -> None:
        self.options = o = ctx.options
        net = DISCRIMINATORS[o.discriminator](len(ctx.classes), o.discriminator_width)
        optimiser = torch.optim.Adam(net.parameters(), lr=o.discriminator_learning_rate, betas=(0.5, 0.999))
        self.fabric = ctx.fabric
        self.net, self.optimiser = ctx.fabric.setup(net, optimiser)
        self.auc, self.measured = 0.5, 0
        self.mean_loss, self.steps = math.log(2), 0

    def __call__(self, images: Tensor, maps: Tensor) -> Tensor:
        """Logits (n, 1, h', w') for the critic's own step; the other methods are for the segmentation network's."""
        logits: Tensor = self.net(images, maps)[0]
        return logits.float()

    def judge(self, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features, with gradients into the maps and none into the critic."""
        # Without Fabric's wrapper: no process waits for gradients of the critic here.
        with frozen(self.net.module), self.fabric.autocast():
            logits, features = self.net.module(images, maps)
        return logits.float(), features.float()

    @torch.no_grad()
    def score(self, images: Tensor, maps: Tensor) -> Tensor:
        """(n, h, w) logit of each pixel, interpolated where there is one for each patch; no gradients."""
        logits, _ = self.judge(images, maps)
        return pixelwise(logits, maps)

    def learn(self, loss: Tensor, images: Tensor, maps: Tensor) -> dict[str, float]:
        """One step of the critic, unless it is paused. Gives metrics to log.

        Args:
            loss: of its logits
            images, maps: what should be judged high, for the gradient penalty
        """
        o = self.options
        metrics = {"discriminator": loss.item(), "discriminator_auc": self.auc}
        self.steps += 1
        if o.r1 and self.steps % o.r1_every == 0:
            images, maps = images.detach().requires_grad_(), maps.detach().requires_grad_()
            penalty = gradient_penalty(self(images, maps), images, maps)
            loss, metrics["r1"] = loss + o.r1 * o.r1_every * penalty, penalty.item()
        self.mean_loss = MEMORY * self.mean_loss + (1 - MEMORY) * metrics["discriminator"]
        paused = self.mean_loss < o.pause_below
        if not paused:
            self.optimiser.zero_grad(set_to_none=True)
            self.fabric.backward(loss)
            self.optimiser.step()
        return metrics | {"discriminator_paused": float(paused)}

    def measure(self, score: Tensor, positive: Tensor, counted: Tensor | None = None) -> None:
        """Note how well scores tell what should be judged high from the rest, before the critic learns from it.

        Args:
            score: logits of any shape
            positive: bool, what should be judged high
            counted: bool, what takes part; None: all
        """
        counted = torch.ones_like(positive) if counted is None else counted
        now = auc(score.detach(), positive & counted, ~positive & counted)
        if math.isfinite(now):
            self.auc = now if not self.measured else MEMORY * self.auc + (1 - MEMORY) * now
            self.measured += 1

    def remark(self) -> tuple[str, ...]:
        """A warning if it has learnt nothing."""
        if self.measured < ENOUGH or self.auc >= GUESSING:
            return ()
        return (
            f"The discriminator has learnt nothing (AUC {self.auc:.2f} on crops new to it, 0.5 is guessing), so it "
            "taught nothing: raise method.discriminator_learning_rate or discriminator_width, or train longer.",
        )

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser and running means."""
        return {
            "net": self.net.module.state_dict(), "optimiser": self.optimiser.state_dict(),
            **{name: getattr(self, name) for name in COUNTED},
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.net.module.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in COUNTED:
            setattr(self, name, state[name])


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Gradients flow through the network but not into it, and its buffers (spectral norms) stay as they are."""
    training = net.training
    net.requires_grad_(False).eval()
    try:
        yield
    finally:
        net.requires_grad_(True).train(training)


def pixelwise(logits: Tensor, like: Tensor) -> Tensor:
    """Logits (n, 1, h', w') as (n, h, w), with the height and width of another tensor; no gradients."""
    return F.interpolate(logits.detach(), size=like.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def auc(score: Tensor, high: Tensor, low: Tensor) -> float:
    """Chance that a score of `high` is above one of `low` (Mann-Whitney, ties counted half); NaN without one of each.

    From a sample, drawn evenly. Every shape is known beforehand, so that no device waits for another.

    Args:
        score: any shape
        high, low: bool, of the same shape
    """
    drawn = torch.randint(score.numel(), (SAMPLE,)).to(score.device)
    values, high, low = score.flatten()[drawn].double(), high.flatten()[drawn].double(), low.flatten()[drawn].double()
    ordered, order = values.sort()
    before = torch.cat([low.new_zeros(1), low[order].cumsum(0)])
    below = before[torch.searchsorted(ordered, values)] + before[torch.searchsorted(ordered, values, right=True)]
    return ((high * below).sum() / (2 * high.sum() * low.sum())).item()
