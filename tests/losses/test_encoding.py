"""What a discriminator is shown: maps that add up to 1, gradients only into the prediction."""

from __future__ import annotations

import pytest
import torch

from wsiseg.classes import IGNORE
from wsiseg.losses.encoding import LEAST, Encoding, encode, shown

ENCODINGS: list[Encoding] = ["raw", "smooth", "scaled", "straight_through", "gumbel"]


@pytest.fixture
def logits() -> torch.Tensor:
    return (3 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_both_maps_are_distributions_and_only_one_teaches(
    encoding: Encoding, logits: torch.Tensor, labels: torch.Tensor
) -> None:
    true, said = encode(logits, labels, encoding)
    for maps in (true, said):
        assert maps.shape == logits.shape
        assert torch.allclose(maps.sum(1), torch.ones(2, 8, 8), atol=1e-5)
        assert maps.min() >= -1e-6
    assert not true.requires_grad
    (said * torch.randn_like(said)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_true_map_names_the_true_class(encoding: Encoding, logits: torch.Tensor, labels: torch.Tensor) -> None:
    true, _ = encode(logits, labels, encoding)
    assert torch.equal(true.argmax(1), labels)


@pytest.mark.parametrize("encoding", ["raw", "smooth", "scaled", "straight_through"])
def test_nothing_is_stated_where_labels_are_ignored(
    encoding: Encoding, logits: torch.Tensor, labels: torch.Tensor
) -> None:
    labels[:, :4] = IGNORE
    true, said = encode(logits, labels, encoding)
    assert torch.equal(true[:, :, :4], said[:, :, :4].detach())


def test_scaled_follows_luc() -> None:
    soft = torch.tensor([0.6, 0.3, 0.1])
    logits = soft.log().view(1, 3, 1, 1)
    true, _ = encode(logits, torch.tensor([[[0]]]), "scaled")
    assert true.flatten().tolist() == pytest.approx([LEAST, 0.1 * 0.3 / 0.4, 0.1 * 0.1 / 0.4], abs=1e-6)
    sure = torch.tensor([0.98, 0.01, 0.01]).log().view(1, 3, 1, 1)
    true, said = encode(sure, torch.tensor([[[0]]]), "scaled")
    assert torch.allclose(true, said, atol=1e-6), "where the prediction is sure and right there is nothing to see"


def test_straight_through_is_hard_ahead_and_soft_behind(logits: torch.Tensor) -> None:
    said = shown(logits, "straight_through")
    assert set(said.detach().round(decimals=5).unique().tolist()) <= {0.0, 1.0}
    weight = torch.randn_like(said)
    (said * weight).sum().backward()
    assert logits.grad is not None
    hard = logits.grad.clone()
    logits.grad = None
    (logits.softmax(1) * weight).sum().backward()
    assert torch.allclose(hard, logits.grad)
