"""Reduce images by whole numbers: the pixels of Pillow's BOX filter, several times faster.

Pillow takes the mean along x, rounds it, and takes the mean along y of that, with weights of 22 bits. So does this,
with one weight for all pixels instead of one looked up for each. Pillow begins with y where a piece is tall, and then
rounds otherwise; here a pixel is the same in a piece of any shape.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from wsiseg.slides.backend import Pixels

BITS = 22  # of a weight's fraction, as in Pillow
HALF = 1 << (BITS - 1)


def shrink(source: Pixels, by: tuple[int, int]) -> Pixels:
    """The means of blocks of pixels.

    Args:
        source: uint8 (h, w, 3), both sides multiples of `by`
        by: px of a block along x and y

    Returns:
        uint8 (h / y, w / x, 3)
    """
    height, width = source.shape[:2]
    out = np.empty((height // by[1], width // by[0], 3), np.uint8)
    _shrink(source, out, *by)
    return out


@njit(cache=True, nogil=True)
def _shrink(source, out, across, down):  # type: ignore[no-untyped-def]
    one_across, one_down = np.int32(round((1 << BITS) / across)), np.int32(round((1 << BITS) / down))
    half = np.int32(HALF)
    width = out.shape[1]
    sums, line = np.empty((width, 3), np.int32), np.empty((width, 3), np.int32)
    for y in range(out.shape[0]):
        sums[:] = 0
        for row in range(y * down, (y + 1) * down):
            pixels = source[row]
            if across == 2:  # the usual numbers are written out: that is several times as fast
                for x in range(width):
                    for c in range(3):
                        line[x, c] = np.int32(pixels[2 * x, c]) + pixels[2 * x + 1, c]
            elif across == 3:
                for x in range(width):
                    for c in range(3):
                        line[x, c] = np.int32(pixels[3 * x, c]) + pixels[3 * x + 1, c] + pixels[3 * x + 2, c]
            elif across == 4:
                for x in range(width):
                    for c in range(3):
                        line[x, c] = np.int32(pixels[4 * x, c]) + pixels[4 * x + 1, c]
                        line[x, c] += np.int32(pixels[4 * x + 2, c]) + pixels[4 * x + 3, c]
            else:
                for x in range(width):
                    for c in range(3):
                        line[x, c] = 0
                        for i in range(x * across, (x + 1) * across):
                            line[x, c] += pixels[i, c]
            for x in range(width):
                for c in range(3):
                    sums[x, c] += (line[x, c] * one_across + half) >> BITS
        for x in range(width):
            for c in range(3):
                out[y, x, c] = (sums[x, c] * one_down + half) >> BITS
