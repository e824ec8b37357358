"""Compare decoded tiles with those of OpenSlide when a slide is opened.

A file may state its colours wrongly; then tiles decode to false colours, or land in the wrong place, without any error.
OpenSlide has met more files than any other reader, so its pixels are the measure. Few pieces are compared, the same
ones on every run, and each lies in one tile, so that this costs milliseconds.
"""

from __future__ import annotations

import numpy as np

from wsiseg.geometry import Box
from wsiseg.slides.backend import Pixels, reason
from wsiseg.slides.openslide import CELL, OpenSlideBackend, as_openslide_reads
from wsiseg.slides.tiff.backend import TiffBackend

PIECE = 64  # px of a level, along each side, at most

# Decoders round differently, by 1 or 2 grey levels here and there; whatever is wrong with a file makes more of it.
MAX_DIFFERENCE = 3  # grey levels
MEAN_DIFFERENCE = 0.5


def disagreement(reader: TiffBackend) -> str:
    """How the reader's pixels differ from OpenSlide's beyond the rounding of decoders; empty where they do not.

    Of levels that OpenSlide does not see, tiles have to be readable at least. A tile that OpenSlide cannot read either
    is no disagreement: the file is damaged there.
    """
    other = as_openslide_reads(reader.path) if reader.like_openslide else None
    try:
        for level, size in enumerate(reader.levels):
            # Of two levels of one size, one is not the slide's, and OpenSlide does not say which.
            same = other.levels.index(size) if other and other.levels.count(size) == 1 else None
            # Where a ratio is not whole, OpenSlide gives true pixels in its first cell only (see OpenSlideBackend).
            whole = other is None or same is None or other.ratios[same].is_integer()
            within = Box(0, 0, *size) if whole else Box(0, 0, *size).overlap(Box(0, 0, CELL, CELL))
            for tile in reader.telling_tiles(level, within):
                box = _middle(tile.overlap(within))
                theirs = _read(other, same, box) if other and same is not None else None
                if isinstance(theirs, str):  # damaged there; a later read says so
                    continue
                ours = _read(reader, level, box)
                place = f"at x {box.x}, y {box.y} of level {level}"
                if isinstance(ours, str):
                    return f"{place} a tile cannot be decoded ({ours})"
                if theirs is not None:
                    difference = np.abs(ours.astype(np.int16) - theirs)
                    worst, mean = int(difference.max()), float(difference.mean())
                    if worst > MAX_DIFFERENCE or mean > MEAN_DIFFERENCE:
                        return (
                            f"{place} the pixels differ from OpenSlide's by up to {worst} grey levels "
                            f"({mean:.1f} on average)"
                        )
    finally:
        if other:
            other.close()
    return ""


def _middle(box: Box) -> Box:
    w, h = min(box.w, PIECE), min(box.h, PIECE)
    return Box(box.x + (box.w - w) // 2, box.y + (box.h - h) // 2, w, h)


def _read(reader: TiffBackend | OpenSlideBackend, level: int, box: Box) -> Pixels | str:
    """The pixels, or why there are none."""
    try:
        return reader.read(level, box)
    except Exception as error:  # decoders raise anything
        return reason(error, reader.path)
