"""Which directories of a TIFF are the levels of its slide, and where their tiles are.

    Aperio SVS          every tiled directory is a level; the others are thumbnail, label and macro
    generic pyramid     the first directory, and every tiled one that calls itself reduced (NewSubfileType)
    Philips             the same, but a level's size is told by its resolution: the directories are padded
    OME-TIFF            SubIFDs, as its XML says; of several images the first

OpenSlide's word on sizes, µm/px, bounds and vendor counts wherever it reads the file, since other programs show
coordinates by it; that of the OME-XML counts for OME-TIFF, whose levels OpenSlide does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.openslide import OpenSlideBackend
from wsiseg.slides.resolution import Resolution, from_tiff
from wsiseg.slides.tiff.codecs import Decode, decoder_of, jpeg_file_of

LIKE_OPENSLIDE = ("aperio", "generic-tiff", "philips")  # the vendors whose rules are known here
UPRIGHT = 1


@dataclass(frozen=True, slots=True)
class TilePlane:
    """The tiles of one level.

    Attributes:
        width, height: px of the level
        tile: (width, height) of a tile in px
        columns: tiles in a row
        offsets, counts: where each tile is in the file and how long it is, in bytes, row by row; nothing is where the
            length is 0
        decode: from a tile's bytes to its pixels
        factors: by which a tile can be shrunk while it is decoded
        jpeg: from a tile's bytes to a JPEG file of its RGB pixels, without decoding; None where it is none
    """

    width: int
    height: int
    tile: tuple[int, int]
    columns: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: Decode
    factors: tuple[int, ...]
    jpeg: Callable[[bytes], bytes] | None


@dataclass(frozen=True, slots=True)
class TiffFacts:
    """What the header of a TIFF slide says; see `Backend` for the meaning of the fields."""

    planes: tuple[TilePlane, ...]
    resolution: Resolution
    vendor: str
    bounds: Box | None
    properties: Mapping[str, str]


def facts_of(path: str) -> TiffFacts:
    """Reads the header of a tiled TIFF.

    Raises:
        SlideError: it is no slide that can be read tile by tile here; the message is the bare reason.
    """
    import tifffile

    try:
        theirs: OpenSlideBackend | None = OpenSlideBackend(path)
    except SlideError:  # it lacks the codec; or the reason is one that is met again below
        theirs = None
    try:
        with tifffile.TiffFile(path) as tiff:
            if tiff.is_ome:
                return _ome(tiff)
            return _like_openslide(tiff, theirs) if theirs else _generic(tiff)
    finally:
        if theirs:
            theirs.close()


def _ome(tiff: Any) -> TiffFacts:
    series = tiff.series[0]
    if series.axes not in ("YXS", "YX"):
        raise SlideError(f"its image has the axes {series.axes}, not one plane")
    pages = [level.pages[0] for level in series.levels]
    planes = tuple(_plane(page, (page.imagewidth, page.imagelength)) for page in pages)
    return _by_tifffile(pages[0], planes)


def _generic(tiff: Any) -> TiffFacts:
    if tiff.is_svs:
        raise SlideError("it is an Aperio slide that OpenSlide does not read")
    pages = _level_pages(tiff.pages, every=False)
    first = pages[0]
    if any(page.is_tiled and page.shape == first.shape for page in list(tiff.pages)[1:]):
        raise SlideError("it is a stack of images, not one plane")
    return _by_tifffile(first, tuple(_plane(page, (page.imagewidth, page.imagelength)) for page in pages))


def _by_tifffile(page: Any, planes: tuple[TilePlane, ...]) -> TiffFacts:
    texts = {
        f"tiff.{tag.name}": str(tag.value)
        for tag in page.tags.values()
        if tag.name in ("ImageDescription", "Software", "Make", "Model", "Artist", "Copyright", "DateTime")
    }
    return TiffFacts(planes, from_tiff(page), "generic-tiff", None, texts)


def _like_openslide(tiff: Any, theirs: OpenSlideBackend) -> TiffFacts:
    if theirs.vendor not in LIKE_OPENSLIDE:
        raise SlideError(f"the layout of {theirs.vendor!r} is left to OpenSlide")
    pages = _level_pages(tiff.pages, every=theirs.vendor == "aperio")
    sizes = [(page.imagewidth, page.imagelength) for page in pages]
    padded = theirs.vendor == "philips"
    if len(sizes) != len(theirs.levels) or not all(
        own == said or (padded and own[0] >= said[0] and own[1] >= said[1])
        for own, said in zip(sizes, theirs.levels, strict=True)
    ):
        raise SlideError(f"its directories {sizes} are not the levels {list(theirs.levels)} that OpenSlide sees")
    planes = tuple(_plane(page, size) for page, size in zip(pages, theirs.levels, strict=True))
    if theirs.vendor == "aperio" and any((plane.counts == 0).any() for plane in planes[1:]):
        raise SlideError("tiles are missing in its lower levels, which OpenSlide fills from the finer ones")
    return TiffFacts(planes, (theirs.mpp, theirs.mpp_doubt), theirs.vendor, theirs.bounds, theirs.properties)


def _level_pages(pages: Sequence[Any], *, every: bool) -> list[Any]:
    """The directories that are levels, the largest first."""
    found = [p for i, p in enumerate(pages) if p.is_tiled and (every or i == 0 or p.is_reduced)]
    if not found or found[0] is not pages[0]:
        raise SlideError("its first image is not tiled")
    return sorted(found, key=lambda page: -int(page.imagewidth))


def _plane(page: Any, size: tuple[int, int]) -> TilePlane:
    """Checks a directory, so that nothing can go wrong later except in the tiles themselves."""
    if not page.is_tiled or int(page.imagedepth) != 1:
        raise SlideError("a level is not tiled")
    orientation = int(page.tags["Orientation"].value) if "Orientation" in page.tags else UPRIGHT
    if orientation != UPRIGHT:
        raise SlideError("it has an orientation tag")
    tile = int(page.tilewidth), int(page.tilelength)
    if min(tile) < 1 or min(size) < 1:
        raise SlideError(f"it has {size[0]} × {size[1]} px in tiles of {tile[0]} × {tile[1]} px")
    decode, factors = decoder_of(page)
    columns, rows = -(-int(page.imagewidth) // tile[0]), -(-int(page.imagelength) // tile[1])
    offsets, counts = (np.asarray(v, np.int64) for v in (page.dataoffsets, page.databytecounts))
    if not len(offsets) == len(counts) == columns * rows:
        raise SlideError(f"it lists {len(offsets)} tiles where there should be {columns * rows}")
    usable = tuple(f for f in factors if min(size) >= f)
    return TilePlane(*size, tile, columns, offsets, counts, decode, usable, jpeg_file_of(page))
