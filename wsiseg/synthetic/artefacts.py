"""The folds, pen marks, defocus and bubbles of a generated slide: the ground truth for quality control."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.annotations.trace import trace
from wsiseg.classes import ClassMap
from wsiseg.geometry import Frame
from wsiseg.synthetic.ground import BLUR, BUBBLE, FOLD, PEN, level
from wsiseg.synthetic.slide import SyntheticSlide

STEP = 8.0  # µm: how finely the outlines are followed
BLURRED = 1.5  # µm: a defocus with a larger standard deviation counts
PLANES = {"Blur": (BLUR, BLURRED), "Fold": (FOLD, 0.0), "Pen": (PEN, 0.0), "Bubble": (BUBBLE, 0.0)}


def artefacts(slide: SyntheticSlide) -> Iterator[LabelledPolygon]:
    """Annotations of the artefacts that were drawn, level-0 pixels, in steps of 8 µm.

    "Blur" is tissue with a defocus of more than 1.5 µm, "Fold" tissue that lies double, "Pen" any place under ink,
    "Bubble" a bubble with its rim. They may overlap.
    """
    spec = slide.spec
    frame = Frame(math.ceil(spec.width_um / STEP), math.ceil(spec.height_um / STEP), STEP)
    tissue = rasterise(slide.tissue, ClassMap(("Background", "Tissue")), frame.box, frame, slide.frame)
    planes = slide._ground.planes
    for name, (plane, least) in PLANES.items():
        mask = _above(planes, plane, least, frame.height, frame.width)
        if name in ("Blur", "Fold"):
            mask &= tissue
        yield from trace([mask], ClassMap(("Background", name)), frame, slide.frame)


@njit(cache=True, nogil=True)
def _above(planes, plane: int, least: float, rows: int, cols: int) -> NDArray[np.uint8]:
    mask = np.zeros((rows, cols), np.uint8)
    for r in range(rows):
        for c in range(cols):
            mask[r, c] = level(planes, plane, (c + 0.5) * STEP, (r + 0.5) * STEP) > least
    return mask
