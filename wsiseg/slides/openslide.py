"""Slides that OpenSlide reads: Aperio, Hamamatsu, Leica, MIRAX, Philips, Ventana, Zeiss, DICOM, tiled TIFF, …"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import FileBackend, Pixels, UnfitSlideError, reason
from wsiseg.slides.pixels import over_white
from wsiseg.slides.resolution import COARSEST, COARSEST_DICOM, plain, stated
from wsiseg.slides.tiff.choice import chosen_image
from wsiseg.slides.tiff.layout import open_tiff, orientation_of, require_whole
from wsiseg.slides.tiff.tiles import segments_of

# px of a level; about the size of the slides' own tiles, so that OpenSlide's tile cache serves the overlaps
CELL = 512


class OpenSlideBackend(FileBackend):
    """See `Backend`.

    OpenSlide takes positions in whole level-0 pixels. Where a level's size ratio is not whole (2.0005), most of that
    level's pixels have no such position; OpenSlide then interpolates between neighbours, by up to a quarter of a pixel
    at ratios about 2, an eighth at 4. Such levels are read by cells of a fixed lattice, so that a pixel has one value
    whatever box it is read in.

    Attributes:
        ratios: OpenSlide's level-0 px per px of every level
    """

    name = "openslide"

    def __init__(self, path: str, series: int | None = None, *, checked: bool = True) -> None:
        """Opens a slide.

        Args:
            path: the file
            series: 0 or None, but for a TIFF whose image of that number is the one that OpenSlide reads
            checked: compare what OpenSlide says of a TIFF with the file itself; False only reads what it says
        """
        super().__init__(path, series)
        self._lock = threading.Lock()
        self._handle = self._open()
        try:
            self._read_header(checked)
        except SlideError:
            self._handle.close()
            raise
        except Exception as error:  # text that is not UTF-8, properties that vanish: a damaged header
            self._handle.close()
            raise SlideError(f"its header is damaged ({reason(error, path)})") from error

    def _read_header(self, checked: bool) -> None:
        self.properties = said = dict(self._handle.properties)
        self.levels = tuple((int(w), int(h)) for w, h in self._handle.level_dimensions)
        self.ratios = tuple(float(r) for r in self._handle.level_downsamples)
        self.vendor = said.get("openslide.vendor", "unknown")
        self._numbers = tuple(range(len(self.levels)))  # OpenSlide's, of our levels
        if checked and self.vendor in ("generic-tiff", "aperio"):
            self._compare()
        elif self.asked_series not in (None, 0):
            raise UnfitSlideError("it holds one image, number 0")
        # A generic TIFF has nothing but its resolution tags; every other vendor states µm/px on purpose.
        given = said.get("openslide.mpp-x"), said.get("openslide.mpp-y")
        if self.vendor == "generic-tiff":
            self.mpp, self.mpp_doubt = plain(*given)
        else:
            self.mpp, self.mpp_doubt = stated(*given, COARSEST_DICOM if self.vendor == "dicom" else COARSEST)
        self.bounds = _bounds(said)

    def _compare(self) -> None:
        """Keeps those of OpenSlide's levels that are levels of the image that is the slide.

        OpenSlide goes on without levels whose directory was cut off, turns every tile of an oriented TIFF about itself,
        and gives the high bytes of 16-bit samples.
        """
        require_whole(self.path)
        with open_tiff(self.path) as tiff:
            if orientation_of(tiff.pages[0]) != 1:
                raise SlideError("it would turn each tile of an image with an orientation tag")
            if tiff.pages[0].bitspersample != 8:
                raise SlideError("it does not say how many of 16 bits are used")
            chosen = chosen_image(tiff, self.asked_series)
            top = self.levels[0]
            if tiff.is_ome or not chosen.first or chosen.sizes[0] != top or self.levels.count(top) > 1:
                raise SlideError("it reads another image of the file")
            if chosen.colours.alpha or int(chosen.image.levels[0][0].samplesperpixel) not in (1, 3):
                raise SlideError("it does not check what its fourth sample is")
            for pages in chosen.image.levels:
                segments_of(pages[0], tiff.filehandle.size)
        self.series, self.notes = chosen.series, chosen.notes
        kept = [i for i, size in enumerate(self.levels) if size in chosen.sizes and self.levels.count(size) == 1]
        self._numbers = tuple(kept)
        self.levels, self.ratios = tuple(self.levels[i] for i in kept), tuple(self.ratios[i] for i in kept)

    def read(self, level: int, box: Box) -> Pixels:
        if self.ratios[level].is_integer():
            return over_white(self._region(level, box))
        out = np.empty((*box.shape, 3), np.uint8)
        rows, cols = (range(a // CELL, -(-b // CELL)) for a, b in ((box.y, box.bottom), (box.x, box.right)))
        for row, col in itertools.product(rows, cols):
            cell = Box(col * CELL, row * CELL, CELL, CELL)
            part = cell.overlap(box)
            # Only the part from the cell's corner on is needed, but the corner fixes the fraction.
            rgba = self._region(level, Box.from_bounds(cell.x, cell.y, part.right, part.bottom))
            rgba = rgba[part.relative_to(cell).slices]
            # At the far edges the interpolation mixes in "nothing"; the colour itself is right.
            alpha = np.where(rgba[..., 3:] >= 128, np.uint8(255), rgba[..., 3:])
            out[part.relative_to(box).slices] = over_white(np.concatenate([rgba[..., :3], alpha], -1))
        return out

    def close(self) -> None:
        self._handle.close()

    def _open(self) -> Any:
        import openslide

        try:
            return openslide.OpenSlide(self.path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise SlideError("it does not know the format") from error
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(reason(error, self.path)) from error

    def _region(self, level: int, box: Box) -> Pixels:
        """uint8 (h, w, 4), colours not multiplied by alpha."""
        import openslide

        ratio, handle = self.ratios[level], self._handle
        wanted = (round(box.x * ratio), round(box.y * ratio)), self._numbers[level], (box.w, box.h)
        try:
            return np.asarray(handle.read_region(*wanted))
        except openslide.OpenSlideError:
            # OpenSlide refuses everything after one failure, also to threads whose own box is sound. So there is a
            # new handle for all, and this box gets one more try on a handle of its own.
            with self._lock:
                if self._handle is handle:
                    self._handle = self._open()
            with self._open() as own:
                try:
                    return np.asarray(own.read_region(*wanted))
                except openslide.OpenSlideError as error:
                    raise OSError(str(error)) from error


def as_openslide_reads(path: str) -> OpenSlideBackend | None:
    """The slide as OpenSlide reads it, unchecked; None where it cannot, for want of a codec or for a reason that the
    tiff reader meets as well.
    """
    try:
        return OpenSlideBackend(path, checked=False)
    except SlideError:
        return None


def _bounds(said: Mapping[str, str]) -> Box | None:
    values = [said.get(f"openslide.bounds-{key}") for key in ("x", "y", "width", "height")]
    if any(v is None for v in values):
        return None
    x, y, w, h = (int(float(v or 0)) for v in values)  # Leica and others may state fractions
    return Box(x, y, w, h) if w > 0 and h > 0 else None
