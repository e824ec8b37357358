"""Which pseudo-labels count. All of them give (n, h, w) int64 labels that are `UNSURE` where nothing is to be learnt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wsiseg.methods.context import Context
from wsiseg.methods.parts.bank import ClassBank

UNSURE = -1
MOST = 100_000  # pixels that a quantile is computed from
ADAPTATION = 0.95  # memory of adaptive thresholds; 0.999 in FreeMatch, whose runs are a thousand times as long


def confident(probability: Tensor, threshold: Tensor) -> Tensor:
    """The most probable class where its probability reaches the class's threshold (Sohn et al. 2020).

    Args:
        probability: (n, classes, h, w)
        threshold: (classes,)
    """
    best, label = probability.max(1)
    return torch.where(best >= threshold.to(best)[label], label, torch.full_like(label, UNSURE))


def banded(probability: Tensor, low: float, high: float) -> Tensor:
    """The decision of a prediction, with a band around its threshold in which nothing is decided.

    Background where all objects together have a probability below `low`, the most probable object above `high`.

    Args:
        probability: (n, classes, h, w), background first
        low, high: 0 < low <= high < 1
    """
    objects = 1 - probability[:, 0]
    label = torch.where(objects < low, 0, probability[:, 1:].argmax(1) + 1)
    return torch.where((objects < low) | (objects > high), label, torch.full_like(label, UNSURE))


class Confidence:
    """The gate that the recipe chooses: `adaptive_threshold` or `object_band`, otherwise `confidence_threshold`."""

    def __init__(self, ctx: Context) -> None:
        self.band, self.adaptive = ctx.options.object_band, ctx.options.adaptive_threshold
        self.threshold = ctx.per_class("confidence_threshold")
        self.bank = ClassBank(len(ctx.classes), ADAPTATION)

    def __call__(self, probability: Tensor) -> Tensor:
        """(n, h, w) labels from (n, classes, h, w) probabilities."""
        if self.adaptive:
            self.bank.watch(probability)
            return confident(probability, self.bank.thresholds())
        return confident(probability, self.threshold) if self.band is None else banded(probability, *self.band)

    def state_dict(self) -> dict[str, Any]:
        """What adaptive thresholds follow from."""
        return self.bank.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.bank.load_state_dict(state)


class Quantile:
    """Of each class the pixels of highest score: a fraction of all pixels seen, by a running quantile.

    Args:
        classes: how many
        fraction: of the pixels of each class that count
        memory: of the running quantile
    """

    def __init__(self, classes: int, fraction: float, memory: float = 0.9) -> None:
        self.fraction, self.memory = fraction, memory
        self.cut = torch.full((classes,), -torch.inf)  # of a class that was never predicted: all pass

    def __call__(self, label: Tensor, score: Tensor) -> Tensor:
        """Labels (n, h, w), UNSURE where the score (n, h, w) is below the quantile of the label's class."""
        step = max(1, score.numel() // MOST)
        known, drawn = label.flatten()[::step], score.detach().float().flatten()[::step]
        for c in range(len(self.cut)):
            now = torch.where(known == c, drawn, torch.nan).nanquantile(1 - self.fraction).cpu()
            before = self.cut[c]
            mean = torch.where(before.isinf(), now, self.memory * before + (1 - self.memory) * now)
            self.cut[c] = torch.where(now.isnan(), before, mean)
        cut = self.cut.to(score)[label.clamp_min(0)]
        return torch.where(score >= cut, label, torch.full_like(label, UNSURE))

    def state_dict(self) -> dict[str, Any]:
        """The running quantiles."""
        return {"cut": self.cut.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.cut = state["cut"].clone()
