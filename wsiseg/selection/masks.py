"""Morphology of masks: bool (h, w), True is inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

BAND = 512  # rows that are counted together


def reconstruct(mask: Mask, seeds: Mask) -> Mask:
    """The connected parts of the mask (8 neighbours) that contain a seed."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    keep = np.zeros(count + 1, np.bool_)
    keep[labels[seeds & mask]] = True
    keep[0] = False
    return keep[labels]


def remove_small(mask: Mask, min_px: float) -> Mask:
    """Without connected parts (4 neighbours) of fewer pixels."""
    labels, count = ndimage.label(mask)
    sizes = np.zeros(count + 1, np.int64)
    for top in range(0, len(labels), BAND):  # `bincount` copies what it counts as 64-bit numbers
        sizes += np.bincount(labels[top : top + BAND].ravel(), minlength=count + 1)
    keep = sizes >= min_px
    keep[0] = False
    return keep[labels]


def dilate(mask: Mask, by_um: float, um: tuple[float, float]) -> Mask:
    """Every pixel within `by_um` along rows and columns (a square reach, which two running maxima find fast)."""
    size = tuple(2 * round(by_um / u) + 1 for u in um)
    return ndimage.maximum_filter(mask, size, mode="constant", cval=0) if max(size) > 1 else mask


def close(mask: Mask, gap_um: float, um: tuple[float, float]) -> Mask:
    """Gaps up to `gap_um` bridged."""
    reach = [round(gap_um / 2 / u) for u in um]
    if not max(reach):
        return mask
    size = tuple(2 * r + 1 for r in reach)
    room = np.pad(mask, [(r, r) for r in reach])
    bridged = ndimage.minimum_filter(ndimage.maximum_filter(room, size), size)
    return bridged[reach[0] : bridged.shape[0] - reach[0], reach[1] : bridged.shape[1] - reach[1]]
