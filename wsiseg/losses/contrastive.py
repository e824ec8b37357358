"""Losses on embeddings of unit length: what is of one class shall lie together, and apart from all else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NOBODY = -1e4  # a logit whose probability is 0, also in 16 bits


def prototype_contrast(
    embeddings: Tensor, labels: Tensor, prototypes: Tensor, known: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy of the cosines to the prototypes of the classes, mean over the embeddings that have a label.

    Args:
        embeddings: (n, channels) of length 1
        labels: (n,) int64, below 0 for no label
        prototypes: (classes, channels) of length 1
        known: (classes,) bool, which classes have a prototype; labels of others do not count
        temperature: that divides the cosines
    """
    logits = (embeddings @ prototypes.T / temperature).masked_fill(~known, NOBODY)
    target = labels.clamp_min(0)
    counted = ((labels >= 0) & known[target]).float()
    loss = F.cross_entropy(logits, target, reduction="none")
    return (loss * counted).sum() / counted.sum().clamp_min(1)


def supervised_contrast(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020), mean over the embeddings with another one of their class.

    Args:
        embeddings: (n, channels) of length 1
        labels: (n,) int64, below 0 for what takes no part
        temperature: that divides the cosines
    """
    others = (labels >= 0) & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    same = others & (labels[:, None] == labels)
    log_probability = (embeddings @ embeddings.T / temperature).masked_fill(~others, NOBODY).log_softmax(1)
    positives = same.sum(1)
    each = -(log_probability * same).sum(1) / positives.clamp_min(1)
    counted = (positives > 0).float()
    return (each * counted).sum() / counted.sum().clamp_min(1)


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, valid: Tensor, margin: float) -> Tensor:
    """Mean of max(0, margin + |a - p|² - |a - n|²) over the valid triplets (Schroff et al. 2015).

    Args:
        anchor, positive, negative: (n, channels) of length 1
        valid: (n,) bool
        margin: difference of the squared distances that is enough
    """
    near, far = (anchor - positive).square().sum(1), (anchor - negative).square().sum(1)
    loss = (margin + near - far).clamp_min(0)
    return (loss * valid).sum() / valid.sum().clamp_min(1)
