"""The mean over flips, whatever the engine."""

import numpy as np

from wsiseg.inference.engines.engine import infer


class Lopsided:
    """Says what the pixels say, weighted by the place: only a right way back makes the mean symmetric."""

    identity: dict = {}  # noqa: RUF012

    streams = 1

    def __init__(self) -> None:
        self.seen = 0

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.seen += 1
        h, w = images.shape[1:3]
        place = np.arange(h)[:, None] * 10 + np.arange(w)
        return np.moveaxis(images.astype(np.float32), -1, 1) + place.astype(np.float32)


def test_each_flip_is_turned_back() -> None:
    images = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 3), np.uint8)
    engine = Lopsided()
    said = infer(engine, images, tta=True)
    assert engine.seen == 4
    assert said.dtype == np.float32
    middle = (3 * 10 + 5) / 2  # the places' mean over the four flips is the same everywhere
    np.testing.assert_allclose(said, np.moveaxis(images.astype(np.float32), -1, 1) + middle)


def test_without_flips_the_engine_is_asked_once() -> None:
    images = np.zeros((1, 4, 4, 3), np.uint8)
    engine = Lopsided()
    np.testing.assert_array_equal(infer(engine, images, tta=False), Lopsided().probabilities(images))
    assert engine.seen == 1
