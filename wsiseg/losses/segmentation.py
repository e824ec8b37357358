"""Supervised losses on label maps, in which some pixels are ignored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wsiseg.classes import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the pixels that carry a label; 0 where none does.

    Args:
        logits: (n, classes, h, w)
        labels: (n, h, w) int64, `IGNORE` for "no statement"
        weight: (n, h, w) weight of each pixel, or None for equal ones
    """
    loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    counted = (labels != IGNORE).float() if weight is None else weight * (labels != IGNORE)
    return (loss * counted).sum() / counted.sum().clamp_min(1.0)


def soft_dice(logits: Tensor, labels: Tensor, weight: Tensor | None = None, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, averaged over the classes that occur in the batch.

    Milletari et al. 2016 (V-Net), squared denominator left out, pooled over the batch so that a crop without a class
    does not count as a perfect one.

    Args:
        logits: (n, classes, h, w)
        labels: (n, h, w) int64, `IGNORE` for "no statement"
        weight: (n, h, w) weight of each pixel, or None for equal ones
        smooth: pixels added to both sides of the fraction
    """
    counted = (labels != IGNORE).float() if weight is None else weight * (labels != IGNORE)
    probability = logits.float().softmax(1) * counted[:, None]
    known = labels.where(labels != IGNORE, torch.zeros_like(labels))
    truth = F.one_hot(known, logits.shape[1]).movedim(-1, 1) * counted[:, None]
    both = (probability * truth).sum((0, 2, 3))
    total = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    dice = (2 * both + smooth) / (total + smooth)
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)


def trusted_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy against pseudo-labels, summed over the trusted pixels and divided by all (Sohn et al. 2020).

    Dividing by all makes a batch with few trusted pixels teach little, rather than those few pixels teach much.

    Args:
        logits: (n, classes, h, w)
        targets: (n, h, w) int64, below 0 where there is no trusted label
    """
    loss = F.cross_entropy(logits.float(), targets.clamp_min(0), reduction="none")
    return (loss * (targets >= 0)).mean()
