"""Running statistics of each class over a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wsiseg.classes import IGNORE

KEPT = ("pixels", "predicted", "confidence")


class ClassBank:
    """Pixels of each class in the labels so far, and running means of the probabilities that a network gives.

    Attributes:
        pixels: (classes,) float64, labelled pixels of each class
        predicted: (classes,) float64, running mean of the probabilities that a teacher gives; 0 before the first
        confidence: (classes + 1,) float64, running mean of the probability of the class that a pixel has, over the pixels
            of each class, and over all pixels in the last place; 1 / classes before the first. With `watch` a pixel has
            the class that a teacher predicts (Wang et al. 2023), with `assess` that of its label (Hu et al. 2021)
    """

    def __init__(self, classes: int, memory: float = 0.99) -> None:
        self.memory = memory
        self.pixels = torch.zeros(classes, dtype=torch.float64)
        self.predicted = torch.zeros(classes, dtype=torch.float64)
        self.confidence = torch.full((classes + 1,), 1 / classes, dtype=torch.float64)

    def count(self, labels: Tensor) -> None:
        """Add labelled crops, (n, h, w); IGNORE is no class."""
        self.pixels += torch.stack([(labels == c).sum() for c in range(len(self.pixels))]).cpu()

    def watch(self, probability: Tensor) -> None:
        """Add a teacher's probabilities, (n, classes, h, w)."""
        now = probability.mean((0, 2, 3)).double().cpu()
        moved = self.memory * self.predicted + (1 - self.memory) * now
        self.predicted = torch.where((self.predicted == 0).all(), now, moved)
        self._remember(*probability.max(1))

    def assess(self, probability: Tensor, labels: Tensor) -> None:
        """Add what a student says of labelled crops: probabilities (n, classes, h, w) and labels (n, h, w)."""
        known = torch.where(labels == IGNORE, -1, labels)
        self._remember(probability.gather(1, known.clamp_min(0)[:, None])[:, 0], known)

    def _remember(self, value: Tensor, label: Tensor) -> None:
        where = [label == c for c in range(len(self.confidence) - 1)] + [label >= 0]
        pixels = torch.stack([w.sum() for w in where]).cpu()
        mean = torch.stack([(value * w).sum() for w in where]).double().cpu() / pixels.clamp_min(1)
        moved = self.memory * self.confidence + (1 - self.memory) * mean
        self.confidence = torch.where(pixels > 0, moved, self.confidence)

    def thresholds(self) -> Tensor:
        """(classes,) least probability of a pseudo-label: that of all pixels, lower for classes that are learnt worse.

        FreeMatch (Wang et al. 2023) scales its global threshold by the mean probability of each class over that of the
        first one. In a map that is the area of the class, so here it is the mean confidence where the class is predicted.
        """
        each, of_all = self.confidence[:-1], self.confidence[-1]
        return (each / each.max() * of_all).float()

    def chances(self, power: float = 1.0) -> Tensor:
        """(classes,) softmax of (1 - confidence)^power: the worse a class is learnt, the higher (Hu et al. 2021)."""
        return ((1 - self.confidence[:-1]) ** power).softmax(0)

    def needs(self, power: float) -> Tensor:
        """(classes,) (1 - confidence)^power over that of the class which is learnt worst: 1 for this one (Hu et al. 2021)."""
        missing = 1 - self.confidence[:-1]
        return (missing / missing.max().clamp_min(1e-6)) ** power

    def frequency(self) -> Tensor:
        """(classes,) fraction of the labelled pixels."""
        return self.pixels / self.pixels.sum().clamp_min(1)

    def keep_rates(self, alpha: float) -> Tensor:
        """(classes,) (N_{L+1-l} / N_1)^alpha for the l-th most frequent of the L classes seen so far (Wei et al. 2021).

        The rarest class has 1, and so has a class that no labelled crop has held yet.
        """
        seen, order = int((self.pixels > 0).sum().item()), self.pixels.argsort(descending=True, stable=True)
        rates = torch.ones_like(self.pixels)
        rates[order[:seen]] = (self.pixels[order[:seen]].flip(0) / self.pixels.max().clamp_min(1)) ** alpha
        return rates

    def aligned(self, probability: Tensor, power: float) -> Tensor:
        """Probabilities whose classes are as frequent as in the labels to this power (Berthelot et al. 2020)."""
        wanted = self.frequency() ** power
        factor = (wanted / wanted.sum()) / self.predicted.clamp_min(1e-6)
        changed = probability * factor.to(probability)[:, None, None]
        return changed / changed.sum(1, keepdim=True).clamp_min(1e-12)

    def state_dict(self) -> dict[str, Any]:
        """Counts and means."""
        return {name: getattr(self, name).clone() for name in KEPT}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name in KEPT:
            setattr(self, name, state[name].clone())
