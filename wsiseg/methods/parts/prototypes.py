"""Prototypes: the mean features of annotated pixels of each class, over the run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MEMORY = 0.99  # of the class means, in steps


class ClassMeans:
    """Running means of the features of annotated pixels, by class (the prototypes of ProDA, Zhang et al. 2021).

    Attributes:
        means: (classes, channels) float32 on the CPU
        seen: (classes,) bool
    """

    def __init__(self, classes: int, channels: int) -> None:
        self.means, self.seen = torch.zeros(classes, channels), torch.zeros(classes, dtype=torch.bool)

    def watch(self, features: Tensor, labels: Tensor) -> None:
        """Add labelled crops: features (n, channels, h / 4, w / 4), labels (n, h, w)."""
        small = shrunk(labels, features)
        where = torch.stack([small == c for c in range(len(self.means))]).to(features)  # (classes, n, h, w)
        pixels = where.sum((1, 2, 3))
        now = (torch.einsum("knhw,nchw->kc", where, features) / pixels.clamp_min(1)[:, None]).cpu()
        present = (pixels > 0).cpu()
        moved = torch.where(self.seen[:, None], MEMORY * self.means + (1 - MEMORY) * now, now)
        self.means = torch.where(present[:, None], moved, self.means)
        self.seen = self.seen | present

    def rectified(self, probability: Tensor, features: Tensor, temperature: float) -> Tensor:
        """Probabilities times softmax(- distance to the class's mean / temperature), normalised again.

        A class that no labelled crop has held yet is as far away as the nearest one.

        Args:
            probability: (n, classes, h, w)
            features: (n, channels, h / 4, w / 4)
            temperature: τ
        """
        flat = features.movedim(1, -1).flatten(0, 2)
        away = torch.cdist(flat, self.means.to(flat))
        seen = self.seen.to(away.device)
        nearest = away.masked_fill(~seen, torch.inf).amin(1, keepdim=True)
        away = torch.where(seen, away, nearest.where(nearest.isfinite(), torch.zeros_like(nearest)))
        n, _, h, w = features.shape
        weight = (-away / temperature).softmax(1).view(n, h, w, -1).movedim(-1, 1)
        weight = F.interpolate(weight, probability.shape[-2:], mode="bilinear", align_corners=False)
        changed = probability * weight
        return changed / changed.sum(1, keepdim=True).clamp_min(1e-12)

    def state_dict(self) -> dict[str, Any]:
        """The means, and which of them are of something."""
        return {"means": self.means.clone(), "seen": self.seen.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.means, self.seen = state["means"].clone(), state["seen"].clone()


def shrunk(labels: Tensor, features: Tensor) -> Tensor:
    """Labels (n, h, w) int64 at the size of features (n, channels, h / 4, w / 4), from the nearest pixels."""
    return F.interpolate(labels[:, None].float(), features.shape[-2:], mode="nearest")[:, 0].long()
