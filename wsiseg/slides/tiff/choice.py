"""Which image of a TIFF is the slide.

The largest image is the slide, unless a person names another one. A stack, channels on pages of their own, and
fluorescence are refused, since nobody means the first plane alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsiseg.errors import SlideError
from wsiseg.slides.backend import UnfitSlideError
from wsiseg.slides.tiff.colours import Colours, colours_of, notes_of
from wsiseg.slides.tiff.images import TiffImage, aperio_images, described_image, plain_images, size_of
from wsiseg.slides.tiff.ome import ome_images

# Kinds of files that say in a text what their pages are: tifffile reads it
DESCRIBED = ("imagej", "stk", "lsm", "fluoview", "micromanager", "nih", "scanimage")
LEFT_TO_OPENSLIDE = ("scn", "bif", "ndpi", "philips")  # by tifffile's names of them
LISTED = 6  # images in a message


@dataclass(frozen=True, slots=True)
class Chosen:
    """The image of a TIFF that is the slide.

    Attributes:
        image: the image
        series: its number in the file
        colours: of its pixels
        first: whether it is the first directory, as readers take it that do not look further
        notes: what a person should know
    """

    image: TiffImage
    series: int
    colours: Colours
    first: bool
    notes: tuple[str, ...]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every level."""
        return tuple(size_of(pages[0]) for pages in self.image.levels)


def chosen_image(tiff: Any, series: int | None) -> Chosen:
    """The image of an open tifffile.TiffFile that is the slide: the one asked for, or the largest.

    Raises:
        UnfitSlideError: it is not a single picture, or there are several that could be meant
        SlideError: its colours are not supported here, or its layout is a scanner's own that OpenSlide knows
    """
    if layout := next((kind for kind in LEFT_TO_OPENSLIDE if kind in tiff.flags), None):
        raise SlideError(f"the layout of {layout!r} is left to OpenSlide")
    images = images_of(tiff)
    number, notes = choose(images, series)
    image = images[number]
    if image.unfit:
        raise UnfitSlideError(image.unfit)
    if min(image.size) < 1:
        raise UnfitSlideError(f"it has {image.size[0]} × {image.size[1]} px, so there is nothing in it")
    colours = colours_of(image.levels[0])
    first = len(image.levels[0]) == 1 and image.levels[0][0].offset == tiff.pages[0].offset
    return Chosen(image, number, colours, first, (*notes, *image.notes, *notes_of(colours)))


def images_of(tiff: Any) -> tuple[TiffImage, ...]:
    """The images of an open tifffile.TiffFile, in the order of the file."""
    if (found := ome_images(tiff)) is not None:
        return found
    if described := [kind for kind in DESCRIBED if kind in tiff.flags]:
        return tuple(described_image(series, described[0]) for series in tiff.series)
    return aperio_images(tiff) if tiff.is_svs else plain_images(tiff)


def choose(images: Sequence[TiffImage], series: int | None) -> tuple[int, tuple[str, ...]]:
    """The number of the image that is the slide, and what to say about that.

    Raises:
        UnfitSlideError: there is no such image, or several could be meant
    """
    if not images:
        raise UnfitSlideError("it holds no image")
    if series is not None:
        if not 0 <= series < len(images):
            raise UnfitSlideError(f"it has no image {series}, but {_list(images)}")
        return series, ()
    if len(images) == 1:
        return 0, ()
    largest = max(math.prod(image.size) for image in images)
    found = [i for i, image in enumerate(images) if math.prod(image.size) == largest]
    pictures = found if len(found) == 1 else [i for i in found if _colourful(images[i])]
    if len(pictures) != 1:
        width, height = images[found[0]].size
        numbers = ", ".join(map(str, found[:LISTED])) + (", …" if len(found) > LISTED else "")
        raise UnfitSlideError(
            f"it is a stack of {len(found)} images of {width} × {height} px (planes, channels or time points), "
            f"so choose one with --series, {numbers}"
        )
    number = pictures[0]
    return number, (f"it holds {_list(images)}: the largest, {number}, is read, and --series chooses another",)


def _colourful(image: TiffImage) -> bool:
    if not image.levels:
        return False
    try:
        return colours_of(image.levels[0]).count == 3
    except SlideError:
        return False


def _list(images: Sequence[TiffImage]) -> str:
    each = (
        f"{i} of {image.size[0]} × {image.size[1]} px" + (f" {image.name[:40]!r}" if image.name else "")
        for i, image in enumerate(images[:LISTED])
    )
    more = f" and {len(images) - LISTED} more" if len(images) > LISTED else ""
    return f"{len(images)} image{'s' if len(images) > 1 else ''} ({', '.join(each)}{more})"
