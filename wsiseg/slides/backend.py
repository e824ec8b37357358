"""The interface of a reader of one slide format: levels, and pixels of boxes inside a level.

`Slide` chooses the level, resamples, pads and words the errors, so that a backend stays small.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import SlideError
from wsiseg.geometry import Box

Pixels = NDArray[np.uint8]
Scale = tuple[float, float]

END_BYTES, SAMPLE_BYTES, SAMPLES = 64 * 1024, 16 * 1024, 64  # of a file, in its hash


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
    file, UnfitSlideError when nobody should (`open_slide` makes the sentence). It copies (`copy.copy`) and pickles by
    opening the path again, so that a slide can be sent to another process. `read` is safe from several threads at once.

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
        """Name, size in bytes and hash, as `identity_of(path)` gives them for a file."""
        ...

    def close(self) -> None:
        """Closes the file. Called once; nothing is read afterwards."""
        ...


class FileBackend(Backend):
    """The common part of backends of files; a subclass sets `name`, `levels`, `mpp` and `vendor`, and reads."""

    series: int = 0
    notes: tuple[str, ...] = ()
    mpp_doubt: str = ""
    bounds: Box | None = None
    properties: Mapping[str, str] = MappingProxyType({})

    def __init__(self, path: str, series: int | None) -> None:
        self.path, self.asked_series = path, series

    def identity(self) -> dict[str, Any]:
        return identity_of(self.path)

    def close(self) -> None:
        pass

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.asked_series)


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
        """As `read`, for a box in px of the level reduced by one of its `reductions` (or by 1)."""
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
    """The error for pixels that cannot be read, with the box in px of level 0."""
    sx, sy = downsample(backend.levels[0], backend.levels[level])
    left, top, right, bottom = (round(v) for v in (box.x * sx, box.y * sy, box.right * sx, box.bottom * sy))
    return SlideError(
        f"{Path(backend.path).name}: level-0 pixels x {left} to {right}, y {top} to {bottom} cannot be read "
        f"({backend.name}: {said}): the file is damaged there, so copy it again or leave the slide out."
    )


def downsample(full: tuple[int, int], level: tuple[int, int]) -> Scale:
    """The true downsample of a level: level-0 px per level px along x and along y.

    Scanners shrink by a whole number n and drop (or fill up) the last, incomplete pixel, so that the ratio of the
    sizes is not n: 4443 px at n = 2 are 2221 px, and 4443 / 2221 = 2.0005. With that ratio, pixels at the far edge
    would be shifted by half a pixel here, by several in larger slides. So a level whose size is within a pixel of
    full / n on both axes has the downsample n. Only for small levels do several n fit: then a power of two is
    preferred, else the one nearest to the ratio. Where no n fits, the ratio is the downsample.

    A program that squeezes the whole image into the rounded size makes levels whose downsample is the ratio. The sizes
    do not tell the two apart; in such a file positions at the far edge are off by less than one px of that level.

    Args:
        full: (width, height) of level 0 in px
        level: (width, height) of the level in px
    """
    lowest, highest = downsample_range(full, level)
    ratio = sum(full) / sum(level)
    for n in (2 ** max(0, round(math.log2(ratio))), max(1, round(ratio)), math.ceil(lowest)):
        if lowest <= n <= highest:
            return float(n), float(n)
    return full[0] / level[0], full[1] / level[1]


def downsample_range(full: tuple[int, int], level: tuple[int, int]) -> tuple[float, float]:
    """The least and the largest downsample of both axes by which `full` px become `level` px, give or take one."""
    lowest = max(f / (size + 1) for f, size in zip(full, level, strict=True))
    highest = min(f / (size - 1) if size > 1 else math.inf for f, size in zip(full, level, strict=True))
    return lowest, highest


def identity_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a manifest keeps of a slide: name, size and a hash that is cheap even for many gigabytes.

    The hash is SHA-256 over the size and over samples: the first and last 64 KiB and 64 pieces of 16 KiB, evenly
    spaced. It tells slides apart and notices a file that was cut off or written again. It does not see a change of a
    few bytes between two samples. Of the folder beside a `.mrxs`, and of an OME-Zarr folder, it sees the names and
    sizes of all files and the text of JSON metadata; it sees no other companion files.

    Returns:
        {"name": file name, "size": bytes (of all files for a folder), "hash": "sha256:…"}

    Raises:
        SlideError: the file cannot be read.
    """
    place, digest, size = Path(path), hashlib.sha256(), 0
    folder = place.with_suffix("") if place.suffix.lower() == ".mrxs" else place
    try:
        if not place.is_dir():
            size = place.stat().st_size
            _add_samples(digest, place, size)
        if folder.is_dir():
            size += _add_folder(digest, folder)
    except OSError as error:
        raise SlideError(
            f"{place} cannot be read ({error.strerror or error}): check the file and its rights."
        ) from error
    return {"name": place.name, "size": size, "hash": f"sha256:{digest.hexdigest()}"}


def _add_samples(digest: Any, place: Path, size: int) -> None:
    digest.update(f"{size}:".encode())
    with place.open("rb") as file:
        if size <= 2 * END_BYTES + SAMPLES * SAMPLE_BYTES:
            digest.update(file.read())
            return
        digest.update(file.read(END_BYTES))
        for i in range(1, SAMPLES + 1):
            file.seek(i * size // (SAMPLES + 1))
            digest.update(file.read(SAMPLE_BYTES))
        file.seek(size - END_BYTES)
        digest.update(file.read(END_BYTES))


def _add_folder(digest: Any, folder: Path) -> int:
    """Adds names and sizes of all files, and the text of JSON files; returns the sum of the sizes."""
    total = 0
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = file.stat().st_size
        total += size
        digest.update(f"{file.relative_to(folder).as_posix()}:{size};".encode())
        if file.suffix == ".json" or file.name in (".zattrs", ".zgroup", ".zarray"):
            digest.update(file.read_bytes())
    return total
