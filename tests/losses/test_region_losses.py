"""The losses that a recipe can choose: equal to their formulas, and blind to what is ignored."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from wsiseg.classes import IGNORE
from wsiseg.losses.focal import focal
from wsiseg.losses.locally_adaptive import locally_adaptive
from wsiseg.losses.segmentation import cross_entropy

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 12, 10, generator=GENERATOR)
LABELS = torch.randint(0, 3, (2, 12, 10), generator=GENERATOR)


def test_focal_is_cross_entropy_times_what_is_left_to_learn() -> None:
    assert focal(LOGITS, LABELS, gamma=0.0) == pytest.approx(cross_entropy(LOGITS, LABELS).item(), rel=1e-5)
    p = LOGITS.softmax(1).gather(1, LABELS[:, None])[:, 0]
    assert focal(LOGITS, LABELS, gamma=2.0) == pytest.approx(((1 - p) ** 2 * -p.log()).mean().item(), rel=1e-5)


@pytest.mark.parametrize("power", [1.0, 5.0])
def test_locally_adaptive_equals_its_formula_window_by_window(power: float) -> None:
    losses = []
    for n, y, x in ((n, y, x) for n in range(2) for y in range(0, 12, 5) for x in range(0, 10, 5)):
        logits, labels = LOGITS[n, :, y : y + 5, x : x + 5], LABELS[n, y : y + 5, x : x + 5]
        for c in labels.unique().tolist():
            mean = logits[:, labels == c].mean(1)
            losses.append(F.cross_entropy(mean[None], torch.tensor([c])).item())
    expected = (sum(one**power for one in losses) / len(losses)) ** (1 / power)
    assert locally_adaptive(LOGITS, LABELS, window=5, power=power).item() == pytest.approx(expected, abs=0.006)


def test_windows_of_one_pixel_are_cross_entropy() -> None:
    expected = cross_entropy(LOGITS, LABELS).item()
    assert locally_adaptive(LOGITS, LABELS, window=1, power=1.0).item() == pytest.approx(expected, rel=1e-5)


def test_a_small_class_weighs_as_much_as_a_large_one() -> None:
    labels = torch.zeros(1, 5, 5, dtype=torch.int64)
    labels[0, 0, 0] = 1
    logits = torch.stack([torch.full((1, 5, 5), 4.0), torch.zeros(1, 5, 5)], 1)  # background everywhere
    missed = F.cross_entropy(torch.tensor([[4.0, 0.0]]), torch.tensor([1])).item()
    assert locally_adaptive(logits, labels, window=5, power=1.0).item() == pytest.approx(missed / 2, abs=0.02)
    assert cross_entropy(logits, labels).item() < missed / 20


@pytest.mark.parametrize("loss", [focal, locally_adaptive])
def test_ignored_and_weightless_pixels_count_nothing(loss) -> None:  # type: ignore[no-untyped-def]
    half = LABELS.clone()
    half[:, 6:] = IGNORE
    weight = torch.ones(LABELS.shape)
    weight[:, 6:] = 0
    changed = LOGITS.clone()
    changed[:, :, 6:] += 9 * torch.randn(2, 3, 6, 10, generator=torch.Generator().manual_seed(1))
    assert loss(changed, half).item() == pytest.approx(loss(LOGITS, half).item(), rel=1e-6)
    assert loss(changed, LABELS, weight).item() == pytest.approx(loss(LOGITS, half).item(), rel=1e-6)
    logits = LOGITS.clone().requires_grad_()
    nothing = loss(logits, torch.full_like(LABELS, IGNORE))
    nothing.backward()
    assert nothing.item() == 0
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_a_perfect_answer_has_finite_gradients() -> None:
    logits = (F.one_hot(LABELS, 3).movedim(-1, 1) * 200.0).requires_grad_()
    loss = locally_adaptive(logits, LABELS)
    loss.backward()
    assert math.isclose(loss.item(), 0, abs_tol=1e-6)
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
