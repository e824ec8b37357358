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

Game = Literal["bce", "lsgan", "hinge"]


def discriminator_loss(true: Tensor, predicted: Tensor, game: Game) -> Tensor:
    """Mean loss of a discriminator that should call one batch true and the other not.

    Args:
        true, predicted: logits of any equal or different shapes
        game: which loss
    """
    if game == "bce":
        return 0.5 * (F.softplus(-true).mean() + F.softplus(predicted).mean())
    if game == "lsgan":
        return 0.5 * ((true - 1).square().mean() + predicted.square().mean())
    return 0.5 * (F.relu(1 - true).mean() + F.relu(1 + predicted).mean())


def generator_loss(predicted: Tensor, game: Game, weight: Tensor | None = None) -> Tensor:
    """Mean loss of a generator whose maps should be called true.

    Args:
        predicted: logits (n, 1, h, w)
        game: which loss
        weight: of each logit, or None for equal ones
    """
    if game == "bce":
        loss = F.softplus(-predicted)
    elif game == "lsgan":
        loss = 0.5 * (predicted - 1).square()
    else:
        loss = -predicted
    return loss.mean() if weight is None else (loss * weight).sum() / weight.sum().clamp_min(1)


def correctness_loss(logits: Tensor, prediction: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of "is this pixel's predicted class right?", the other reading of the source paper.

    Args:
        logits: (n, 1, h, w) of the discriminator on the predicted maps
        prediction: (n, h, w) int64, the class with the highest probability
        labels: (n, h, w) int64, `IGNORE` for "no statement"
    """
    right = (prediction == labels).float()[:, None]
    counted = (labels != IGNORE).float()[:, None]
    loss = F.binary_cross_entropy_with_logits(logits.float(), right, reduction="none")
    return (loss * counted).sum() / counted.sum().clamp_min(1)


def gradient_penalty(logits: Tensor, *inputs: Tensor) -> Tensor:
    """R1: half the squared gradient of the logits on true inputs (Mescheder et al. 2018), mean over the batch.

    Args:
        logits: of a batch of true inputs, with a graph
        inputs: what the logits were computed from, requiring gradients
    """
    gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return 0.5 * sum((g.flatten(1).square().sum(1) for g in gradients), torch.zeros(())).mean()


def feature_matching(true: Tensor, predicted: Tensor) -> Tensor:
    """Mean absolute difference of the batches' mean features (Salimans et al. 2016; s4GAN, Mittal et al. 2021).

    Args:
        true, predicted: features (n, channels, …) of the discriminator; no gradient flows into the true ones
    """

    def mean(features: Tensor) -> Tensor:
        return features.flatten(2).mean((0, 2))

    return (mean(true).detach() - mean(predicted)).abs().mean()


def self_taught(logits: Tensor, confidence: Tensor, threshold: float) -> Tensor:
    """Cross-entropy against the own prediction where the discriminator believes it (Hung et al. 2018).

    Args:
        logits: (n, classes, h, w) of the generator
        confidence: (n, 1, h, w) from 0 to 1, the discriminator's probability of "true" for each pixel
        threshold: pixels above it become pseudo-labels

    Returns:
        the mean over those pixels; 0 where there are none
    """
    trusted = (confidence.detach()[:, 0] > threshold).float()
    loss = F.cross_entropy(logits.float(), logits.detach().argmax(1), reduction="none")
    return (loss * trusted).sum() / trusted.sum().clamp_min(1)
