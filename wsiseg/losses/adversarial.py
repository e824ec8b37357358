"""Adversarial losses: pure functions of a discriminator's logits.

High logits mean "true map". `bce` is the original game (Goodfellow et al. 2014) with the non-saturating loss for the
generator, `lsgan` the least-squares one (Mao et al. 2017) with the targets 1 and 0, `hinge` that of Lim & Ye 2017.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wsiseg.classes import IGNORE

GanLoss = Literal["bce", "lsgan", "hinge"]


def discriminator_loss(true: Tensor, predicted: Tensor, gan_loss: GanLoss) -> Tensor:
    """Mean loss of a discriminator that should call one batch true and the other not.

    Args:
        true, predicted: logits of any equal or different shapes
        gan_loss: which one
    """
    if gan_loss == "bce":
        return 0.5 * (F.softplus(-true).mean() + F.softplus(predicted).mean())
    if gan_loss == "lsgan":
        return 0.5 * ((true - 1).square().mean() + predicted.square().mean())
    return 0.5 * (F.relu(1 - true).mean() + F.relu(1 + predicted).mean())


def generator_loss(predicted: Tensor, gan_loss: GanLoss, weight: Tensor | None = None) -> Tensor:
    """Mean loss of a generator whose maps should be judged as real.

    Args:
        predicted: logits (n, 1, h, w)
        gan_loss: which one
        weight: of each logit, or None for equal ones
    """
    if gan_loss == "bce":
        loss = F.softplus(-predicted)
    elif gan_loss == "lsgan":
        loss = 0.5 * (predicted - 1).square()
    else:
        loss = -predicted
    return loss.mean() if weight is None else (loss * weight).sum() / weight.sum().clamp_min(1)


def correctness_loss(logits: Tensor, prediction: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of "is this pixel's predicted class right?", right and wrong pixels alike in total weight.

    Most pixels are right; unweighted, a discriminator that says "right" everywhere would already have a low loss.

    Args:
        logits: (n, 1, h', w') of the discriminator on the predicted maps; one per patch of equal height and width
        prediction: (n, h, w) int64, the class with the highest probability
        labels: (n, h, w) int64, `IGNORE` for "no statement"
    """
    right, stated = (prediction == labels).float()[:, None], (labels != IGNORE).float()[:, None]
    size = (logits.shape[-2], logits.shape[-1])
    fraction = F.adaptive_avg_pool2d(right * stated, size) / F.adaptive_avg_pool2d(stated, size).clamp_min(1e-6)
    counted = F.adaptive_avg_pool2d(stated, size)
    each = torch.stack([fraction * counted, (1 - fraction) * counted])  # how much of each patch is right, and wrong
    losses = torch.stack([F.softplus(-logits.float()), F.softplus(logits.float())])
    total = each.flatten(1).sum(1)
    means = (losses * each).flatten(1).sum(1) / total.clamp_min(1e-6)
    return means.sum() / (total > 0).sum().clamp_min(1)


def gradient_penalty(logits: Tensor, *inputs: Tensor) -> Tensor:
    """R1: half the squared gradient of each crop's mean logit (Mescheder et al. 2018), mean over the batch.

    The mean over a crop's pixels, not their sum: so the penalty does not grow with the crop.

    Args:
        logits: (n, …) of a batch, with a graph
        inputs: what the logits were computed from, requiring gradients
    """
    gradients = torch.autograd.grad(logits.flatten(1).mean(1).sum(), inputs, create_graph=True)
    return 0.5 * torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).mean()


def feature_matching(true: Tensor, predicted: Tensor) -> Tensor:
    """Mean absolute difference of the batches' mean features (Salimans et al. 2016; s4GAN, Mittal et al. 2021).

    Args:
        true, predicted: features (n, channels, …) of the discriminator; no gradient flows into the true ones
    """

    def mean(features: Tensor) -> Tensor:
        return features.flatten(2).mean((0, 2))

    return (mean(true).detach() - mean(predicted)).abs().mean()
