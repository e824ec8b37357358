"""What every learning method is to the loop: it owns its networks, optimisers and phases; the loop owns time."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wsiseg.classes import ClassMap
from wsiseg.errors import RecipeError
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.recipe import Recipe

Batch = tuple[Tensor, Tensor]  # images (n, side, side, 3) uint8, labels (n, side, side) uint8; not yet augmented


class Method(Protocol):
    """A way of learning."""

    architecture: Architecture

    def update(self, labelled: Batch, unlabelled: Batch | None, progress: float) -> dict[str, float]:
        """Learn from one batch; progress goes from 0 to 1 over the run. Returns the figures to log."""
        ...

    def predictor(self) -> nn.Module:
        """The network that would predict now, in eval mode."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors and plain values, nested."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        ...


class MethodClass(Protocol):
    """How a method is made: from a recipe and a fresh generator, on Fabric's device and precision."""

    def __call__(self, recipe: Recipe, classes: ClassMap, fabric: Any, generator: SegmentationNet) -> Method: ...


def rate(progress: float, schedule: str, warmup: float) -> float:
    """Factor on the learning rate: a straight rise over `warmup`, then a cosine or (1 - t)^0.9 (poly) fall to 0."""
    if progress < warmup:
        return progress / warmup
    t = (progress - warmup) / (1 - warmup)
    return 0.5 * (1 + math.cos(math.pi * t)) if schedule == "cosine" else (1 - t) ** 0.9


def per_class(values: tuple[float, ...], classes: ClassMap, key: str) -> Tensor:
    """(classes,) from one number for all or one for each class; RecipeError names the recipe's key otherwise."""
    if len(values) not in (1, len(classes)):
        raise RecipeError(
            f"{key} has {len(values)} numbers: give one for all classes, or {len(classes)} in their order."
        )
    return torch.tensor(values).expand(len(classes)).clone()


def rise(progress: float, start: float, ramp: float) -> float:
    """Factor on the weight of unlabelled slides: 0 until `start`, then exp(-5 (1 - t)²) up to 1 (Laine & Aila 2017)."""
    if progress < start:
        return 0.0
    t = min(1.0, (progress - start) / ramp) if ramp else 1.0
    return math.exp(-5 * (1 - t) ** 2)
