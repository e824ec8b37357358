"""A grid of pictures for people: image, truth, prediction, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsiseg.classes import IGNORE, ClassMap


def paint(image: np.ndarray, labels: np.ndarray, classes: ClassMap, strength: float = 0.45) -> np.ndarray:
    """(h, w, 3) uint8: the image with its labels laid over it in the classes' colours, ignored pixels darkened."""
    colours = np.zeros((256, 3), np.float32)
    colours[: len(classes)] = classes.colours
    painted = (1 - strength) * image + strength * colours[labels]
    keep = (labels == 0)[..., None]
    out = np.where(keep, image, painted)
    return np.where((labels == IGNORE)[..., None], 0.6 * image, out).astype(np.uint8)


def picture_grid(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], classes: ClassMap) -> np.ndarray:
    """(rows · h, 3 · w, 3) uint8 from (image (h, w, 3), truth (h, w), prediction (h, w)) of equal size."""
    gap = 4
    lines = []
    for image, truth, prediction in rows:
        parts = [image, paint(image, truth, classes), paint(image, prediction, classes)]
        lines.append(np.concatenate([np.pad(p, ((0, gap), (0, gap), (0, 0)), constant_values=255) for p in parts], 1))
    return np.concatenate(lines)
