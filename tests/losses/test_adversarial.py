"""Adversarial losses against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from wsiseg.classes import IGNORE
from wsiseg.losses.adversarial import (
    correctness_loss,
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
)

TRUE, SAID = torch.tensor([2.0, -0.5]), torch.tensor([-1.0, 3.0])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bce_is_the_binary_cross_entropy_of_the_source_paper() -> None:
    want = (-math.log(sigmoid(2)) - math.log(sigmoid(-0.5))) / 4 + (
        -math.log(1 - sigmoid(-1)) - math.log(1 - sigmoid(3))
    ) / 4
    assert discriminator_loss(TRUE, SAID, "bce").item() == pytest.approx(want)
    assert generator_loss(SAID, "bce").item() == pytest.approx((-math.log(sigmoid(-1)) - math.log(sigmoid(3))) / 2)


def test_least_squares() -> None:
    assert discriminator_loss(TRUE, SAID, "lsgan").item() == pytest.approx(0.5 * (1 + 2.25) / 2 + 0.5 * (1 + 9) / 2)
    assert generator_loss(SAID, "lsgan").item() == pytest.approx(0.5 * (4 + 4) / 2)


def test_hinge() -> None:
    assert discriminator_loss(TRUE, SAID, "hinge").item() == pytest.approx(0.5 * (0 + 1.5) / 2 + 0.5 * (0 + 4) / 2)
    assert generator_loss(SAID, "hinge").item() == pytest.approx(-1)


def test_weights_choose_pixels() -> None:
    weight = torch.tensor([0.0, 1.0])
    assert generator_loss(SAID, "hinge", weight).item() == pytest.approx(-3)
    assert generator_loss(SAID, "hinge", torch.zeros(2)).item() == 0


def test_correctness_asks_about_each_pixel() -> None:
    logits = torch.tensor([[[[2.0, -1.0, 5.0, 1.0]]]])
    prediction, labels = torch.tensor([[[1, 0, 1, 0]]]), torch.tensor([[[1, 1, IGNORE, 0]]])
    right, wrong = (-math.log(sigmoid(2)) - math.log(sigmoid(1))) / 2, -math.log(1 - sigmoid(-1))
    assert correctness_loss(logits, prediction, labels).item() == pytest.approx((right + wrong) / 2)
    nothing = torch.full_like(labels, IGNORE)
    assert correctness_loss(logits, prediction, nothing).item() == 0


def test_the_correctness_of_a_patch_is_that_of_its_pixels() -> None:
    logits = torch.tensor([[[[0.5]]]])
    prediction, labels = torch.tensor([[[1, 1], [1, 1]]]), torch.tensor([[[1, 1], [1, 0]]])
    want = (-math.log(sigmoid(0.5)) - math.log(1 - sigmoid(0.5))) / 2
    assert correctness_loss(logits, prediction, labels).item() == pytest.approx(want)


def test_the_gradient_penalty_of_a_linear_discriminator_does_not_grow_with_the_crop() -> None:
    penalties = []
    for side in (4, 8):
        image = torch.rand(3, 2, side, side, requires_grad=True)
        logits = image.sum(1)  # one for each pixel
        penalties.append(gradient_penalty(logits, image).item())
        assert penalties[-1] == pytest.approx(0.5 * 2 * side * side / side**4, rel=1e-5)
    assert penalties[1] < penalties[0]


def test_feature_matching_compares_means_and_leaves_the_true_side_alone() -> None:
    true, said = torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(5, 3, 2, 2, requires_grad=True)
    loss = feature_matching(true, said)
    assert loss.item() == pytest.approx((true.mean((0, 2, 3)) - said.mean((0, 2, 3))).abs().mean().item(), rel=1e-5)
    loss.backward()
    assert true.grad is None
    assert said.grad is not None
