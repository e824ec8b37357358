"""Which images a TIFF holds, and which of its directories are levels of them.

    OME-TIFF            the images of its XML; an image's levels are the sub-directories of its planes
    Aperio SVS          one image: the tiled directories; the others are thumbnail, label and macro
    everything else     every directory that calls itself neither reduced nor a mask (NewSubfileType) is an image of its
                        own; its levels are its sub-directories, and the reduced directories that follow it

A level has the colours and the samples of level 0, its shape within a pixel, and a size of its own: a mask, a label or a
macro picture among the reduced directories is none. Which of several images is the slide is decided in `choice`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wsiseg.errors import SlideError
from wsiseg.slides.backend import downsample_range
from wsiseg.slides.resolution import Resolution, from_tiff, stated
from wsiseg.slides.tiff.colours import MASK, kind_of

Pages = tuple[Any, ...]  # tifffile pages of one level: one, or red, green and blue
REDUCED_PAGE, MASK_PAGE = 1, 4  # bits of NewSubfileType

LEAST_STEP = 0.95  # of the side of a level, at most, for the next one
AXES = {"Z": "z planes", "T": "time points", "C": "channels"}
APERIO_MPP = re.compile(r"\|\s*MPP\s*=\s*([^|\s]+)")


@dataclass(frozen=True, slots=True)
class TiffImage:
    """One image of a TIFF.

    Attributes:
        size: (width, height) of level 0 in px
        levels: the pages of every level, level 0 first, sizes falling
        name: as the file has it, or empty
        unfit: why it is not a single picture; empty when it is one
        stated: µm/px as a description has it; None: ask the resolution tags
        notes: what looked like a level and is none, and the like
    """

    size: tuple[int, int]
    levels: tuple[Pages, ...]
    name: str = ""
    unfit: str = ""
    stated: Resolution | None = None
    notes: tuple[str, ...] = ()

    @property
    def mpp(self) -> Resolution:
        """µm/px of level 0 and why a stated one is not believed."""
        return from_tiff(self.levels[0][0]) if self.stated is None else self.stated


def is_level(full: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether an image of `size` px can be one of `full` px made smaller: it has the same shape within a pixel."""
    if min(size) < 1 or alike(full, size):
        return False
    lowest, highest = downsample_range(full, size)
    return lowest <= highest


