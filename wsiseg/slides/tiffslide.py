"""Tiled TIFF pyramids by way of tiffslide (tifffile and imagecodecs): OME-TIFF, and codecs that OpenSlide lacks."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import Pixels, reason
from wsiseg.slides.identity import identity_of
from wsiseg.slides.pixels import bit_depth, to_rgb
from wsiseg.slides.resolution import from_tiff, stated
from wsiseg.slides.tiff.layout import tiff_damage

MINISWHITE, MINISBLACK, RGB, YCBCR = 0, 1, 2, 6
JPEG = 7
APERIO_YCBCR = 33003  # JPEG 2000 that tifffile decodes without turning YCbCr into RGB


class TiffSlideBackend:
    """See `Backend`. Flat images (one level, no tiles) are left to the `image` backend."""

    name = "tiffslide"

    def __init__(self, path: str) -> None:
        self.path = path
        self.bounds: Box | None = None
        self._lock = threading.Lock()
        damage = tiff_damage(path)
        if damage:
            raise SlideError(damage)
        try:
            self._read_header()
            sample = self._samples(len(self.levels) - 1, Box(0, 0, *self.levels[-1]).overlap(Box(0, 0, 4096, 4096)))
        except SlideError:
            raise
        except Exception as error:  # tiffslide, tifffile, zarr and imagecodecs raise anything
            raise SlideError(reason(error, path)) from error
        self._bits = bit_depth(sample)
        to_rgb(sample[:1, :1], self._bits)

    def _read_header(self) -> None:
        from tiffslide import TiffSlide

        with warnings.catch_warnings():
            # tiffslide warns that a vendor's other properties are not parsed; none of them is used here.
            warnings.simplefilter("ignore", UserWarning)
            self._slide = TiffSlide(self.path)
            said = dict(self._slide.properties)
        self.levels = tuple((int(w), int(h)) for w, h in self._slide.level_dimensions)
        self._ratios = tuple(float(r) for r in self._slide.level_downsamples)
        page: Any = self._slide.ts_tifffile.series[int(said.get("tiffslide.series-index") or 0)].pages[0]
        if len(self.levels) == 1 and not page.is_tiled:
            raise SlideError("it is a flat image, neither tiled nor a pyramid")
        photometric, compression = int(page.photometric), int(page.compression)
        known = photometric in (MINISWHITE, MINISBLACK, RGB) or (photometric == YCBCR and compression == JPEG)
        if not known or compression == APERIO_YCBCR:
            raise SlideError(f"its colours ({page.photometric.name}, {page.compression.name}) are not supported")
        self._inverted = photometric == MINISWHITE
        self.vendor = str(said.get("tiffslide.vendor") or "generic-tiff")
        # tiffslide itself turns to the resolution tags where a header has no µm/px, and then says so with this key.
        from_tags = self.vendor == "generic-tiff" or (self.vendor == "aperio" and "tiff.XResolution" in said)
        scanner = stated(said.get("tiffslide.mpp-x"), said.get("tiffslide.mpp-y"))
        self.mpp, self.mpp_doubt = from_tiff(page) if from_tags else scanner
        self.properties: Mapping[str, str] = {key: str(value) for key, value in said.items() if value is not None}

    def read(self, level: int, box: Box) -> Pixels:
        """See `Backend.read`."""
        return to_rgb(self._samples(level, box), self._bits)

    def identity(self) -> dict[str, Any]:
        """See `Backend.identity`."""
        return identity_of(self.path)

    def close(self) -> None:
        """See `Backend.close`."""
        self._slide.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return TiffSlideBackend, (self.path,)

    def _samples(self, level: int, box: Box) -> np.ndarray:
        ratio = self._ratios[level]
        place = _level0(box.x, ratio), _level0(box.y, ratio)
        with self._lock:  # one TiffFile has one file position
            array = self._slide.read_region(place, level, (box.w, box.h), as_array=True, padding=False)
        if self._inverted:
            array = np.iinfo(array.dtype).max - array
        return array


def _level0(at: int, ratio: float) -> int:
    """A level-0 position that tiffslide, which divides by the ratio and cuts off, turns into `at`."""
    place = int(at * ratio)
    while int(place / ratio) < at:
        place += 1
    return place
