"""Label maps in, exact outlines out, as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from shapely import Polygon

from wsiseg.errors import GeometryError
from wsiseg.regions.contours import (
    CLOSED,
    FREE_NODE,
    FREE_PART,
    LABEL,
    MEMBER,
    NEXT,
    NODE_COLUMNS,
    NODES,
    PART_COLUMNS,
    PARTS,
    ROOM,
    START,
    STATE_SIZE,
    Y,
    link,
)
from wsiseg.regions.rings import Batch, collect

_BLOCK = 1 << 19  # bytes of label map that are worked on at a time: what fits into a processor's second cache


def trace(bands: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[int, Polygon]]:
    """The outlines of all objects of a label map, along the edges of its pixels.

    An object is a 4-connected set of pixels of one label other than 0. Its polygon is valid, its corners are whole
    numbers (pixel (x, y) covers [x, x + 1) × [y, y + 1)), and each corner is a turn. Where an outline comes back to a
    vertex it has passed, it is split there, so that holes may touch each other or the shell in single points. Shells
    run clockwise on the screen, holes the other way, each from its top left corner (the leftmost of its topmost).

    Objects come in the order of their last corners, row by row and from left to right, each as soon as the row below
    it has been read. Neither polygons nor order depend on how the map is cut into bands. Memory is one band and the
    outlines of the objects that reach its last row.

    Args:
        bands: uint8 (rows, width), consecutive rows of one label map; any number of rows each

    Yields:
        the label, 1 to 255, and the polygon in pixels of the map

    Raises:
        GeometryError: a band is not uint8, has no two axes, or is not as wide as the one before
    """
    rows = iter(bands)
    first = next(rows, None)
    if first is not None:
        for batch in Tracer(first.shape[-1]).read(chain((first,), rows)):
            yield from zip(batch.labels.tolist(), batch.polygons(), strict=True)


class Tracer:
    """Takes a label map in, row by row, and hands out the finished objects.

    Args:
        width: of the map
        grouped: keep objects back until all are finished that they touch, at edges or vertices, directly or through
            others (those of the ignore label left out), and hand out whole groups; give outlines a corner, though it
            is no turn, wherever two other labels meet them. Coverage simplification asks for both.
    """

    def __init__(self, width: int, grouped: bool = False) -> None:
        self._grouped, self._width, self._height = grouped, width, 0
        columns = -(-(width + 2) // 8) * 8
        self._block = np.zeros((max(1, _BLOCK // columns) + 1, columns), np.uint8)
        self._edges = np.empty(2 * columns + 2, np.int32)
        self._state = np.zeros(STATE_SIZE, np.int64)
        self._nodes = np.empty((0, NODE_COLUMNS), np.int32)
        self._parts = np.empty((0, PART_COLUMNS), np.int32)
        self._closed = np.empty((0, 2), np.int32)

    @property
    def height(self) -> int:
        """Rows taken in so far."""
        return self._height

    @property
    def oldest(self) -> int:
        """The topmost row of any object that is still to come out, as far as it is known."""
        starts = self._parts[self._parts[:, LABEL] > 0, START]
        return int(self._nodes[starts, Y].min(initial=self._height))

    def read(self, bands: Iterable[NDArray[np.uint8]]) -> Iterator[Batch]:
        """All bands of a map, uint8 (rows, width) each; how the objects fall into batches depends on the bands."""
        block = self._block
        for band in bands:
            self._check(band)
            for top in range(0, len(band), len(block) - 1):
                rows = band[top : top + len(block) - 1]
                block[1 : len(rows) + 1, 1 : self._width + 1] = rows
                yield from self._link(len(rows))
                self._height += len(rows)
                block[0] = block[len(rows)]
        block[1] = 0
        yield from self._link(1)

    def _check(self, band: NDArray[np.uint8]) -> None:
        if band.dtype != np.uint8 or band.ndim != 2:
            raise GeometryError(f"A band of a label map is uint8 (rows, width), not {band.dtype} {band.shape}.")
        if band.shape[1] != self._width:
            raise GeometryError(
                f"A band is {band.shape[1]} px wide, the map {self._width}: give whole rows of one map."
            )

    def _link(self, rows: int) -> Iterator[Batch]:
        row = 1
        while row <= rows:
            tables = self._nodes, self._parts, self._edges, self._closed, self._state
            row = link(self._block, row, rows, self._height, self._grouped, *tables)
            if self._state[CLOSED]:
                yield collect(self._closed, self._nodes, self._parts, self._state)
            if row <= rows:
                self._make_room()

    def _make_room(self) -> None:
        if _short(self._nodes, self._state[NODES], self._state):
            self._nodes = _enlarge(self._nodes, NEXT, FREE_NODE, self._state)
        if _short(self._parts, self._state[PARTS], self._state):
            self._parts = _enlarge(self._parts, MEMBER, FREE_PART, self._state)
            self._closed = np.empty((len(self._parts), 2), np.int32)


def _short(table: NDArray[np.int32], used: int, state: NDArray[np.int64]) -> bool:
    # Half of it, lest the next rows stop again.
    return bool(len(table) - used < max(state[ROOM], len(table) // 2))


def _enlarge(table: NDArray[np.int32], after: int, head: int, state: NDArray[np.int64]) -> NDArray[np.int32]:
    """A table at least twice as long, the new rows at the head of its free list."""
    old, new = len(table), max(2 * len(table), len(table) + int(state[ROOM]))
    larger = np.zeros((new, table.shape[1]), np.int32)
    larger[:old] = table
    larger[old:, after] = np.arange(old + 1, new + 1)
    larger[-1, after] = state[head]
    state[head] = old
    return larger
