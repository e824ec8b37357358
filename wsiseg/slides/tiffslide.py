"""Tiled TIFF pyramids by way of tiffslide (tifffile and imagecodecs), which knows pages that the tiff reader does not.

tiffslide takes the first image of a file, and shows tiles that are missing as black. So what it would read is compared
with the file itself first.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import FileBackend, Pixels, reason
from wsiseg.slides.resolution import stated
from wsiseg.slides.tiff.choice import chosen_image
from wsiseg.slides.tiff.codecs import APERIO_YCBCR, CONTIGUOUS, JPEG
from wsiseg.slides.tiff.colours import YCBCR
from wsiseg.slides.tiff.layout import require_whole
from wsiseg.slides.tiff.tiles import segments_of


class TiffSlideBackend(FileBackend):
    """See `Backend`. Flat images (one level, no tiles) are left to the `image` backend."""

    name = "tiffslide"

    def __init__(self, path: str, series: int | None = None) -> None:
        super().__init__(path, series)
        self._lock = threading.Lock()
        require_whole(path)
        try:
            self._read_header()
            sample = self._samples(len(self.levels) - 1, Box(0, 0, *self.levels[-1]).overlap(Box(0, 0, 4096, 4096)))
        except SlideError:
            raise
        except Exception as error:  # tiffslide, tifffile, zarr and imagecodecs raise anything
            raise SlideError(reason(error, path)) from error
        self._depth = self._colours.depth(sample)

    def _read_header(self) -> None:
        from tiffslide import TiffSlide

        with warnings.catch_warnings():
            # tiffslide warns that a vendor's other properties are not parsed; none of them is used here.
            warnings.simplefilter("ignore", UserWarning)
            self._slide = TiffSlide(self.path)
            said = dict(self._slide.properties)
        self.levels = tuple((int(w), int(h)) for w, h in self._slide.level_dimensions)
        self._ratios = tuple(float(r) for r in self._slide.level_downsamples)
        tiff = self._slide.ts_tifffile
        chosen = chosen_image(tiff, self.asked_series)
        page: Any = tiff.series[int(said.get("tiffslide.series-index") or 0)].pages[0]
        if len(self.levels) == 1 and not page.is_tiled:
            raise SlideError("it is a flat image, neither tiled nor a pyramid")
        own = chosen.image.levels[0]
        if len(own) > 1 or page.offset != own[0].offset or int(page.planarconfig) != CONTIGUOUS:
            raise SlideError("it reads another image of the file")
        for pages in chosen.image.levels:
            if (segments_of(pages[0], tiff.filehandle.size)[0].counts == 0).any():
                raise SlideError("it shows tiles that are missing as black")
        self._numbers = [i for i, size in enumerate(self.levels) if size in chosen.sizes]
        self.levels = tuple(self.levels[i] for i in self._numbers)
        self._ratios = tuple(self._ratios[i] for i in self._numbers)
        self.series, self.notes, self._colours = chosen.series, chosen.notes, chosen.colours
        ycbcr = page.photometric == YCBCR and page.compression != JPEG
        if ycbcr or page.compression == APERIO_YCBCR or self._colours.palette is not None:
            raise SlideError(f"its colours ({page.photometric.name}, {page.compression.name}) are not supported")
        self.vendor = str(said.get("tiffslide.vendor") or "generic-tiff")
        # tiffslide itself turns to the resolution tags where a header has no µm/px, and then says so with this key.
        from_tags = self.vendor == "generic-tiff" or (self.vendor == "aperio" and "tiff.XResolution" in said)
        scanner = stated(said.get("tiffslide.mpp-x"), said.get("tiffslide.mpp-y"))
        self.mpp, self.mpp_doubt = chosen.image.mpp if from_tags else scanner
        self.properties = {key: str(value) for key, value in said.items() if value is not None}

    def read(self, level: int, box: Box) -> Pixels:
        return self._colours.rgb(self._samples(level, box), self._depth)

    def close(self) -> None:
        self._slide.close()

    def _samples(self, level: int, box: Box) -> np.ndarray:
        ratio = self._ratios[level]
        place = _level0(box.x, ratio), _level0(box.y, ratio)
        with self._lock:  # one TiffFile has one file position
            size = box.w, box.h
            array = self._slide.read_region(place, self._numbers[level], size, as_array=True, padding=False)
        return array[..., None] if array.ndim == 2 else array


def _level0(at: int, ratio: float) -> int:
    """A level-0 position that tiffslide, which divides by the ratio and cuts off, turns into `at`."""
    place = int(at * ratio)
    while int(place / ratio) < at:
        place += 1
    return place
