"""Photographs in a report: JPEG in memory, and scale bars."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wsiseg.pictures import Colour

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
# Pillow's own font has no µ; matplotlib brings one that has.
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
LENGTHS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (h, w, 3) as JPEG."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


def bar_length(width_px: int, mpp: float) -> int:
    """The longest of the usual lengths in µm that is at most a third of a picture; the shortest where none is."""
    fits = [um for um in LENGTHS_UM if um / mpp <= width_px / 3]
    return fits[-1] if fits else LENGTHS_UM[0]


def with_scale_bar(pixels: NDArray[np.uint8], mpp: float) -> NDArray[np.uint8]:
    """uint8 (h, w, 3) with a bar of known length in its lower left corner, and the length beside it.

    Args:
        pixels: uint8 (h, w, 3)
        mpp: µm per pixel along x
    """
    height, width = pixels.shape[:2]
    um = bar_length(width, mpp)
    label = f"{um / 1000:g} mm" if um >= 1000 else f"{um} µm"
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    long, thick = max(1, round(um / mpp)), min(8, max(3, height // 80))
    left, bottom = 6, height - 6
    font = ImageFont.truetype(FONT, min(24, max(11, height // 16)))
    box = draw.textbbox((0, 0), label, font=font)
    top = bottom - thick - (box[3] - box[1]) - 10
    draw.rectangle((left - 4, top, left + max(long, box[2]) + 4, bottom + 4), fill=WHITE)
    draw.rectangle((left, bottom - thick, left + long - 1, bottom - 1), fill=BLACK)
    draw.text((left, top + 2 - box[1]), label, fill=BLACK, font=font)
    return np.asarray(picture)
