"""What the PyTorch engine promises on its device: benchmarks/gpu.py asks for another one by WSISEG_TEST_DEVICE."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.geometry import Box
from wsiseg.inference.engines import make_engine
from wsiseg.inference.engines.engine import Engine, infer
from wsiseg.models import KIDNEY
from wsiseg.synthetic import SlideSpec, generate

DEVICE = os.environ.get("WSISEG_TEST_DEVICE", "cpu")
TILE = 128


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    found = load_bundle(KIDNEY)
    return replace(found, usage=replace(found.usage, tile=TILE, overlap=32, batch=2))


@pytest.fixture(scope="module")
def engine(bundle: ModelBundle) -> Engine:
    return make_engine(bundle, "torch", DEVICE)


@pytest.fixture(scope="module")
def images(bundle: ModelBundle) -> np.ndarray:
    """(2, TILE, TILE, 3): around a generated glomerulus, and the same beside it."""
    made = generate(SlideSpec(3, 2000, 1600, "pas", 1.0, ()))
    x, y = (int(v / bundle.usage.mpp) for v in made.truth[0].polygon.centroid.coords[0])
    frame = made.frame.at(bundle.usage.mpp)
    boxes = (Box(x - TILE // 2, y - TILE // 2, TILE, TILE), Box(x, y, TILE, TILE))
    return np.stack([made.read(box, frame) for box in boxes])


def test_probabilities_of_every_pixel(engine: Engine, images: np.ndarray) -> None:
    found = engine.probabilities(images)
    assert found.shape == (2, 3, TILE, TILE)
    assert found.dtype == np.float32
    assert np.abs(found.sum(1) - 1).max() < 1e-5
    assert found[0].argmax(0)[TILE // 2, TILE // 2] > 0  # there is something to find


def test_the_same_batch_gives_the_same_bytes(engine: Engine, images: np.ndarray) -> None:
    before = engine.probabilities(images)
    kept = before.copy()
    assert (engine.probabilities(images) == before).all()
    engine.probabilities(images[::-1].copy())
    assert (before == kept).all()  # what was returned is not written over


def test_a_tile_does_not_depend_on_its_place_in_the_batch(engine: Engine, images: np.ndarray) -> None:
    found = engine.probabilities(images)
    assert np.abs(engine.probabilities(images[::-1].copy())[::-1] - found).max() < 0.02


def test_flips_agree_with_the_plain_pass(engine: Engine, images: np.ndarray) -> None:
    plain, flipped = infer(engine, images, tta=False), infer(engine, images, tta=True)
    assert (plain.argmax(1) == flipped.argmax(1)).mean() > 0.95


def test_it_says_what_the_cpu_says(engine: Engine, bundle: ModelBundle, images: np.ndarray) -> None:
    cpu = make_engine(bundle, "torch", "cpu", threads=1).probabilities(images)
    found = engine.probabilities(images)
    exact = engine.identity["precision"] == "float32"
    assert np.abs(found - cpu).max() < (1e-3 if exact else 0.15)
    assert (found.argmax(1) == cpu.argmax(1)).mean() > 0.997
