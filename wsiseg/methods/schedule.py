"""Factors that depend only on the progress of a run, from 0 to 1."""

from __future__ import annotations

import math


def lr_factor(progress: float, schedule: str, warmup: float) -> float:
    """Factor on the learning rate: a straight rise over `warmup`, then a cosine or (1 - t)^0.9 (poly) fall to 0."""
    if progress < warmup:
        return progress / warmup
    t = (progress - warmup) / (1 - warmup)
    return 0.5 * (1 + math.cos(math.pi * t)) if schedule == "cosine" else (1 - t) ** 0.9


def rampup(progress: float, start: float, length: float) -> float:
    """Factor on the weight of unlabelled crops: 0 until `start`, then exp(-5 (1 - t)²) up to 1 (Laine & Aila 2017)."""
    if progress < start:
        return 0.0
    t = min(1.0, (progress - start) / length) if length else 1.0
    return math.exp(-5 * (1 - t) ** 2)
