"""The focal loss: pixels that are easy count less.

Source: Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", ICCV 2017,
https://arxiv.org/abs/1708.02002, for several classes and without the factor of each class.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from wsiseg.classes import IGNORE


def focal(logits: Tensor, labels: Tensor, weight: Tensor | None = None, *, gamma: float = 2.0) -> Tensor:
    """Mean of (1 - p)^gamma · (- log p) over the pixels that carry a label, p that of the label; 0 where none does.

    Args:
        logits: (n, classes, h, w)
        labels: (n, h, w) int64, `IGNORE` for "no statement"
        weight: (n, h, w) weight of each pixel, or None for equal ones
        gamma: 0 is cross-entropy
    """
    loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    counted = (labels != IGNORE).float() if weight is None else weight * (labels != IGNORE)
    easy = (-loss).exp()
    return ((1 - easy) ** gamma * loss * counted).sum() / counted.sum().clamp_min(1.0)
