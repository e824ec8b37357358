"""Convert the pixels of any file to uint8 RGB.

grey     the same value in all three channels
RGBA     laid over white: what a scanner did not see is white, as glass is
16 bit   divided linearly, one factor for the whole slide: the white point is the smallest of 8, 10, 12, 14 or 16 bits
         that holds the brightest pixel of the slide's smallest level (cameras put 12 bits into 16)
float, signed, more than 4 channels   refused: their range or colours are not known
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import SlideError
from wsiseg.slides.backend import Pixels

DEPTHS = (8, 10, 12, 14, 16)


def bit_depth(sample: NDArray[np.generic]) -> int:
    """Bits in use, from a look at the smallest level.

    Raises:
        SlideError: the samples are not 8- or 16-bit unsigned numbers (or bits).
    """
    if sample.dtype == np.bool_:
        return 1
    if sample.dtype == np.uint8:
        return 8
    if sample.dtype != np.uint16:
        raise SlideError(f"its pixels are {sample.dtype}, not 8- or 16-bit whole numbers")
    brightest = int(sample.max(initial=0))
    return next(bits for bits in DEPTHS if brightest < 2**bits) if brightest else 16


def to_rgb(array: NDArray[np.generic], bits: int) -> Pixels:
    """uint8 (h, w, 3) from (h, w) or (h, w, 1 | 3 | 4) samples of `bits` bits."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise SlideError(f"it has {array.shape[-1]} channels, not 1 (grey), 3 (RGB) or 4 (RGBA)")
    small = array.astype(np.uint8) if bits == 8 else scaled(array, bits)
    if small.shape[2] == 4:
        return over_white(small)
    return np.repeat(small, 3, axis=2) if small.shape[2] == 1 else np.ascontiguousarray(small)


def over_white(rgba: Pixels) -> Pixels:
    """uint8 (h, w, 3) from colours (h, w, 4) that are not multiplied by their alpha."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    share = alpha.astype(np.uint16)
    return ((rgba[..., :3] * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def scaled(array: NDArray[np.generic], bits: int) -> Pixels:
    """Samples of `bits` bits as uint8, rounded; what is brighter than they allow is white."""
    top = 2**bits - 1
    return np.minimum((array.astype(np.uint32) * 255 + top // 2) // top, 255).astype(np.uint8)
