"""Noise as a function of the absolute position, so that neighbouring boxes agree in every pixel.

All textures are small periodic arrays made once. A sample at (u, v) depends on u and v alone. Repeats are hidden by
reading the same array at several scales and offsets.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

SIZE = 512  # texels along each side of a texture; a power of two, so that wrapping is one "and"
WRAP = SIZE - 1
CELL = 16  # texels between the points of the cell texture
LATTICE = 64  # cells along each side of the table that holds the tubules

FloatTable = NDArray[np.float32]


class Textures(NamedTuple):
    """Periodic arrays, float32.

    Attributes:
        smooth: mean 0, standard deviation 1, features of about 8 texels
        grain: mean 0, standard deviation 1, features of about 1.5 texels
        edge: distance to the nearest border between two cells, in units of `CELL` (Worley, "A cellular texture basis
            function", SIGGRAPH 1996); about 0 to 0.7
        tint: a number from 0 to 1 that is the same all over a cell
        lattice: (LATTICE, LATTICE, 4): offset along x and along y in cells, weight in µm, a dice roll from 0 to 1
    """

    smooth: FloatTable
    grain: FloatTable
    edge: FloatTable
    tint: FloatTable
    lattice: FloatTable


@lru_cache(maxsize=1)
def textures() -> Textures:
    """The textures of every slide; slides differ in where they read them."""
    rng = np.random.Generator(np.random.PCG64(20240))
    smooth = _standard(gaussian_filter(rng.standard_normal((SIZE, SIZE)), 3.2, mode="wrap"))
    grain = _standard(gaussian_filter(rng.standard_normal((SIZE, SIZE)), 0.7, mode="wrap"))

    corners = np.stack(np.meshgrid(*[np.arange(0, SIZE, CELL)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    points = (corners + rng.uniform(0, CELL, corners.shape)) % SIZE
    texels = np.stack(np.meshgrid(*[np.arange(SIZE)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    distance, nearest = cKDTree(points, boxsize=SIZE).query(texels, k=2)
    edge = ((distance[:, 1] - distance[:, 0]) / 2 / CELL).reshape(SIZE, SIZE).astype(np.float32)
    tint = rng.uniform(0, 1, len(points))[nearest[:, 0]].reshape(SIZE, SIZE).astype(np.float32)

    lattice = np.empty((LATTICE, LATTICE, 4), np.float32)
    lattice[..., :2] = rng.uniform(-0.36, 0.36, (LATTICE, LATTICE, 2))
    lattice[..., 2] = rng.uniform(-5, 5, (LATTICE, LATTICE))
    lattice[..., 3] = rng.uniform(0, 1, (LATTICE, LATTICE))
    return Textures(smooth, grain, edge, tint, lattice)


def _standard(values: NDArray[np.float64]) -> FloatTable:
    return ((values - values.mean()) / values.std()).astype(np.float32)


@njit(cache=True, nogil=True)
def sample(texture, u, v):
    """The texture at column u, row v (texels, any real number), bilinear."""
    left, top = math.floor(u), math.floor(v)
    fu, fv = u - left, v - top
    c0, r0 = left & WRAP, top & WRAP
    c1, r1 = (c0 + 1) & WRAP, (r0 + 1) & WRAP
    above = texture[r0, c0] * (1 - fu) + texture[r0, c1] * fu
    below = texture[r1, c0] * (1 - fu) + texture[r1, c1] * fu
    return above * (1 - fv) + below * fv


@njit(cache=True, nogil=True)
def pick(texture, u, v):
    """The texel at column u, row v."""
    return texture[math.floor(v) & WRAP, math.floor(u) & WRAP]


@njit(cache=True, nogil=True)
def dice(i, j, seed, salt):
    """A number in [0, 1) that depends on four integers alone (Steele et al., "SplitMix", OOPSLA 2014)."""
    z = np.uint64(i) * np.uint64(0x9E3779B97F4A7C15)
    z ^= np.uint64(j) * np.uint64(0xC2B2AE3D27D4EB4F)
    z ^= np.uint64(seed) * np.uint64(0x165667B19E3779F9) + np.uint64(salt) * np.uint64(0xD6E8FEB86659FD93)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def ramp(value, width):
    """0 below -width/2, 1 above width/2, a straight line between."""
    t = value / width + 0.5
    return 0.0 if t < 0.0 else (1.0 if t > 1.0 else t)
