"""Read tiled TIFF at the speed of its codec: the bytes of a tile are read and decoded, and nothing else.

OpenSlide decodes to 32-bit colours, draws them through cairo and hands them to Pillow, which is most of its time. Here
a tile goes from the file to the decoder and from there into the array that is wanted (figures in
docs/results/reading.md). `choice` decides which image is the slide, `images` what is a level, `codecs` what a tile's
bytes mean, and `crosscheck` whether the pixels are those of OpenSlide.
"""

from __future__ import annotations

import os
import weakref
from functools import partial

import numpy as np

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import FileBackend, Pixels, reason
from wsiseg.slides.tiff.cache import TileCache
from wsiseg.slides.tiff.layout import require_whole
from wsiseg.slides.tiff.planes import TilePlane, facts_of

WHITE = 255

# Decoded tiles of all slides of a process. A row of regions of 512 px, which touches two rows of tiles of 512 px, fits
# in up to 43,000 px of width, one of 1024 px up to 28,000 px: reading row by row then decodes no tile twice, however
# the regions lie on the tiles.
CACHE_BYTES = 128 << 20
_DECODED = TileCache(CACHE_BYTES)
os.register_at_fork(after_in_child=_DECODED.clear)


class TiffBackend(FileBackend):
    """See `ReducingBackend`. Any codec that imagecodecs has; grey, RGB, palettes, alpha, 8 and 16 bits; BigTIFF.

    A tile without bytes is white, as OpenSlide shows it, and a note says so.

    Attributes:
        like_openslide: whether OpenSlide reads the same image, so that its pixels can be compared
    """

    name = "tiff"

    def __init__(self, path: str, series: int | None = None) -> None:
        super().__init__(path, series)
        require_whole(path)
        try:
            facts = facts_of(path, series)
        except SlideError:
            raise
        except Exception as error:  # tifffile raises anything
            raise SlideError(reason(error, path)) from error
        self._planes = facts.planes
        self.levels = tuple((plane.width, plane.height) for plane in facts.planes)
        self.reductions = tuple(plane.factors for plane in facts.planes)
        self.mpp, self.mpp_doubt = facts.resolution
        self.vendor, self.bounds, self.properties = facts.vendor, facts.bounds, facts.properties
        self.series, self.notes, self.like_openslide = facts.series, facts.notes, facts.like_openslide
        self._owner = object()  # of its tiles in the cache; not the path: the file there may be replaced
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._finish = weakref.finalize(self, _let_go, self._file, self._owner)

    def read(self, level: int, box: Box) -> Pixels:
        return self.read_reduced(level, 1, box)

    def read_reduced(self, level: int, factor: int, box: Box) -> Pixels:
        plane = self._planes[level]
        width, height = (side // factor for side in plane.tile)
        out = np.empty((*box.shape, 3), np.uint8)
        columns, lines = _spans(box.x, box.right, width), _spans(box.y, box.bottom, height)
        # Reading row by row, a region wants again what the row of regions above it had, which may lie one row of
        # tiles more favourably.
        enough = (len(lines) + 1) * plane.columns * 3 * width * height
        for row, tile_rows, rows in lines:
            for column, tile_columns, cols in columns:
                index = row * plane.columns + column
                target = out[rows, cols]
                if plane.counts[index] == 0:
                    target[:] = WHITE
                elif target.shape == out.shape == (height, width, 3):  # nothing of it is left for a neighbour
                    self._decode(plane, index, factor, out)
                else:
                    _DECODED.copy(
                        (self._owner, level, factor, index), (height, width, 3),
                        partial(self._decode, plane, index, factor), (tile_rows, tile_columns), target,
                        enough=enough,
                    )  # fmt: skip
        return out

    def _decode(self, plane: TilePlane, index: int, factor: int, out: Pixels) -> None:
        plane.decode(self._bytes(plane, index), factor, out)
        for channel, part in enumerate(plane.planes, 1):
            grey = np.empty(out.shape, np.uint8)
            part.decode(self._bytes(part, index), factor, grey)
            out[..., channel] = grey[..., channel]

    def _bytes(self, plane: TilePlane, index: int) -> bytes:
        count = int(plane.counts[index])
        data = os.pread(self._file, count, int(plane.offsets[index]))
        if len(data) < count:
            raise EOFError("the file ends within a tile")
        return data

    def jpeg_tile(self, level: int, box: Box) -> bytes | None:
        plane = self._planes[level]
        width, height = plane.tile
        inside = 0 <= box.x < plane.width and 0 <= box.y < plane.height
        whole = (box.w, box.h) == plane.tile and not box.x % width and not box.y % height
        if plane.jpeg is None or plane.planes or not whole or not inside:
            return None
        index = box.y // height * plane.columns + box.x // width
        return plane.jpeg(self._bytes(plane, index)) if plane.counts[index] else b""

    def telling_tiles(self, level: int, within: Box) -> list[Box]:
        """Tiles by which to tell whether this level is read rightly, in px of the level.

        The one with the most bytes has the most to see, and the last one, which the edge cuts, shows a shift.

        Args:
            level: index into `levels`
            within: only tiles that meet this box, which is not empty and lies inside the level

        Returns:
            one or two boxes, not cut at the edge; none where all tiles are missing
        """
        plane = self._planes[level]
        width, height = plane.tile
        rows = np.arange(within.y // height, -(-within.bottom // height))
        columns = np.arange(within.x // width, -(-within.right // width))
        indices = (rows[:, None] * plane.columns + columns).ravel()
        present = indices[plane.counts[indices] > 0]
        if not present.size:
            return []
        chosen = {int(present[plane.counts[present].argmax()]), int(present[-1])}
        return [Box(i % plane.columns * width, i // plane.columns * height, width, height) for i in sorted(chosen)]

    def close(self) -> None:
        self._finish()


def _spans(start: int, stop: int, size: int) -> list[tuple[int, slice, slice]]:
    """Along one axis, the tiles that meet [start, stop): number, part of the tile, and where it is from `start` on."""
    spans = []
    for number in range(start // size, -(-stop // size)):
        low, high = max(start, number * size), min(stop, (number + 1) * size)
        spans.append((number, slice(low - number * size, high - number * size), slice(low - start, high - start)))
    return spans


def _let_go(file: int, owner: object) -> None:
    os.close(file)
    _DECODED.forget(owner)
