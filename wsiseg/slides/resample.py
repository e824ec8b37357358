"""Resample a part of a level to the pixels of a frame.

The error against the exact mean over the area of each new pixel, in grey levels on H&E at 0.5 µm/px
(`tests/slides/test_reading.py` measures it again):

    shrinking by      1.05    1.5     2      2.3     3      3.7     4
    BOX               4.7     3.1    0.4     2.9    0.2     2.2    0.3
    BILINEAR          0.3     1.2    3.9     2.2    3.2     3.3    4.3
    HAMMING           2.1     1.0    1.2     0.6    1.2     0.8    1.5
    LANCZOS           2.2     2.5    2.3     2.9    3.3     3.5    3.8

BOX is the exact mean for whole numbers, and it is how scanners make their levels; for other factors it takes or leaves
whole pixels and so shifts edges. HAMMING weighs the pixels at the rim and comes nearest to the mean from 4/3 on. Below
that, and when enlarging, BILINEAR is the interpolation that moves nothing: it is exact on a gradient.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from wsiseg.geometry import Box
from wsiseg.slides.backend import Pixels, Scale

HAMMING_FROM = 4 / 3


def resampling(scale: Scale) -> Image.Resampling:
    """The filter for a number of source px per new px along x and y."""
    if all(s >= 1 and s.is_integer() for s in scale):
        return Image.Resampling.BOX
    return Image.Resampling.HAMMING if min(scale) >= HAMMING_FROM else Image.Resampling.BILINEAR


def source_box(crop: tuple[float, float, float, float], scale: Scale) -> Box:
    """The source px that the filter looks at for a crop (left, top, right, bottom); whole blocks need none beside."""
    margins = (0, 0) if resampling(scale) == Image.Resampling.BOX else [math.ceil(max(1.0, s)) + 1 for s in scale]
    (left, top, right, bottom), (x, y) = crop, margins
    return Box.from_bounds(math.floor(left) - x, math.floor(top) - y, math.ceil(right) + x, math.ceil(bottom) + y)


def resample(source: Pixels, crop: tuple[float, float, float, float], size: tuple[int, int], scale: Scale) -> Pixels:
    """Shrinks or enlarges a crop of `source`; pixels around the crop take part.

    Args:
        source: uint8 (h, w, 3)
        crop: left, top, right, bottom in px of `source`, fractions allowed
        size: new (width, height)
        scale: source px per new px along x and y

    Returns:
        uint8 (height, width, 3)
    """
    filter = resampling(scale)
    if filter == Image.Resampling.BOX and all(float(side).is_integer() for side in crop):
        from wsiseg.slides.shrink import shrink  # loads numba, which reading one's own resolution does without

        left, top, right, bottom = (int(side) for side in crop)
        return shrink(source[top:bottom, left:right], (int(scale[0]), int(scale[1])))
    return np.asarray(Image.fromarray(source).resize(size, filter, box=crop))
