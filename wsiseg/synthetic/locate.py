"""Which structure lies at a position: the painter, the nuclei and the ground truth all use this answer.

Between the profiles of `anatomy` the cortex is filled with tubules, the cells of a jittered lattice (Worley 1996) seen
through a warp that bends and stretches them; the medulla has the same lattice drawn out along one direction.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wsiseg.synthetic.anatomy import BIN, GLASS, STROMA, TUBULE, outline_radius
from wsiseg.synthetic.ground import CROWD, MEDULLA, SCAR, TISSUE, level
from wsiseg.synthetic.texture import LATTICE, FloatTable, sample

SPACING = 50.0  # µm between the middles of two tubules
ROUND = 9.0  # µm over which the corners of a lattice cell are rounded off
STRETCH = 4.5  # how much longer than wide the tubules of the medulla are
OUTSIDE = -90.0  # µm: raggedness reaches no farther from the tissue's mean edge


class World(NamedTuple):
    """All that a place depends on, as plain arrays and numbers, so that compiled code can read it.

    Attributes:
        planes: the coarse grid, see `ground`
        smooth, grain, edge, tint, lattice: see `texture.Textures`
        profiles, start, items, columns: profiles and their index, see `anatomy`
        shift: where this slide reads the textures, texels
        ray_x, ray_y: direction of the tubules in the medulla, a unit vector
        ragged: µm by which the edge of the tissue wanders
        seed: of the slide
        thickness: of the section, µm
    """

    planes: FloatTable
    smooth: FloatTable
    grain: FloatTable
    edge: FloatTable
    tint: FloatTable
    lattice: FloatTable
    profiles: NDArray[np.void]
    start: NDArray[np.int32]
    items: NDArray[np.int32]
    columns: int
    shift: float
    ray_x: float
    ray_y: float
    ragged: float
    seed: int
    thickness: float


@njit(cache=True, nogil=True)
def profile_at(x, y, w):
    """(profile, µm inside its outline, µm to the nearest outline outside); -1 outside all, -2 on a cut-off part."""
    near = 1e3
    col, row = math.floor(x / BIN), math.floor(y / BIN)
    if col < 0 or row < 0 or col >= w.columns or (row + 1) * w.columns >= w.start.shape[0]:
        return -1, 0.0, near
    cell = row * w.columns + col
    for k in range(w.start[cell], w.start[cell + 1]):
        i = w.items[k]
        p = w.profiles[i]
        dx, dy = x - p.x, y - p.y
        far = math.sqrt(dx * dx + dy * dy)
        if far < 1e-6:
            return i, p.r, 0.0
        inside = p.r * outline_radius(p.a, p.b, dx / far, dy / far) - far
        missing = dx * p.cut_x + dy * p.cut_y > p.cut
        if inside > 0:
            if missing:
                return -2, 0.0, 0.0
            return i, inside, 0.0
        if not missing:
            near = min(near, -inside)
    return -1, 0.0, near


@njit(cache=True, nogil=True)
def tubule_at(x, y, w):
    """(lattice cell, µm inside its rounded border) at a place between the profiles."""
    # the border is ragged, or cortex and medulla would meet in a drawn line
    ray = level(w.planes, MEDULLA, x, y) + 22 * sample(w.smooth, x / 5 - w.shift, y / 5)
    u = x + 15 * sample(w.smooth, x / 14 + w.shift, y / 14)
    v = y + 15 * sample(w.smooth, y / 14 + 77, x / 14 - w.shift)
    squeeze = 1.0
    if ray > 0:
        u, v = (u * w.ray_x + v * w.ray_y) / STRETCH, (v * w.ray_x - u * w.ray_y) * 1.25
        squeeze = 0.8
    col, row = math.floor(u / SPACING), math.floor(v / SPACING)
    first, second, third, cell = 1e9, 1e9, 1e9, 0
    for r in range(row - 1, row + 2):
        for c in range(col - 1, col + 2):
            i, j = r & (LATTICE - 1), c & (LATTICE - 1)
            dx = (c + 0.5 + w.lattice[i, j, 0]) * SPACING - u
            dy = (r + 0.5 + w.lattice[i, j, 1]) * SPACING - v
            d = math.sqrt(dx * dx + dy * dy) - w.lattice[i, j, 2]
            if d < first:
                first, second, third, cell = d, first, second, i * LATTICE + j
            elif d < second:
                second, third = d, second
            elif d < third:
                third = d
    a, b = (second - first) / 2, (third - first) / 2
    h = max(ROUND - (b - a), 0.0) / ROUND
    inside = (a - h * h * ROUND / 4) * squeeze
    return cell, min(inside, 0.7 * abs(ray))


@njit(cache=True, nogil=True)
def where(x, y, w):
    """What lies at (x, y) µm.

    Returns:
        kind: see `anatomy`
        s: µm inside the outline of a profile or tubule; for stroma minus the µm to the nearest tubule; for glass
            the (negative) µm inside the tissue
        which: index of the profile, or of the lattice cell
    """
    i, inside, near = profile_at(x, y, w)
    if i >= 0:
        return w.profiles[i].kind, inside, i
    depth = level(w.planes, TISSUE, x, y)
    if i == -2 or depth < OUTSIDE:
        return GLASS, -50.0, 0
    coarse = sample(w.smooth, x / 6.1 + w.shift, y / 6.1)
    fine = sample(w.smooth, x / 1.2, y / 1.2 + w.shift)
    depth += w.ragged * (coarse + 0.3 * fine + 1.2 * sample(w.smooth, x / 21, y / 21 - w.shift))
    if near < 12:  # stroma clings to a profile that stands out of the tissue
        depth = max(depth, 5 + 2 * fine - near)
    if depth < 0:
        return GLASS, depth, 0
    cell, s = tubule_at(x, y, w)
    crowd, scar = level(w.planes, CROWD, x, y), level(w.planes, SCAR, x, y)
    s = min(s, near - 1.5) - (0.8 + 0.7 * coarse + 0.5 * fine + 8 * scar + 9 * crowd)
    if near < 9:
        s -= 0.25 * (9 - near)
    loose = sample(w.smooth, x / 31 + 3 * w.shift, y / 31) - 1.4  # in a few places the section falls apart
    if loose > 0:
        s -= 4 * loose
        crack = abs(sample(w.smooth, x / 17 - w.shift, y / 17) + 0.2 * fine) - 0.5 * loose
        if crack < 0 and s < 1.5 and near > 4:
            return GLASS, -1.0, 0
    if s <= 0:
        return STROMA, s, cell
    return TUBULE, s, cell
