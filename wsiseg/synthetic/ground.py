"""Properties that vary slowly over a slide: where the tissue is, its state, and the damage of the section.

Each is one plane of a coarse grid, float32 (rows, columns, PLANES), whose node (r, c) lies at (c·PITCH, r·PITCH) µm. It
is read bilinearly, so that a slide of any size costs a few megabytes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

PITCH = 16.0  # µm between two nodes of the coarse grid

# Planes of the coarse grid.
TISSUE = 0  # µm inside the tissue's mean edge, negative on glass; raggedness is added where it is read
MEDULLA = 1  # µm inside an area of parallel, lengthwise cut tubules; negative elsewhere
CROWD = 2  # 0 to 1, lymphoid infiltrate
SCAR = 3  # 0 to 1, widened, fibrous interstitium
FOLD = 4  # µm inside a fold of the section; negative elsewhere
PEN = 5  # µm inside a pen stroke; negative elsewhere
BLUR = 6  # standard deviation of the defocus in µm
BUBBLE = 7  # µm inside a bubble of air, whose rim is dark; negative elsewhere
PLANES = 8

FAR = 1e4  # µm: "nowhere near"


@njit(cache=True, nogil=True)
def level(planes, plane, x, y):
    """A plane of the coarse grid at (x, y) µm, bilinear; beyond the grid its border goes on."""
    rows, cols = planes.shape[0], planes.shape[1]
    u = min(max(x / PITCH, 0.0), cols - 1.001)
    v = min(max(y / PITCH, 0.0), rows - 1.001)
    c, r = int(u), int(v)
    fu, fv = u - c, v - r
    above = planes[r, c, plane] * (1 - fu) + planes[r, c + 1, plane] * fu
    below = planes[r + 1, c, plane] * (1 - fu) + planes[r + 1, c + 1, plane] * fu
    return above * (1 - fv) + below * fv


def nodes(planes: NDArray[np.float32], left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
    """The nodes between which `level` interpolates in a box in µm."""
    rows, cols = planes.shape[:2]
    c0, r0 = min(cols - 2, max(0, int(left / PITCH) - 1)), min(rows - 2, max(0, int(top / PITCH) - 1))
    c1, r1 = max(c0 + 2, int(right / PITCH) + 3), max(r0 + 2, int(bottom / PITCH) + 3)
    return planes[r0:r1, c0:c1]


def lay_ground(
    rng: np.random.Generator, width_um: float, height_um: float, artefacts: tuple[str, ...]
) -> NDArray[np.float32]:
    """Draws the coarse grid of a slide.

    Args:
        rng: source of all randomness
        width_um, height_um: size of the slide
        artefacts: any of "fold", "pen", "blur", "bubble"
    """
    rows, cols = math.ceil(height_um / PITCH) + 2, math.ceil(width_um / PITCH) + 2
    planes = np.full((rows, cols, PLANES), -FAR, np.float32)
    planes[..., (CROWD, SCAR, BLUR)] = 0
    pieces = _pieces(rng, width_um, height_um)
    for centres, radii in pieces:
        _sweep(planes[..., TISSUE], centres, radii)
    pieces = [piece for piece in pieces if len(piece[0]) > 12]  # folds and pen marks are on no scraps
    planes[..., MEDULLA] = 90 * _clouds(rng, (rows, cols), 500) - 105
    crowd = _clouds(rng, (rows, cols), 90)
    planes[..., CROWD] = np.clip((crowd - 1.35) / 0.5, 0, 1)
    planes[..., SCAR] = np.clip((_clouds(rng, (rows, cols), 300) - 0.55) / 1.4, 0, 1)
    if "fold" in artefacts:
        for _ in range(int(rng.integers(1, 3))):
            path, radii = pieces[int(rng.integers(len(pieces)))]
            middle = path[int(rng.integers(len(path) // 4, 3 * len(path) // 4 + 1))]
            _stroke(rng, planes[..., FOLD], middle, length=rng.uniform(700, 1400), radius=rng.uniform(22, 40))
    if "pen" in artefacts:
        path, radii = pieces[int(rng.integers(len(pieces)))]
        # starts beside the tissue and crosses it at most: nobody can annotate what a pen hides
        beside = path[len(path) // 2] + (radii[len(path) // 2] + 250) * _unit(rng.uniform(0, 2 * math.pi))
        _stroke(rng, planes[..., PEN], beside, length=rng.uniform(1500, 3500), radius=rng.uniform(80, 160))
    if "blur" in artefacts:
        planes[..., BLUR] = 4.5 * np.clip((_clouds(rng, (rows, cols), 600) - 0.8) / 1.2, 0, 1)
    if "bubble" in artefacts:
        for _ in range(int(rng.integers(1, 4))):
            path, radii = pieces[int(rng.integers(len(pieces)))]
            i = int(rng.integers(len(path)))
            near = path[i] + rng.uniform(0, 1.3) * radii[i] * _unit(rng.uniform(0, 2 * math.pi))
            _bubble(rng, planes[..., BUBBLE], near, radius=rng.uniform(70, 350))
    return planes


Piece = tuple[NDArray[np.float64], NDArray[np.float64]]  # centres (n, 2) and radii (n,) of discs in µm


def _pieces(rng: np.random.Generator, width: float, height: float) -> list[Piece]:
    """Needle cores side by side across the longer side, or a wedge, or a wedge and a core."""
    along, across = max(width, height), min(width, height)
    if across < 1500:  # room for one piece only
        lanes = [_core if along > 1.6 * across else _wedge]
    else:
        count = max(1, int(across / rng.uniform(1250, 1700)))
        lanes = [_core] * count
        if count >= 2 and rng.uniform() < 0.4:
            lanes = [_wedge, *[_core] * (count - 2)]
            rng.shuffle(lanes)
    widths = np.array([2.0 if lane is _wedge else 1.0 for lane in lanes])
    edges = np.concatenate([[0], np.cumsum(widths / widths.sum())]) * across
    pieces = []
    for lane, low, high in zip(lanes, edges[:-1], edges[1:], strict=True):
        centres, radii = lane(rng, along, low, high)
        pieces.append((centres if width >= height else centres[:, ::-1], radii))
        if lane is _core:
            pieces.append(_crumbs(rng, *pieces[-1]))
    return pieces


def _crumbs(rng: np.random.Generator, centres: NDArray[np.float64], radii: NDArray[np.float64]) -> Piece:
    """A few scraps that came off a core."""
    at = rng.integers(0, len(centres), int(rng.integers(1, 7)))
    away = np.array([_unit(angle) for angle in rng.uniform(0, 2 * math.pi, len(at))])
    size = rng.uniform(15, 70, len(at))
    return centres[at] + away * (radii[at] * rng.uniform(1.0, 1.25, len(at)) + size)[:, None], size


def _core(rng: np.random.Generator, along: float, low: float, high: float) -> Piece:
    room = high - low
    half = min(rng.uniform(280, 500), 0.4 * room)
    start, stop = rng.uniform(0.03, 0.15) * along + half, along * rng.uniform(0.85, 0.97) - half
    x = np.arange(start, max(start + 1, stop), 20.0)
    bend = min(0.5 * (room - 2.3 * half), 500) * rng.uniform(0.3, 1)
    phase, period = rng.uniform(0, 2 * math.pi), rng.uniform(3000, 7000)
    y = (low + high) / 2 + max(0, bend) * np.sin(2 * math.pi * x / period + phase)
    radii = half * (1 + 0.12 * np.sin(x / 310 + phase) + 0.08 * np.sin(x / 97 + 2 * phase))
    for tip in (x - x[0], x[-1] - x):  # torn ends: narrower, and cut short at once
        radii *= 1 - rng.uniform(0.1, 0.75) * np.exp(-tip / rng.uniform(80, 400))
    return np.stack([x, y], axis=1), radii


def _wedge(rng: np.random.Generator, along: float, low: float, high: float) -> Piece:
    room = high - low
    start, stop = 0.03 * along + 100, 0.97 * along - 100
    x = np.arange(start, stop, 20.0)
    t = (x - start) / (stop - start)
    profile = np.minimum(1, 3.5 * t) ** 0.6 * (1 - t) ** rng.uniform(0.45, 0.9) * 1.15
    radii = np.maximum(60, 0.43 * room * profile * (1 + 0.06 * np.sin(x / 260 + rng.uniform(0, 6))))
    radii = np.minimum(radii, np.minimum(0.42 * room, np.minimum(x, along - x) - 60))
    y = (low + high) / 2 + 0.05 * room * np.sin(x / 900 + rng.uniform(0, 6))
    if rng.uniform() < 0.5:
        x = along - x
    return np.stack([x, y], axis=1), radii


def _unit(angle: float) -> NDArray[np.float64]:
    return np.array([math.cos(angle), math.sin(angle)])


def _stroke(
    rng: np.random.Generator, plane: NDArray[np.float32], middle: NDArray[np.float64], length: float, radius: float
) -> None:
    """A wandering band of discs, drawn into a plane of distances."""
    step = 0.5 * radius
    angle, turn = rng.uniform(0, 2 * math.pi), 0.0
    place = middle - 0.5 * length * _unit(angle)
    centres = []
    for _ in range(int(length / step)):
        turn = 0.8 * turn + rng.normal(0, 0.05)
        angle += turn
        place = place + step * _unit(angle)
        centres.append(place)
    _sweep(plane, np.array(centres), radius * rng.uniform(0.8, 1.0, len(centres)))


def _bubble(rng: np.random.Generator, plane: NDArray[np.float32], middle: NDArray[np.float64], radius: float) -> None:
    """A round or somewhat long bubble: discs beside each other, drawn into a plane of distances."""
    axis = _unit(rng.uniform(0, 2 * math.pi)) * rng.uniform(0, 0.5) * radius
    centres = np.array([middle + at * axis for at in np.linspace(-1, 1, 9)])
    _sweep(plane, centres, np.full(len(centres), radius))


def _sweep(plane: NDArray[np.float32], centres: NDArray[np.float64], radii: NDArray[np.float64]) -> None:
    """plane = max(plane, radius - distance) for discs in µm, on the part of the grid that they can reach."""
    rows, cols = plane.shape
    for (x, y), radius in zip(centres, radii, strict=True):
        reach = 2 * radius + 200
        left, top = max(0, int((x - reach) / PITCH)), max(0, int((y - reach) / PITCH))
        right, bottom = (
            max(left, min(cols, int((x + reach) / PITCH) + 1)),
            max(top, min(rows, int((y + reach) / PITCH) + 1)),
        )
        dx = np.arange(left, right) * PITCH - x
        dy = np.arange(top, bottom) * PITCH - y
        part = plane[top:bottom, left:right]
        np.maximum(part, radius - np.hypot(dx, dy[:, None]), out=part)


def _clouds(rng: np.random.Generator, shape: tuple[int, int], size_um: float) -> NDArray[np.float32]:
    """Smooth noise, mean 0, standard deviation 1, features of about `size_um`."""
    noise = gaussian_filter(rng.standard_normal(shape), 0.35 * size_um / PITCH, mode="wrap")
    return (noise / max(float(noise.std()), 1e-9)).astype(np.float32)
