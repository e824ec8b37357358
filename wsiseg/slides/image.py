"""Ordinary images as slides of one level: PNG, JPEG, WebP, BMP, flat TIFF. They are decoded into memory once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from PIL import Image

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import FileBackend, Pixels, UnfitSlideError, reason
from wsiseg.slides.pixels import bit_depth, to_rgb
from wsiseg.slides.resolution import plain
from wsiseg.slides.tiff.choice import chosen_image
from wsiseg.slides.tiff.codecs import JPEG, NONE
from wsiseg.slides.tiff.colours import SEPARATE, YCBCR
from wsiseg.slides.tiff.layout import is_tiff, open_tiff, orientation_of, require_whole
from wsiseg.slides.tiff.tiles import segments_of, tail_of_zeros

# Pillow's own limit against decompression bombs; 13,377 × 13,377 px, 537 MB as RGB
MAX_PIXELS = 178_956_970
TOO_LARGE = (
    "as a flat image of {} px it would fill the memory, so make it a tiled pyramid first, "
    "for instance with `vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg`"
)
OLD_JPEG = 6


class ImageBackend(FileBackend):
    """See `Backend`. Orientation tags are not obeyed: the plane is the one that is stored."""

    name = "image"

    def __init__(self, path: str, series: int | None = None) -> None:
        super().__init__(path, series)
        try:
            with open(path, "rb") as file:
                tiff = is_tiff(file.read(4))
            if tiff:
                self._read_tiff()
            else:
                self._read_picture()
        except (SlideError, MemoryError):
            raise
        except Exception as error:  # Pillow, tifffile and imagecodecs raise anything
            raise SlideError(f"it cannot be decoded as an image ({reason(error, path)})") from error
        self._pixels.flags.writeable = False
        self.levels = ((self._pixels.shape[1], self._pixels.shape[0]),)

    def read(self, level: int, box: Box) -> Pixels:
        return self._pixels[box.slices].copy()

    def _read_tiff(self) -> None:
        require_whole(self.path)
        with open_tiff(self.path) as tiff:
            chosen = chosen_image(tiff, self.asked_series)
            pages, colours = chosen.image.levels[0], chosen.colours
            page: Any = pages[0]
            _guard(page.imagewidth, page.imagelength)
            self.vendor, self.series, self.notes = "tiff", chosen.series, chosen.notes
            self.mpp, self.mpp_doubt = chosen.image.mpp
            for one in pages:
                packed = int(one.compression) != NONE
                for part in segments_of(one, tiff.filehandle.size):
                    if (part.counts == 0).any():
                        raise SlideError("parts of it are missing, and would be black")
                    self.notes += tail_of_zeros(tiff.filehandle, part, packed=packed)
            compression, photometric = int(page.compression), int(page.photometric)
            if compression == OLD_JPEG:  # imagecodecs has no decoder for it, libtiff (in Pillow) has
                if orientation_of(page) != 1:  # Pillow turns TIFFs by their tag
                    raise SlideError("it is an old-style JPEG TIFF with an orientation tag")
                with Image.open(self.path) as image:
                    self._pixels = np.array(image.convert("RGB"))
                return
            if photometric == YCBCR and compression != JPEG:
                raise SlideError(f"its colours ({page.photometric.name}, {page.compression.name}) are not supported")
            samples = np.stack([one.asarray() for one in pages], -1) if len(pages) > 1 else page.asarray()
            if int(page.planarconfig) == SEPARATE and len(pages) == 1 and samples.ndim == 3:
                samples = np.moveaxis(samples, 0, -1)
            samples = samples[..., None] if samples.ndim == 2 else samples
            self._pixels = colours.rgb(samples, colours.depth(samples[..., : colours.count]))

    def _read_picture(self) -> None:
        if self.asked_series not in (None, 0):
            raise UnfitSlideError("it holds one image, number 0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_guard` has its own limit
            try:
                image = Image.open(self.path)
            except Image.DecompressionBombError as error:
                raise SlideError(TOO_LARGE.format(f"more than {MAX_PIXELS:,}")) from error
        with image:
            _guard(*image.size)
            dots = image.info.get("dpi", (0, 0))
            self.mpp, self.mpp_doubt = plain(*(25400 / float(d) if d and float(d) > 0 else None for d in dots))
            self.vendor = str(image.format).lower()
            if image.mode in ("I", "F"):
                raise SlideError(f"its pixels are {'32-bit' if image.mode == 'I' else 'float'} numbers")
            if image.mode.startswith("I;16"):
                array = np.asarray(image).astype(np.uint16)
            else:
                transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
                array = np.asarray(image.convert("RGBA" if transparent else "RGB"))
            self._pixels = to_rgb(array, bit_depth(array))


def _guard(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise SlideError(f"it has {width} × {height} px, so there is nothing in it")
    if width * height > MAX_PIXELS:
        raise SlideError(TOO_LARGE.format(f"{width:,} × {height:,}"))
