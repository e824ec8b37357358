"""The lists of tiles and strips of a TIFF: are they as long as the picture, inside the file, and apart?

A reader that accepts a short list, or tiles that an interrupted copy never wrote, shows white or black where there is
tissue. So a list that cannot be right is refused, and a note mentions one that may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.slides.backend import UnfitSlideError
from wsiseg.slides.tiff.colours import SEPARATE

if TYPE_CHECKING:
    from wsiseg.slides.tiff.planes import TilePlane

HEADER_BYTES = 8  # of a TIFF: nothing else can be there
TAIL_TILES, TAIL_BYTES = 64, 2**24  # looked at for zeros, at most
FIRST_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Where tiles or strips are, int64 each, row by row; a tile of 0 bytes is missing."""

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]


def segments_of(page: Any, file_size: int) -> list[Segments]:
    """The tiles or strips of a tifffile page: one list, or one for each sample where those are stored apart.

    Raises:
        UnfitSlideError: the list is not as long as the picture needs, or leads out of the file
    """
    width, height = int(page.imagewidth), int(page.imagelength)
    if page.is_tiled:
        kind, across, down = "tiles", int(page.tilewidth), int(page.tilelength)
    else:
        kind, across, down = "strips", width, min(int(page.rowsperstrip or height), height)
    parts = int(page.samplesperpixel) if int(page.planarconfig) == SEPARATE else 1
    each = -(-width // max(across, 1)) * -(-height // max(down, 1))
    listed = len(page.dataoffsets), len(page.databytecounts)
    if listed != (each * parts,) * 2:
        raise UnfitSlideError(
            f"it lists {min(listed):,} {kind} where its {width:,} × {height:,} px need {each * parts:,}, "
            "so it is damaged: copy it again from where it came"
        )
    try:
        offsets, counts = (np.asarray(v, np.int64) for v in (page.dataoffsets, page.databytecounts))
    except OverflowError:
        raise UnfitSlideError(
            f"its {kind} lie beyond the end of the file, so copy it again from where it came"
        ) from None
    counts = np.where(offsets == 0, 0, counts)
    there = counts != 0
    beyond = there & ((offsets < HEADER_BYTES) | (counts < 0) | (offsets > file_size - counts))
    if beyond.any():
        raise UnfitSlideError(
            f"{int(beyond.sum()):,} of its {counts.size:,} {kind} lie beyond the end of the file, "
            "so copy it again from where it came"
        )
    return [Segments(offsets[i * each : (i + 1) * each], counts[i * each : (i + 1) * each]) for i in range(parts)]


def overlapping(tiles: Segments) -> int:
    """How many tiles begin within another one; the same bytes for two tiles, as for empty glass, are no overlap."""
    there = tiles.counts > 0
    pairs = np.unique(np.stack([tiles.offsets[there], tiles.counts[there]], 1), axis=0)
    return int((pairs[:-1].sum(1) > pairs[1:, 0]).sum()) if len(pairs) > 1 else 0


def incomplete(top: TilePlane, level: TilePlane) -> bool:
    """Whether a level lacks a tile where level 0 has some: coarse reads would be white there."""
    if (level.counts > 0).all():
        return False
    rows = len(top.counts) // top.columns
    present = np.zeros((rows + 1, top.columns + 1), np.int64)
    present[1:, 1:] = (top.counts.reshape(rows, top.columns) > 0).cumsum(0).cumsum(1)
    row, column = np.divmod(np.flatnonzero(level.counts == 0), level.columns)
    # Tiles of level 0 that lie wholly or nearly wholly inside; those on the border belong to a neighbour as well.
    left, right = _inner(column, level.tile[0] * top.width / level.width / top.tile[0], top.columns)
    upper, lower = _inner(row, level.tile[1] * top.height / level.height / top.tile[1], rows)
    inside = present[lower, right] - present[upper, right] - present[lower, left] + present[upper, left]
    return bool((inside > 0).any())


def _inner(at: NDArray[np.int64], side: float, count: int) -> tuple[NDArray[np.int64], ...]:
    """First and last + 1 of the level-0 tiles inside tiles of `side` level-0 tiles."""
    first = np.clip(np.ceil(at * side - 0.5), 0, count).astype(np.int64)
    last = np.clip(np.floor((at + 1) * side + 0.5), first, count).astype(np.int64)
    return first, last


def tail_of_zeros(file: Any, tiles: Segments, *, packed: bool) -> tuple[str, ...]:
    """A note about tiles at the end of the file that hold nothing but zeros, as an interrupted copy leaves them.

    Args:
        file: with seek and read
        tiles: of one level or one colour
        packed: whether the tiles are compressed, so that they cannot be zeros

    Raises:
        UnfitSlideError: they cannot be decoded
    """
    there = np.flatnonzero(tiles.counts > 0)
    order = there[np.argsort(tiles.offsets[there])][::-1]
    zeros, left = 0, TAIL_BYTES
    for index in order[:TAIL_TILES]:
        left -= int(tiles.counts[index])
        file.seek(int(tiles.offsets[index]))
        if packed:
            if any(file.read(min(FIRST_BYTES, int(tiles.counts[index])))):
                return ()
            raise UnfitSlideError(
                "it ends in zeros, as an interrupted copy leaves it, so copy it again from where it came"
            )
        if left < 0 or any(file.read(int(tiles.counts[index]))):
            break
        zeros += 1
    if not zeros:
        return ()
    return (
        f"its last {zeros} of {tiles.counts.size:,} tiles hold nothing but zeros, which is black, as an interrupted "
        "copy leaves them: compare the file with the one that it was copied from",
    )
