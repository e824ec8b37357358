"""The interface of a reader of one slide format: levels, and pixels of boxes inside a level.

Resolution choice, resampling, padding and error wording are `Slide`'s work, so that a backend stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.pyramid import downsample

Pixels = NDArray[np.uint8]


class UnfitSlideError(SlideError):
    """The file is damaged, or not one picture: another reader that took it would show something else or nothing."""


def reason(error: BaseException, path: str) -> str:
    """What a library says is wrong, fit to stand inside a sentence that names the file itself."""
    said = str(error).replace(path, "the file").strip().rstrip(".")
    return " ".join(said.split()) or type(error).__name__


@runtime_checkable
class Backend(Protocol):
    """One open slide. `Slide` is the only user.

    A backend is opened by `Backend(path, series)` and raises SlideError with the bare reason when it cannot read the
    file, UnfitSlideError when nobody should (`open_slide` makes the sentence). It copies (`copy.copy`) and pickles by opening the path again, so that a slide
    can be sent to another process. `read` is safe from several threads at once.

    Attributes:
        name: the key of the backend in `BACKENDS`
        path: where the slide is
        levels: (width, height) of every level in px, level 0 first and the largest; widths fall
        mpp: µm per px of level 0 along x and along y as the file states it, None where it states nothing trustworthy
        mpp_doubt: why a resolution the file does state is not believed; empty when there is nothing to say
        vendor: the scanner or format family as the reader names it
        bounds: the non-empty region in px of level 0 as the header states it, None where it states nothing
        properties: everything else the header says, as text
        series: number of the image in a file of several, 0 in others
        notes: what a person should know about what is read, such as tiles that are missing
    """

    name: str
    path: str
    series: int
    notes: tuple[str, ...]
    levels: tuple[tuple[int, int], ...]
    mpp: tuple[float, float] | None
    mpp_doubt: str
    vendor: str
    bounds: Box | None
    properties: Mapping[str, str]

    def read(self, level: int, box: Box) -> Pixels:
        """The pixels of a box that lies inside the level.

        Args:
            level: index into `levels`
            box: px of that level, not beyond its edges, not empty

        Returns:
            uint8 (box.h, box.w, 3), RGB, an array of the caller's own; transparent pixels laid over white
        """
        ...

    def identity(self) -> dict[str, Any]:
        """Name, size in bytes and hash, as `wsiseg.slides.identity.identity_of(path)` gives them for a file."""
        ...

    def close(self) -> None:
        """Lets go of the file. Called once; nothing is read afterwards."""
        ...


@runtime_checkable
class ReducingBackend(Backend, Protocol):
    """A backend whose decoder can reduce the image while it decodes, faster than decoding everything.

    Such a reduced level has (width // factor, height // factor) px, and its pixel (x, y) stands for the square of
    factor × factor px of its level whose corner is at (factor · x, factor · y): nothing is shifted. Its pixels are not
    those of a mean over the squares, but near to it; docs/decisions/0004-scaled-decoding.md has figures.

    Attributes:
        reductions: the whole factors above 1 that each level can be shrunk by, in step with `levels`; none of them
            larger than a side of the level
    """

    reductions: tuple[tuple[int, ...], ...]

    def read_reduced(self, level: int, factor: int, box: Box) -> Pixels:
        """The pixels of a box that lies inside a reduced level.

        Args:
            level: index into `levels`
            factor: one of the level's `reductions`, or 1
            box: px of the reduced level, not beyond its edges, not empty

        Returns:
            uint8 (box.h, box.w, 3), as `read`
        """
        ...


@runtime_checkable
class JpegBackend(Backend, Protocol):
    """A backend that can hand out tiles as they are stored."""

    def jpeg_tile(self, level: int, box: Box) -> bytes | None:
        """The JPEG file of one tile as it is stored, without decoding it.

        Args:
            level: index into `levels`
            box: px of the level; a tile at the edge reaches beyond it

        Returns:
            None where the box is no tile, or the tile is not JPEG; empty where the file has no such tile
        """
        ...


def unreadable(backend: Backend, level: int, box: Box, said: str) -> SlideError:
    """The error for pixels that cannot be had, with the box in px of level 0."""
    sx, sy = downsample(backend.levels[0], backend.levels[level])
    left, top, right, bottom = (round(v) for v in (box.x * sx, box.y * sy, box.right * sx, box.bottom * sy))
    return SlideError(
        f"{Path(backend.path).name}: level-0 pixels x {left} to {right}, y {top} to {bottom} cannot be read "
        f"({backend.name}: {said}): the file is damaged there, so copy it again or leave the slide out."
    )
