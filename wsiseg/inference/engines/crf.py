"""A dense conditional random field over what an engine says: neighbouring pixels of one colour get one class.

Every pixel is connected with every other one of its tile, by two Gaussian kernels: one of place and colour, one of place
alone. Mean-field inference (Krähenbühl & Koltun 2011) repeats

    Q(k) ∝ p(k) · exp(APPEARANCE · filtered by place and colour Q(k) + SMOOTHNESS · filtered by place Q(k))

The filter over place and colour runs on a grid of these five dimensions (Paris & Durand 2006; Chen et al. 2007) in place of
the permutohedral lattice. Tiles are those of the model's grid, and what they say is blended as ever, so that results do not
depend on blocks, order or a pause.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from wsiseg.inference.engines.engine import Engine

APPEARANCE, SMOOTHNESS = 4.0, 3.0  # weights of the two kernels; 10 and 3 in the authors' example
PLACE_UM, COLOUR, NEAR_UM = 40.0, 20.0, 6.0  # standard deviations: µm and 8-bit levels of the first, µm of the second
LEAST_PX = 8.0  # of the first, however coarse the tiles: the grid of the filter takes memory with its inverse square
STEPS = 5


class CrfEngine:
    """An engine whose probabilities go through a dense CRF, tile by tile.

    Args:
        engine: what runs the network
        mpp: µm/px of its tiles
    """

    def __init__(self, engine: Engine, mpp: float) -> None:
        self.engine, self.mpp = engine, mpp

    @property
    def identity(self) -> dict[str, Any]:
        """That of the engine, and the field's settings."""
        settings = [APPEARANCE, SMOOTHNESS, PLACE_UM, LEAST_PX, COLOUR, NEAR_UM, STEPS]
        return {**self.engine.identity, "crf": settings}

    @property
    def streams(self) -> int:
        """See `Engine.streams`."""
        return self.engine.streams

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.probabilities`."""
        said = self.engine.probabilities(images)
        return np.stack([dense_crf(p, i, self.mpp) for p, i in zip(said, images, strict=True)])


def dense_crf(probability: np.ndarray, image: np.ndarray, mpp: float) -> np.ndarray:
    """(classes, h, w) float32 probabilities that follow the image.

    Args:
        probability: (classes, h, w) float32, background first
        image: (h, w, 3) uint8
        mpp: µm/px
    """
    unary = np.log(np.maximum(probability, 1e-6))
    appearance = BilateralFilter(image, max(PLACE_UM / mpp, LEAST_PX), COLOUR)
    near = NEAR_UM / mpp
    smooth = gaussian_filter(np.ones(image.shape[:2], np.float32), near, mode="constant")
    said = probability
    for _ in range(STEPS):
        around = gaussian_filter(said, (0, near, near), mode="constant") / smooth
        logits = unary + APPEARANCE * appearance(said) + SMOOTHNESS * around
        said = np.exp(logits - logits.max(0))
        said /= said.sum(0)
    return said.astype(np.float32)


class BilateralFilter:
    """A normalised Gaussian over place and colour: constant maps stay what they are.

    Args:
        image: (h, w, 3) uint8
        place: px, standard deviation
        colour: levels of 255, standard deviation
    """

    def __init__(self, image: np.ndarray, place: float, colour: float) -> None:
        h, w = image.shape[:2]
        rows, columns = np.mgrid[:h, :w].astype(np.float32) / np.float32(place)
        colours = (image - image.min((0, 1))) / np.float32(colour)
        self._at = np.dstack([rows, columns, colours]).reshape(-1, 5).astype(np.float32)
        self._grid = tuple(int(n) + 2 for n in self._at.max(0))
        self._shape = (h, w)
        self._norm = np.maximum(self._filter(np.ones((h * w, 1), np.float32)), np.float32(1e-12))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(channels, h, w) float32, filtered."""
        flat = np.ascontiguousarray(values.reshape(len(values), -1).T, np.float32)
        return (self._filter(flat) / self._norm).T.reshape(len(values), *self._shape)

    def _filter(self, values: np.ndarray) -> np.ndarray:
        cells = np.zeros((*self._grid, values.shape[1]), np.float32)
        strides = np.array(cells[..., 0].strides, np.int64) // cells.strides[4]
        flat = cells.reshape(-1, values.shape[1])
        _splat(self._at, strides, values, flat)
        for axis in range(5):
            cells = _blurred(cells, axis)
        out = np.zeros_like(values)
        _slice(self._at, strides, cells.reshape(-1, values.shape[1]), out)
        return out


def _blurred(cells: np.ndarray, axis: int) -> np.ndarray:
    """The sum of each cell and its two neighbours along an axis.

    Its variance of 2/3 cell² and those of splatting and slicing, 1/6 each, make one cell: the standard deviation.
    """
    out = cells.copy()
    before, after = ((*(slice(None),) * axis, part) for part in (slice(None, -1), slice(1, None)))
    out[after] += cells[before]
    out[before] += cells[after]
    return out


@njit(cache=True, nogil=True)
def _corner(at, strides, corner):  # type: ignore[no-untyped-def]
    """Number and weight of one of the 32 cells around a place."""
    number, weight = 0, np.float32(1)
    for axis in range(5):
        low = int(at[axis])
        part = at[axis] - np.float32(low)
        if corner >> axis & 1:
            number += (low + 1) * strides[axis]
            weight *= part
        else:
            number += low * strides[axis]
            weight *= np.float32(1) - part
    return number, weight


@njit(cache=True, nogil=True)
def _splat(at, strides, values, cells):  # type: ignore[no-untyped-def]
    for i in range(len(at)):
        for corner in range(32):
            number, weight = _corner(at[i], strides, corner)
            if weight > 0:
                for c in range(values.shape[1]):
                    cells[number, c] += weight * values[i, c]


@njit(cache=True, nogil=True)
def _slice(at, strides, cells, out):  # type: ignore[no-untyped-def]
    for i in range(len(at)):
        for corner in range(32):
            number, weight = _corner(at[i], strides, corner)
            if weight > 0:
                for c in range(out.shape[1]):
                    out[i, c] += weight * cells[number, c]
