"""From stain to colour: a stained section weakens light exponentially (Beer and Lambert).

    intensity = white · 10 ^ -(Σ amountₖ · vectorₖ)

with one optical-density vector per stain (Ruifrok and Johnston, Anal Quant Cytol Histol 23, 2001) and, for each
material, the amounts of haematoxylin, of the counterstain (eosin, or the magenta of PAS) and of the own colour of
erythrocytes. Vectors, amounts and the white of the glass differ a little from slide to slide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Materials: rows of the table of amounts.
(
    LUMEN, INTERSTITIUM, COLLAGEN, PROXIMAL, DISTAL, MEMBRANE, BRUSH, CAPSULE, MESANGIUM, LOOP_WALL, LOOP, RED_CELL,
    HYALINE, MUSCLE, CAST, INFILTRATE, NUCLEUS, PALE_NUCLEUS,
) = range(18)  # fmt: skip

#                 haematoxylin, counterstain, red; in optical density of a section of 3 µm
_HE = {
    LUMEN: (0.00, 0.015, 0), INTERSTITIUM: (0.09, 0.17, 0), COLLAGEN: (0.07, 0.26, 0), PROXIMAL: (0.09, 0.46, 0.03),
    DISTAL: (0.12, 0.28, 0), MEMBRANE: (0.13, 0.32, 0), BRUSH: (0.07, 0.36, 0.02), CAPSULE: (0.17, 0.30, 0),
    MESANGIUM: (0.18, 0.28, 0), LOOP_WALL: (0.17, 0.30, 0), LOOP: (0.02, 0.05, 0), RED_CELL: (0.0, 0.20, 0.42),
    HYALINE: (0.13, 0.33, 0), MUSCLE: (0.16, 0.36, 0), CAST: (0.05, 0.40, 0.03), INFILTRATE: (0.24, 0.16, 0),
    NUCLEUS: (0.78, 0.14, 0), PALE_NUCLEUS: (0.46, 0.16, 0),
}  # fmt: skip
_PAS = {
    LUMEN: (0.00, 0.012, 0), INTERSTITIUM: (0.09, 0.13, 0), COLLAGEN: (0.09, 0.20, 0), PROXIMAL: (0.15, 0.26, 0.01),
    DISTAL: (0.13, 0.14, 0), MEMBRANE: (0.14, 0.62, 0), BRUSH: (0.09, 0.46, 0), CAPSULE: (0.12, 0.56, 0),
    MESANGIUM: (0.16, 0.36, 0), LOOP_WALL: (0.13, 0.42, 0), LOOP: (0.02, 0.04, 0), RED_CELL: (0.03, 0.10, 0.20),
    HYALINE: (0.13, 0.46, 0), MUSCLE: (0.15, 0.24, 0), CAST: (0.04, 0.48, 0), INFILTRATE: (0.20, 0.10, 0),
    NUCLEUS: (0.68, 0.10, 0), PALE_NUCLEUS: (0.40, 0.12, 0),
}  # fmt: skip
VECTORS = {  # red, green, blue; each becomes a unit vector
    "he": ((0.62, 0.71, 0.33), (0.15, 0.88, 0.45), (0.06, 0.72, 0.69)),
    "pas": ((0.67, 0.66, 0.33), (0.22, 0.88, 0.42), (0.12, 0.68, 0.72)),
}
STAINS = {"he": _HE, "pas": _PAS}

DEPTH_MAX = 4.0  # optical density at which the table of transmissions ends
DEPTH_STEPS = 4096


class Bath(NamedTuple):
    """How one slide was stained and scanned.

    Attributes:
        amounts: float32 (materials, 3)
        vectors: float32 (3 stains, 3 colours), optical density per amount
        white: float32 (3,), the colour of bare glass, 0 to 255
        passing: float32 (DEPTH_STEPS,), fraction of light left after an optical density of 0 to DEPTH_MAX
    """

    amounts: NDArray[np.float32]
    vectors: NDArray[np.float32]
    white: NDArray[np.float32]
    passing: NDArray[np.float32]


def amounts_of(stain: str) -> NDArray[np.float64]:
    """The usual amounts, (materials, 3)."""
    return np.array([STAINS[stain][material] for material in range(len(STAINS[stain]))])


def mix_bath(rng: np.random.Generator, stain: str) -> Bath:
    """The stain of one slide, somewhere around the usual one; `stain` is a key of `STAINS`."""
    amounts = amounts_of(stain)
    strength = np.array([rng.uniform(0.75, 1.25), rng.uniform(0.75, 1.3), rng.uniform(0.7, 1.3)])
    amounts = amounts * strength * rng.uniform(0.85, 1.15, (len(amounts), 1))
    vectors = np.maximum(np.array(VECTORS[stain]) + rng.normal(0, 0.03, (3, 3)), 0.02)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    white = np.clip(rng.uniform(234, 248) + rng.normal(0, 2.5, 3), 225, 252)
    passing = 10 ** -np.linspace(0, DEPTH_MAX, DEPTH_STEPS)
    return Bath(*(values.astype(np.float32) for values in (amounts, vectors, white, passing)))


@njit(cache=True, nogil=True)
def develop(amounts, vectors, white, passing):
    """Amounts (h, w, 3) of the three stains to light (h, w, 3) from 0 to 255, both float32."""
    rows, cols = amounts.shape[0], amounts.shape[1]
    light = np.empty((rows, cols, 3), np.float32)
    scale = np.float32((DEPTH_STEPS - 1) / DEPTH_MAX)
    for r in range(rows):
        for c in range(cols):
            a, b, d = amounts[r, c, 0], amounts[r, c, 1], amounts[r, c, 2]
            for k in range(3):
                depth = (a * vectors[0, k] + b * vectors[1, k] + d * vectors[2, k]) * scale
                light[r, c, k] = white[k] * passing[min(int(depth + np.float32(0.5)), DEPTH_STEPS - 1)]
    return light