def alike(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two images are of one size or nearly: no level is smaller by so little."""
    return all(min(m, n) > LEAST_STEP * max(m, n) for m, n in zip(a, b, strict=True))


def pyramid(base: Pages, candidates: Iterable[Pages]) -> tuple[tuple[Pages, ...], tuple[str, ...]]:
    """Level 0 with those of the candidates that are levels of it, sizes falling, and a note about each other one."""
    full, kind = size_of(base[0]), kind_of(base[0])
    levels, notes = {full: base}, []
    for pages in candidates:
        size = size_of(pages[0])
        if any(page.is_tiled != base[0].is_tiled for page in pages):
            continue  # strips among tiles are a thumbnail
        if any(kind_of(page) != kind for page in pages):
            why = "other colours than the slide"
        elif any(alike(size, level) for level in levels):
            why = "the size of another level"
        elif len({size_of(page) for page in pages}) > 1 or not is_level(full, size):
            why = "another shape than the slide"
        else:
            levels[size] = pages
            continue
        notes.append(f"a reduced image of {size[0]} × {size[1]} px has {why} and is not a level")
    return tuple(levels[size] for size in sorted(levels, reverse=True)), tuple(notes)


def size_of(page: Any) -> tuple[int, int]:
    """(width, height) of a tifffile page in px."""
    return int(page.imagewidth), int(page.imagelength)


def sub_pages(page: Any) -> list[Any]:
    """The sub-directories of a tifffile page that are pictures."""
    return [sub for sub in page.pages if not is_mask(sub)] if page.subifds else []


def is_mask(page: Any) -> bool:
    """Whether a page is a transparency mask and no picture."""
    return bool(int(page.subfiletype) & MASK_PAGE) or int(page.photometric) == MASK


def plain_images(tiff: Any) -> tuple[TiffImage, ...]:
    """The images of a TIFF that says nothing but its tags."""
    # A file all of whose pages are masks is a bilevel scan.
    pages = [page for page in tiff.pages if not is_mask(page)] or list(tiff.pages)
    bases = [i for i, page in enumerate(pages) if not int(page.subfiletype) & REDUCED_PAGE] or [0]
    images = _grouped(pages, bases)
    cut = tiff.series[0] if tiff.is_shaped and len(tiff.pages) == 1 else None
    if cut is not None and math.prod(cut.shape) > math.prod(pages[0].shape):
        return (replace(images[0], unfit=_unfit(cut.axes, cut.shape)),)
    return images


def aperio_images(tiff: Any) -> tuple[TiffImage, ...]:
    """The image of an Aperio slide; several where it is a stack of focal planes."""
    pages = [page for page in tiff.pages if page.is_tiled and not is_mask(page)]
    if not pages or pages[0].offset != tiff.pages[0].offset:
        raise SlideError("its first image is not tiled")
    top = max(pages, key=lambda page: math.prod(size_of(page)))
    bases = [i for i, page in enumerate(pages) if size_of(page) == size_of(top) and kind_of(page) == kind_of(top)]
    images = _grouped(pages, bases, strays=False)
    said = APERIO_MPP.search(tiff.pages[0].description or "")
    return tuple(replace(image, stated=stated(said[1], None) if said else (None, "")) for image in images)


def _grouped(pages: Sequence[Any], bases: Sequence[int], *, strays: bool = True) -> tuple[TiffImage, ...]:
    """The images that start at `bases`, each with those of the other pages that fit and follow it.

    A page that fits nowhere is an image too, if `strays` says so.
    """
    belongs: dict[int, list[int]] = {base: [] for base in bases}
    lonely = []
    kinds, sizes = [kind_of(page) for page in pages], [size_of(page) for page in pages]
    for i in sorted(set(range(len(pages))) - set(bases)):
        fits = [b for b in bases if kinds[b] == kinds[i] and is_level(sizes[b], sizes[i])]
        before = [b for b in fits if b < i]
        if fits:
            belongs[before[-1] if before else fits[0]].append(i)
        else:
            lonely.append(i)
    # Where images are alike and do not have the same levels, nobody knows whose the levels are.
    for like in {(sizes[b], kinds[b]) for b in bases}:
        group = [b for b in bases if (sizes[b], kinds[b]) == like]
        if len({tuple(sizes[i] for i in belongs[b]) for b in group}) > 1:
            belongs |= {b: [] for b in group}
    found = {}
    for base, own in belongs.items():
        levels, notes = pyramid((pages[base],), [(page,) for page in sub_pages(pages[base])])
        if len(levels) == 1:
            levels, more = pyramid((pages[base],), [(pages[i],) for i in own])
            notes += more
        found[base] = TiffImage(sizes[base], levels, notes=notes)
    main = max(bases, key=lambda b: math.prod(sizes[b]))
    for i in lonely:
        if strays and not any(alike(sizes[i], sizes[b]) for b in bases):
            found[i] = TiffImage(sizes[i], ((pages[i],),))
        _, notes = pyramid((pages[main],), [(pages[i],)])
        found[main] = replace(found[main], notes=found[main].notes + notes)
    return tuple(found[i] for i in sorted(found))


def described_image(series: Any, kind: str) -> TiffImage:
    """An image as a microscope's program describes it: tifffile knows the axes of its `series`."""
    height, width = (int(series.shape[series.axes.index(a)]) if a in series.axes else 0 for a in "YX")
    if series.axes not in ("YX", "YXS", "SYX") or len(series.pages) != 1 or series.pages[0] is None:
        return TiffImage((width, height), (), series.name or "", _unfit(series.axes, series.shape))
    page = series.pages[0].aspage()
    levels, notes = pyramid((page,), [(p,) for p in sub_pages(page)])
    return TiffImage(size_of(page), levels, series.name or kind, notes=notes)


def _unfit(axes: str, shape: Sequence[int]) -> str:
    return not_one_picture((n, AXES.get(a, "images")) for a, n in zip(axes, shape, strict=True) if a not in "YXS")


def not_one_picture(what: Iterable[tuple[int, str]]) -> str:
    """The reason for refusing a stack."""
    said = " × ".join(f"{n} {name}" for n, name in what if n > 1) or "several images"
    return f"it is a stack of {said}, not one picture, so export the plane that you need as a file of its own"
