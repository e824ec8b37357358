"""The locally adaptive loss: neighbouring pixels of one class are judged together.

Source: Guo, Ren, Gu, Xu and Wu, "Locally adaptive learning loss for semantic image segmentation" (2018),
https://arxiv.org/abs/1802.08290.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wsiseg.classes import IGNORE

_TINY = 1e-12  # a root of 0 has no gradient


def locally_adaptive(
    logits: Tensor, labels: Tensor, weight: Tensor | None = None, *, window: int = 5, power: float = 5.0
) -> Tensor:
    """Cross-entropy of the mean logits of each class in each window, joined by a Minkowski mean; 0 where no pixel counts.

    In each window of the plane, the logits of all pixels with the label c are averaged, and the cross-entropy of that
    mean with c is taken: a class that fills a corner of a window weighs as much as the one that fills the rest. All of
    them, l_1 to l_m, give (Σ l^power / m)^(1 / power); with a high power the hardest windows count most.

    Windows do not overlap. The paper's window and stride are not known to us, nor whether it averages logits or
    probabilities; a mean of logits has a gradient where the network is sure and wrong.

    Args:
        logits: (n, classes, h, w)
        labels: (n, h, w) int64, `IGNORE` for "no statement"
        weight: (n, h, w) weight of each pixel, or None for equal ones
        window: px, width of a window
        power: of the Minkowski mean, at least 1
    """
    counted = (labels != IGNORE).float() if weight is None else weight * (labels != IGNORE)
    known = labels.where(labels != IGNORE, torch.zeros_like(labels))
    classes, (height, width) = logits.shape[1], logits.shape[2:]
    mask = F.one_hot(known, classes).movedim(-1, 1) * counted[:, None]
    beyond = (0, -width % window, 0, -height % window)
    mask, values = F.pad(mask, beyond), F.pad(logits.float(), beyond)
    blocks = (len(labels), classes, mask.shape[2] // window, window, mask.shape[3] // window, window)
    mask, values = mask.view(blocks), values.view(blocks)
    pixels = mask.sum((3, 5))  # of each class in each window
    pooled = torch.einsum("nciajb,nkiajb->nckij", mask, values) / pixels.clamp_min(_TINY)[:, :, None]
    loss = -torch.diagonal(pooled.log_softmax(2), dim1=1, dim2=2).movedim(-1, 1)  # (n, classes, rows, columns)
    there = (pixels > 0).float()
    mean = (loss.clamp_min(0) ** power * there).sum() / there.sum().clamp_min(1.0)
    return (mean + _TINY) ** (1 / power) - _TINY ** (1 / power)
