"""Ordinary images as slides of one level: PNG, JPEG, WebP, BMP, flat TIFF. They are decoded into memory once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import Pixels, UnfitSlideError, reason
from wsiseg.slides.identity import identity_of
from wsiseg.slides.pixels import bit_depth, to_rgb
from wsiseg.slides.resolution import Resolution, plain
from wsiseg.slides.tiff.choice import chosen_image
from wsiseg.slides.tiff.codecs import JPEG, NONE
from wsiseg.slides.tiff.colours import SEPARATE, YCBCR
from wsiseg.slides.tiff.layout import is_tiff, open_tiff, tiff_damage
from wsiseg.slides.tiff.tiles import segments_of, tail_of_zeros

# Pillow's own limit against decompression bombs; 13,377 × 13,377 px, 537 MB as RGB
MAX_PIXELS = 178_956_970
OLD_JPEG = 6


class ImageBackend:
    """See `Backend`. Orientation tags are not obeyed: the plane is the one that is stored."""

    name = "image"

    def __init__(self, path: str, series: int | None = None) -> None:
        self.path, self.series = path, 0
        self.notes: tuple[str, ...] = ()
        self.bounds: Box | None = None
        self.properties: Mapping[str, str] = {}
        try:
            with open(path, "rb") as file:
                tiff = is_tiff(file.read(4))
        except OSError as error:
            raise SlideError(f"it cannot be read ({error.strerror or error})") from error
        try:
            if tiff:
                self._pixels, (self.mpp, self.mpp_doubt), self.series, self.notes = _read_tiff(path, series)
                self.vendor = "tiff"
            else:
                if series not in (None, 0):
                    raise UnfitSlideError("it holds one image, number 0")
                self._pixels, (self.mpp, self.mpp_doubt), self.vendor = _read_picture(path)
        except (SlideError, MemoryError):
            raise
        except Exception as error:  # Pillow, tifffile and imagecodecs raise anything
            raise SlideError(f"it cannot be decoded as an image ({reason(error, path)})") from error
        self._pixels.flags.writeable = False
        self.levels: tuple[tuple[int, int], ...] = ((self._pixels.shape[1], self._pixels.shape[0]),)

    def read(self, level: int, box: Box) -> Pixels:
        """See `Backend.read`."""
        return self._pixels[box.slices].copy()

    def identity(self) -> dict[str, Any]:
        """See `Backend.identity`."""
        return identity_of(self.path)

    def close(self) -> None:
        """See `Backend.close`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageBackend, (self.path, self.series)


def _read_tiff(path: str, series: int | None) -> tuple[Pixels, Resolution, int, tuple[str, ...]]:
    damage = tiff_damage(path)
    if damage:
        raise SlideError(damage)
    with open_tiff(path) as tiff:
        chosen = chosen_image(tiff, series)
        pages, colours = chosen.image.levels[0], chosen.colours
        page: Any = pages[0]
        _guard(page.imagewidth, page.imagelength)
        notes = list(chosen.notes)
        for one in pages:
            for part in segments_of(one, tiff.filehandle.size):
                if (part.counts == 0).any():
                    raise SlideError("parts of it are missing, and would be black")
                notes += tail_of_zeros(tiff.filehandle, part.offsets, part.counts, packed=int(one.compression) != NONE)
        compression, photometric = int(page.compression), int(page.photometric)
        if compression == OLD_JPEG:  # imagecodecs has no decoder for it, libtiff (in Pillow) has
            pixels = _old_jpeg(path, page)
        elif photometric == YCBCR and compression != JPEG:
            raise SlideError(f"its colours ({page.photometric.name}, {page.compression.name}) are not supported")
        else:
            samples = np.stack([one.asarray() for one in pages], -1) if len(pages) > 1 else page.asarray()
            if int(page.planarconfig) == SEPARATE and len(pages) == 1 and samples.ndim == 3:
                samples = np.moveaxis(samples, 0, -1)
            samples = samples[..., None] if samples.ndim == 2 else samples
            pixels = colours.rgb(samples, colours.depth(samples[..., : colours.count]))
        return pixels, chosen.image.mpp, chosen.series, tuple(notes)


def _old_jpeg(path: str, page: Any) -> Pixels:
    orientation = int(page.tags["Orientation"].value) if "Orientation" in page.tags else 1
    if orientation != 1:  # Pillow turns TIFFs by their tag
        raise SlideError("it is an old-style JPEG TIFF with an orientation tag")
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _read_picture(path: str) -> tuple[Pixels, Resolution, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_guard` has its own limit
        try:
            image = Image.open(path)
        except Image.DecompressionBombError as error:
            raise SlideError(_too_large()) from error
    with image:
        _guard(*image.size)
        dots = image.info.get("dpi", (0, 0))
        x, y = (25400 / float(d) if d and float(d) > 0 else None for d in dots)
        kind = str(image.format).lower()
        if image.mode.startswith("I;16"):
            array = np.asarray(image).astype(np.uint16)
            return to_rgb(array, bit_depth(array)), plain(x, y), kind
        if image.mode in ("I", "F"):
            raise SlideError(f"its pixels are {'32-bit' if image.mode == 'I' else 'float'} numbers")
        transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        return to_rgb(np.asarray(image.convert("RGBA" if transparent else "RGB")), 8), plain(x, y), kind


def _guard(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise SlideError(f"it has {width} × {height} px, so there is nothing in it")
    if width * height > MAX_PIXELS:
        raise SlideError(_too_large(width, height))


def _too_large(*size: int) -> str:
    extent = f"{size[0]:,} × {size[1]:,} px" if size else f"more than {MAX_PIXELS:,} px"
    return (
        f"as a flat image of {extent} it would fill the memory, so make it a tiled pyramid first, "
        "for instance with `vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg`"
    )
