"""What the samples of a TIFF image mean: TIFF 6.0, PhotometricInterpretation and ExtraSamples (section 18).

A fourth sample beside red, green and blue is alpha only where ExtraSamples says so; one without a meaning is left out.
Several samples that are no colours, as fluorescence scanners write them, are not a picture and are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import SlideError
from wsiseg.slides.backend import Pixels, UnfitSlideError
from wsiseg.slides.pixels import bit_depth, over_white, scaled, to_rgb

MINISWHITE, MINISBLACK, RGB, PALETTE, MASK, YCBCR = 0, 1, 2, 3, 4, 6
PREMULTIPLIED, STRAIGHT = 1, 2  # ExtraSamples: alpha that the colours are multiplied by, and alpha that they are not
SEPARATE = 2  # PlanarConfiguration


@dataclass(frozen=True)
class Colours:
    """How to make RGB of samples (h, w, n).

    Attributes:
        count: of the samples that are colours: 1 grey, 3 red, green, blue; what follows them is alpha or nothing
        bits: of a sample, 1 to 16
        alpha: 0 none, 1 or 2 as ExtraSamples has it
        inverted: white is 0
        palette: uint8 (n, 3), colours that the samples are numbers of; None without one
    """

    count: int
    bits: int
    alpha: int = 0
    inverted: bool = False
    palette: NDArray[np.uint8] | None = None

    @property
    def plain(self) -> bool:
        """Whether samples of 8 bits are grey or RGB as they stand."""
        return self.bits == 8 and not self.alpha and not self.inverted and self.palette is None

    def depth(self, sample: NDArray[np.generic]) -> int:
        """Bits in use, from a look at some of the pixels (see `wsiseg.slides.pixels`)."""
        return self.bits if self.bits < 16 else bit_depth(sample)

    def rgb(self, samples: NDArray[Any], depth: int) -> Pixels:
        """uint8 (h, w, 3) of samples (h, w, n) that use `depth` bits; transparent pixels are laid over white."""
        if self.palette is not None:
            if int(samples.max(initial=0)) >= len(self.palette):
                raise ValueError("a pixel has a number beyond the palette")
            return self.palette[samples[..., 0].astype(np.intp)]
        if self.inverted:
            top = 2**depth - 1
            samples = top - np.minimum(samples.astype(np.uint16), top)
        rgb = to_rgb(samples[..., : self.count], depth)
        if not self.alpha:
            return rgb
        alpha = scaled(samples[..., self.count, None], self.bits)
        if self.alpha == STRAIGHT:
            return over_white(np.concatenate([rgb, alpha], -1))
        return np.minimum(rgb.astype(np.uint16) + (255 - alpha), 255).astype(np.uint8)


def colours_of(pages: Sequence[Any]) -> Colours:
    """The colours of a level: of one tifffile page, or of three that hold red, green and blue.

    Raises:
        UnfitSlideError: its samples are no colours, or numbers without a known range
        SlideError: they are colours that are not supported here
    """
    page = pages[0]
    photometric, samples, bits = int(page.photometric), int(page.samplesperpixel), int(page.bitspersample)
    if page.dtype is None or np.dtype(page.dtype).kind not in "ub" or bits > 16:
        kind = page.dtype if page.dtype is not None else f"samples of {bits} bits"
        raise UnfitSlideError(f"its pixels are {kind}, not 8- or 16-bit whole numbers, so convert it first")
    if len(pages) == 3:
        return Colours(3, bits)
    extra = [int(e) for e in page.extrasamples or ()]
    if photometric == PALETTE and samples == 1 and page.colormap is not None:
        return Colours(1, bits, palette=(np.moveaxis(page.colormap, 0, -1) >> 8).astype(np.uint8))
    count = {MINISWHITE: 1, MINISBLACK: 1, RGB: 3, YCBCR: 3}.get(photometric)
    if count is None or samples < count:
        name = getattr(page.photometric, "name", page.photometric)
        raise SlideError(f"its colours ({name}, {samples} samples) are not supported")
    alpha = extra[0] if samples == count + 1 and extra and extra[0] in (PREMULTIPLIED, STRAIGHT) else 0
    what = ""
    if count == 1 and samples > 1 and not alpha:
        what = f"{samples} grey channels, as fluorescence scanners write them, and no colours"
    elif samples > count + 1:
        what = f"{samples} samples a pixel, of which red, green, blue and alpha are but 4"
    if what:
        raise UnfitSlideError(f"it has {what}, so export the channels that you need as one RGB picture")
    return Colours(count, bits, alpha, photometric == MINISWHITE)


def kind_of(page: Any) -> tuple[Any, ...]:
    """What the levels of one image have in common: colours, samples and their bits. JPEG's YCbCr is RGB in the end."""
    photometric = RGB if page.photometric == YCBCR else int(page.photometric)
    return photometric, int(page.samplesperpixel), page.bitspersample, str(page.dtype)


def notes_of(colours: Colours) -> tuple[str, ...]:
    """What a person should know about a picture of such colours."""
    notes = []
    if colours.count == 1 and colours.palette is None:
        notes.append("it has one channel, which is read as grey")
    if colours.bits == 16:
        notes.append("its 16 bits are reduced to 8: white is the smallest power of 2 above its brightest pixels")
    return tuple(notes)
