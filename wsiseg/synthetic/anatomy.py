"""The larger structures in the tissue: glomeruli, vessels, and tubules that resemble glomeruli.

A profile is a star-shaped outline r(θ) = R (1 + Σ aₖ cos kθ + bₖ sin kθ), k = 2 to 5, around a centre, perhaps cut by
a straight line where the needle went through. The painter and the ground truth read the same numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wsiseg.synthetic.ground import MEDULLA, TISSUE, level

# What a place can be; the first three are profiles of their own, the last three fill the rest.
GLOMERULUS, SCLEROTIC, ARTERY, VEIN, DILATED, TUBULE, STROMA, GLASS = range(8)

HARMONICS = 4  # k = 2, 3, 4, 5
GAP = 6.0  # µm that two profiles keep from each other at least
BIN = 128.0  # µm: side of a cell of the index of profiles
REACH = 24.0  # µm around a profile in which its neighbours know of it

PROFILE = np.dtype(
    [
        ("kind", "i8"),
        ("x", "f8"),  # centre, µm
        ("y", "f8"),
        ("r", "f8"),  # mean radius R, µm
        ("a", "f8", (HARMONICS,)),
        ("b", "f8", (HARMONICS,)),
        ("cut_x", "f8"),  # the part with dx·cut_x + dy·cut_y > cut is missing; unit vector and µm
        ("cut_y", "f8"),
        ("cut", "f8"),
        ("core_x", "f8"),  # centre of what lies inside (tuft, lumen, cast), µm from the centre of the profile
        ("core_y", "f8"),
        ("core_r", "f8"),  # its mean radius, µm
        ("lobes", "i8"),  # number of lobes of the tuft
        ("lobe_size", "f8"),  # fraction of the radius
        ("lobe_phase", "f8"),
        ("wall", "f8"),  # thickness of capsule, vessel wall or epithelium, µm
        ("mood", "f8"),  # 0 to 1: open or cellular tuft, empty or filled lumen
        ("shift", "f8"),  # where this profile reads the textures, texels
    ]
)

NO_CUT = 1e9


@njit(cache=True, nogil=True)
def outline_radius(a, b, c, s):
    """1 + Σ aₖ cos kθ + bₖ sin kθ for the direction (cos θ, sin θ) = (c, s)."""
    ck, sk, total = c, s, 1.0
    for k in range(HARMONICS):
        ck, sk = ck * c - sk * s, sk * c + ck * s
        total += a[k] * ck + b[k] * sk
    return total


def outline(profile: np.void, points: int = 128) -> NDArray[np.float64]:
    """The outer edge of a profile, without its cut, as (points, 2) corners in µm."""
    angle = np.arange(points) * (2 * math.pi / points)
    radius = np.ones(points)
    for k in range(HARMONICS):
        radius += profile["a"][k] * np.cos((k + 2) * angle) + profile["b"][k] * np.sin((k + 2) * angle)
    radius *= profile["r"]
    return np.stack([profile["x"] + radius * np.cos(angle), profile["y"] + radius * np.sin(angle)], axis=1)


def place_profiles(
    rng: np.random.Generator, planes: NDArray[np.float32], size_um: tuple[float, float]
) -> NDArray[np.void]:
    """Throws profiles on the tissue, the largest kinds first; one that hits another is thrown away.

    Args:
        rng: source of all randomness
        planes: the coarse grid, see `ground`
        size_um: (width, height) of the slide
    """
    width, height = size_um
    area = width * height / 1e6  # mm²
    sclerosed = rng.choice([0.05, 0.15, 0.4])
    tries = (  # kind, small, throws per mm² of slide
        (ARTERY, False, 1.5), (GLOMERULUS, False, 10.0 * (1 - sclerosed)), (SCLEROTIC, False, 10.0 * sclerosed),
        (DILATED, False, 5.0), (VEIN, False, 1.5), (ARTERY, True, 5.0),
    )  # fmt: skip
    throws = [(kind, small) for kind, small, per_mm2 in tries for _ in range(max(4, round(per_mm2 * area)))]
    placed, reaches, count = np.zeros(len(throws), PROFILE), np.zeros(len(throws)), 0
    for kind, small in throws:
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        profile = _draw(rng, kind, x, y, small)
        depth = level(planes, TISSUE, x, y)
        if depth < 20 or (kind in (GLOMERULUS, SCLEROTIC, DILATED) and level(planes, MEDULLA, x, y) > 0):
            continue
        if not _fit(rng, profile, planes, depth):
            continue
        reach, others = _reach(profile), placed[:count]
        near = np.hypot(others["x"] - x, others["y"] - y) < reaches[:count] + reach + GAP
        if min(x, y, width - x, height - y) > reach and not near.any():
            placed[count], reaches[count] = profile, reach
            count += 1
    return placed[:count]


def _reach(profile: np.void) -> float:
    """No point of the outline is farther from the centre, µm."""
    return float(profile["r"] * (1 + np.hypot(profile["a"], profile["b"]).sum()))


def _draw(rng: np.random.Generator, kind: int, x: float, y: float, small: bool) -> np.void:
    p = np.zeros(1, PROFILE)[0]
    p["kind"], p["x"], p["y"], p["cut"] = kind, x, y, NO_CUT
    p["shift"], p["mood"] = rng.uniform(0, 512), rng.uniform(0, 1)
    p["lobes"], p["lobe_phase"] = rng.integers(5, 10), rng.uniform(0, 2 * math.pi)
    size, turn = np.array([0.09, 0.045, 0.025, 0.015]), rng.uniform(0, 2 * math.pi, HARMONICS)
    if kind == GLOMERULUS:
        pole = rng.uniform() < 0.12  # cut near its pole: a small profile, hardly any space
        p["r"] = rng.uniform(36, 48) if pole else np.clip(rng.normal(86, 16), 52, 122)
        p["wall"] = rng.uniform(1.4, 3.0)
        space = rng.uniform(2, 6) if pole else p["r"] * rng.uniform(0.1, 0.46) ** 2 + 1
        p["core_r"], p["lobe_size"] = p["r"] - p["wall"] - space, rng.uniform(0.02, 0.07)
        offset = rng.uniform(0.3, 1.1) * space  # the tuft hangs on its vascular pole
    elif kind == SCLEROTIC:
        p["r"] = np.clip(rng.normal(62, 13), 36, 95)
        p["wall"] = rng.uniform(2, 5)
        p["core_r"], offset = p["r"] * rng.uniform(0.7, 0.95), 0.0
    elif kind == ARTERY:
        p["r"] = rng.uniform(14, 34) if small else rng.uniform(45, 130)
        p["core_r"] = p["r"] * rng.uniform(0.15, 0.62)
        p["wall"], offset, size = p["r"] - p["core_r"], 0.1 * p["core_r"], 1.4 * size
    elif kind == VEIN:
        p["r"], p["wall"] = rng.uniform(30, 110), rng.uniform(3, 7)
        p["core_r"], offset, size = p["r"] - p["wall"], 0.0, 2.2 * size
    else:
        p["r"], p["wall"] = rng.uniform(42, 95), rng.uniform(5, 10)
        p["core_r"], offset = (p["r"] - p["wall"]) * rng.uniform(0.55, 0.95), rng.uniform(0, 6)
        p["lobe_size"] = rng.uniform(0.0, 0.05)
    size = size * rng.uniform(0.3, 1.3, HARMONICS)
    p["a"], p["b"] = size * np.cos(turn), size * np.sin(turn)
    angle = rng.uniform(0, 2 * math.pi)
    p["core_x"], p["core_y"] = offset * math.cos(angle), offset * math.sin(angle)
    return p


def _fit(rng: np.random.Generator, p: np.void, planes: NDArray[np.float32], depth: float) -> bool:
    """Fits a profile to the edge of the tissue: inside, or a glomerulus that the needle cut; False when neither."""
    reach = _reach(p)
    if depth > reach + 10:
        return True
    if p["kind"] not in (GLOMERULUS, SCLEROTIC) or depth < 0.15 * p["r"] or rng.uniform() < 0.5:
        return False
    if p["r"] < 48:  # cut as well, it would be too small for anybody to annotate
        return False
    x, y, step = float(p["x"]), float(p["y"]), 30.0
    gx = level(planes, TISSUE, x - step, y) - level(planes, TISSUE, x + step, y)
    gy = level(planes, TISSUE, x, y - step) - level(planes, TISSUE, x, y + step)
    steep = math.hypot(gx, gy)
    if steep < step:  # a ridge: the edge is not one straight line here
        return False
    p["cut_x"], p["cut_y"], p["cut"] = gx / steep, gy / steep, max(depth, 0.25 * p["r"])
    return True


def index_profiles(
    profiles: NDArray[np.void], size_um: tuple[float, float]
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Which profiles a place must ask: (start of each bin's list, the lists, bins per row); bins are BIN µm wide."""
    cols, rows = (math.ceil(side / BIN) + 1 for side in size_um)
    lists: list[list[int]] = [[] for _ in range(rows * cols)]
    for i, p in enumerate(profiles):
        reach = _reach(p) + REACH
        for r in range(max(0, int((p["y"] - reach) // BIN)), min(rows, int((p["y"] + reach) // BIN) + 1)):
            for c in range(max(0, int((p["x"] - reach) // BIN)), min(cols, int((p["x"] + reach) // BIN) + 1)):
                lists[r * cols + c].append(i)
    start = np.concatenate([[0], np.cumsum([len(items) for items in lists])]).astype(np.int32)
    return start, np.array([i for items in lists for i in items], np.int32), cols
