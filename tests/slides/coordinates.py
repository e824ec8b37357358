"""Slides whose every pixel says in its colour where it is, so that a tile that lands one pixel away is seen at once.

12 bits of x and 12 bits of y in 24 bits of colour:

    red = low 8 bits of x     green = high 4 bits of x, high 4 bits of y     blue = low 8 bits of y
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsiseg.slides.backend import Pixels
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide


def coordinate_slide(
    width: int,
    height: int,
    mpp: float | tuple[float, float] = 0.5,
    downsamples: tuple[int, ...] = (),
    path: str = "coordinates.slide",
) -> Slide:
    """A slide of up to 4096 × 4096 px whose colours encode (x, y).

    In a level with downsample n the pixel (i, j) encodes (i, j) of that level, so the level is exact as well; ask for
    a frame at n × mpp and `decode_coordinates` gives that frame's own pixel indices.
    """
    assert max(width, height) <= 4096
    levels = {n: coordinate_pixels(width // n, height // n) for n in downsamples}
    return Slide(MemoryBackend(coordinate_pixels(width, height), mpp, downsamples, path, shrink=levels.__getitem__))


def coordinate_pixels(width: int, height: int) -> Pixels:
    """uint8 (height, width, 3) whose pixel (x, y) encodes x and y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x & 255, (x >> 8) << 4 | y >> 8, y & 255], -1).astype(np.uint8)


def decode_coordinates(pixels: Pixels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """x and y, each int64 (h, w), from colours (h, w, 3); the white of the outside decodes to 4095."""
    red, green, blue = (pixels[..., i].astype(np.int64) for i in range(3))
    return (green >> 4) << 8 | red, (green & 15) << 8 | blue
