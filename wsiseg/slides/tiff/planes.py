"""The positions of the tiles of a TIFF slide, level by level, and the facts in its header.

    Aperio, generic TIFF, OME-TIFF    the levels of the image that `choice` takes
    Philips                           the tiled directories that call themselves reduced; they are padded, and a level's
                                      size is told by its resolution
    other scanners                    left to OpenSlide

µm/px, bounds and vendor are those that OpenSlide states wherever it reads the same image, because other programs place
coordinates by them. In OME-TIFF, whose levels OpenSlide does not see, the OME-XML states the µm/px.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import UnfitSlideError
from wsiseg.slides.openslide import OpenSlideBackend, as_openslide_reads
from wsiseg.slides.resolution import Resolution
from wsiseg.slides.tiff.choice import Chosen, chosen_image
from wsiseg.slides.tiff.codecs import CONTIGUOUS, NONE, Decode, decoder_of, jpeg_file_of, samples_of
from wsiseg.slides.tiff.colours import Colours, colours_of
from wsiseg.slides.tiff.images import Pages, size_of
from wsiseg.slides.tiff.layout import open_tiff, orientation_of
from wsiseg.slides.tiff.tiles import Segments, incomplete, overlapping, segments_of, tail_of_zeros

LIKE_OPENSLIDE = ("aperio", "generic-tiff", "philips")  # the vendors whose rules are known here
MAX_TILE_PX = 2**26  # 8192 × 8192 px
SAMPLED_TILES = 64
TEXTS = ("ImageDescription", "Software", "Make", "Model", "Artist", "Copyright", "DateTime")


@dataclass(frozen=True, slots=True, eq=False)
class TilePlane(Segments):
    """The tiles of one level; one without bytes is missing.

    Attributes:
        width, height: px of the level
        tile: (width, height) of a tile in px
        columns: tiles in a row
        decode: from a tile's bytes to its pixels
        factors: by which a tile can be shrunk while it is decoded
        jpeg: from a tile's bytes to a JPEG file of its RGB pixels, without decoding; None where it is none
        planes: green and blue, where each colour has tiles of its own; `decode` is then for grey pixels
    """

    width: int
    height: int
    tile: tuple[int, int]
    columns: int
    decode: Decode
    factors: tuple[int, ...]
    jpeg: Callable[[bytes], bytes] | None
    planes: tuple[TilePlane, ...] = ()


@dataclass(frozen=True, slots=True)
class TiffFacts:
    """What the header of a TIFF slide says; see `Backend` and `TiffBackend` for the meaning of the fields."""

    planes: tuple[TilePlane, ...]
    resolution: Resolution
    vendor: str
    bounds: Box | None
    properties: Mapping[str, str]
    series: int
    notes: tuple[str, ...]
    like_openslide: bool


def facts_of(path: str, series: int | None = None) -> TiffFacts:
    """Reads the header of a tiled TIFF.

    Raises:
        UnfitSlideError: it is damaged, or not a single picture
        SlideError: it is not a slide that can be read tile by tile here; the message is the bare reason.
    """
    theirs = as_openslide_reads(path)
    try:
        with open_tiff(path) as tiff:
            if theirs and theirs.vendor not in LIKE_OPENSLIDE:
                raise SlideError(f"the layout of {theirs.vendor!r} is left to OpenSlide")
            if theirs and theirs.vendor == "philips":
                return _philips(tiff, theirs, series)
            return _facts(tiff, theirs, chosen_image(tiff, series))
    finally:
        if theirs:
            theirs.close()


def _facts(tiff: Any, theirs: OpenSlideBackend | None, chosen: Chosen) -> TiffFacts:
    image, colours, page = chosen.image, chosen.colours, chosen.image.levels[0][0]
    planes, notes = _levels(tiff, theirs, chosen)
    same = bool(theirs) and chosen.first and colours.bits == 8 and not colours.alpha
    same = same and int(page.samplesperpixel) in (1, 3) and int(page.planarconfig) == CONTIGUOUS
    ome = image.stated is not None and not tiff.is_svs
    vendor = "ome-tiff" if ome else "aperio" if tiff.is_svs else "generic-tiff"
    about = {f"tiff.{tag.name}": str(tag.value) for tag in page.tags.values() if tag.name in TEXTS}
    facts = TiffFacts(planes, image.mpp, vendor, None, about, chosen.series, notes, same)
    if not (same and theirs) or ome:
        return facts
    told: Resolution = (theirs.mpp, theirs.mpp_doubt)
    if told == (None, "") and theirs.vendor == "generic-tiff":
        told = image.mpp  # OpenSlide knows inches and centimetres only
    return replace(facts, resolution=told, vendor=theirs.vendor, bounds=theirs.bounds, properties=theirs.properties)


def _levels(
    tiff: Any, theirs: OpenSlideBackend | None, chosen: Chosen
) -> tuple[tuple[TilePlane, ...], tuple[str, ...]]:
    """The levels that can be read, and what a person should know about the image and its tiles."""
    image, file = chosen.image, tiff.filehandle
    page = image.levels[0][0]
    if not page.is_tiled:
        raise SlideError("its image is not tiled")
    depth = _depth(file, image.levels[-1], chosen.colours)
    top, *others = (_plane(pages, size_of(pages[0]), chosen.colours, depth, file.size) for pages in image.levels)
    missing = int((top.counts == 0).sum())
    if missing == top.counts.size:
        raise UnfitSlideError(f"none of its {missing:,} tiles holds a byte, so copy it again from where it came")
    if theirs and theirs.vendor == "aperio":
        if chosen.series == 0 and theirs.levels[0] != chosen.sizes[0]:
            raise SlideError(f"its level 0 {chosen.sizes[0]} is not the {theirs.levels[0]} that OpenSlide sees")
        if any((plane.counts == 0).any() for plane in others):
            raise SlideError("tiles are missing in its lower levels, which OpenSlide fills from the finer ones")
    notes = [*chosen.notes]
    if missing:
        notes.append(f"{missing:,} of its {top.counts.size:,} tiles hold no bytes and are read as white")
    for plane in (part for level in (top, *others) for part in (level, *level.planes)):
        notes += tail_of_zeros(file, plane, packed=int(page.compression) != NONE)
        if shared := overlapping(plane):
            notes.append(
                f"the bytes of {shared:,} of its tiles belong to others as well, so its list of tiles is damaged: "
                "compare the file with the one that it was copied from"
            )
    kept = [top]
    for plane in others:
        if incomplete(top, plane):
            size = f"{plane.width} × {plane.height} px"
            notes.append(f"its level of {size} lacks tiles that level 0 has, and is left out")
        else:
            kept.append(plane)
    return tuple(kept), tuple(notes)


def _philips(tiff: Any, theirs: OpenSlideBackend, series: int | None) -> TiffFacts:
    if series not in (None, 0):
        raise UnfitSlideError("it holds one image, number 0")
    found = [p for i, p in enumerate(tiff.pages) if p.is_tiled and (i == 0 or p.is_reduced)]
    pages = sorted(found, key=lambda page: -int(page.imagewidth))
    sizes = [size_of(page) for page in pages]
    if len(sizes) != len(theirs.levels) or not all(
        own[0] >= said[0] and own[1] >= said[1] for own, said in zip(sizes, theirs.levels, strict=True)
    ):
        raise SlideError(f"its directories {sizes} are not the levels {list(theirs.levels)} that OpenSlide sees")
    colours = colours_of((pages[0],))
    planes = tuple(
        _plane((page,), size, colours, 8, tiff.filehandle.size) for page, size in zip(pages, theirs.levels, strict=True)
    )
    told = (theirs.mpp, theirs.mpp_doubt)
    return TiffFacts(planes, told, theirs.vendor, theirs.bounds, theirs.properties, 0, (), like_openslide=True)


def _plane(pages: Pages, size: tuple[int, int], colours: Colours, depth: int, file_size: int) -> TilePlane:
    """Checks a level's directories, so that nothing can go wrong later except in the tiles themselves."""
    page = pages[0]
    if not all(p.is_tiled for p in pages) or any(int(p.imagedepth) != 1 for p in pages):
        raise SlideError("a level is not tiled")
    if orientation_of(page) != 1:
        raise SlideError("it has an orientation tag")
    tile = int(page.tilewidth), int(page.tilelength)
    if min(*tile, *size) < 1:
        raise SlideError(f"it has {size[0]} × {size[1]} px in tiles of {tile[0]} × {tile[1]} px")
    if tile[0] * tile[1] > MAX_TILE_PX:
        raise UnfitSlideError(
            f"its tiles of {tile[0]:,} × {tile[1]:,} px would fill the memory, so make smaller ones of it"
        )
    if any(p.tilewidth != page.tilewidth or p.tilelength != page.tilelength for p in pages):
        raise UnfitSlideError("its colours have tiles of different sizes, so it is damaged")
    columns = -(-int(page.imagewidth) // tile[0])
    parts: list[TilePlane] = []  # one for each list of tiles: of the level, of each page or of each sample
    for p in pages:
        lists = segments_of(p, file_size)
        decode, factors = decoder_of(p, colours, depth)
        usable = tuple(f for f in factors if min(size) >= f)
        jpeg = jpeg_file_of(p) if colours.plain else None
        parts += (TilePlane(t.offsets, t.counts, *size, tile, columns, decode, usable, jpeg) for t in lists)
    if any(((part.counts == 0) != (parts[0].counts == 0)).any() for part in parts):
        raise UnfitSlideError("tiles are missing in some of its colours, so copy it again from where it came")
    return replace(parts[0], planes=tuple(parts[1:]))


def _depth(file: Any, pages: Pages, colours: Colours) -> int:
    """Bits in use: of 16 bits, by a look at tiles all over the smallest level."""
    if colours.bits < 16:
        return colours.bits
    brightest = np.zeros(1, np.uint16)
    for page in pages:
        decode = samples_of(page)
        tiles = segments_of(page, file.size)[0]
        there = np.flatnonzero(tiles.counts > 0)
        for index in there[:: max(1, len(there) // SAMPLED_TILES)]:
            file.seek(int(tiles.offsets[index]))
            try:
                found = decode(file.read(int(tiles.counts[index])))
            except Exception as error:  # decoders raise anything
                raise SlideError(f"a tile cannot be decoded ({error})") from error
            brightest = np.maximum(brightest, found[..., : colours.count].max())
    return colours.depth(brightest)
