"""The dense conditional random field over what an engine says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wsiseg.inference.engines.crf import BilateralFilter, CrfEngine, dense_crf


def noisy_square() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark square on light ground, its labels, and what an unsure network says of them."""
    rng = np.random.default_rng(0)
    inside = np.zeros((64, 64), bool)
    inside[20:44, 16:48] = True
    image = np.where(inside[..., None], 120, 220) + rng.integers(-6, 7, (64, 64, 3))
    right = np.clip(0.5 + np.where(inside, 0.2, -0.2) + rng.normal(0, 0.25, (64, 64)), 0.02, 0.98)
    return image.astype(np.uint8), inside, np.stack([1 - right, right]).astype(np.float32)


def test_the_filter_is_a_gaussian_of_place_and_colour() -> None:
    rng = np.random.default_rng(1)
    image = np.kron(rng.integers(60, 200, (4, 5, 3)), np.ones((6, 6, 1), int)).astype(np.uint8)
    values = rng.random((2, 24, 30)).astype(np.float32)
    rows, columns = np.mgrid[:24, :30]
    at = np.dstack([rows / 4.0, columns / 4.0, image / 25.0]).reshape(-1, 5)
    kernel = np.exp(-0.5 * ((at[:, None] - at[None]) ** 2).sum(-1))
    wanted = (values.reshape(2, -1) @ kernel / kernel.sum(0)).reshape(values.shape)
    found = BilateralFilter(image, 4.0, 25.0)(values)
    assert np.abs(found - wanted).max() < 0.08
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.97
    assert np.abs(BilateralFilter(image, 4.0, 25.0)(np.full((1, 24, 30), 0.3, np.float32)) - 0.3).max() < 1e-5


def test_it_follows_the_edge_of_the_colour() -> None:
    image, inside, said = noisy_square()
    before = (said.argmax(0) == 1) == inside
    after = dense_crf(said, image, 2.0)
    assert before.mean() < 0.85
    assert ((after.argmax(0) == 1) == inside).mean() > 0.98
    assert after.dtype == np.float32
    assert np.allclose(after.sum(0), 1, atol=1e-5)


def test_a_sure_constant_stays_that_constant() -> None:
    image = noisy_square()[0]
    said = np.stack([np.full((64, 64), 0.8), np.full((64, 64), 0.2)]).astype(np.float32)
    assert (dense_crf(said, image, 2.0)[0] > 0.8).all()


def test_an_engine_with_it_is_another_engine() -> None:
    image, _, said = noisy_square()

    class Fixed:
        identity: dict[str, Any] = {"name": "fixed"}  # noqa: RUF012
        streams = 2

        def probabilities(self, images: np.ndarray) -> np.ndarray:
            return np.stack([said] * len(images))

    engine = CrfEngine(Fixed(), 2.0)
    assert engine.identity.keys() == {"name", "crf"}
    assert engine.streams == 2
    both = engine.probabilities(np.stack([image, image]))
    assert both.shape == (2, 2, 64, 64)
    assert (both[0] == both[1]).all()
    assert both[0] == pytest.approx(dense_crf(said, image, 2.0))
