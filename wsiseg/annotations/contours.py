"""Trace the contours of label maps: find corners and link them into rings, row by row.

Around every vertex of the pixel lattice lie four pixels. A label among them that does not go straight past the vertex
has a corner there, alone in its quarter or missing in one:

      a │ b       a alone  ┘   missing a  ┌      a alone: a differs from b and c
      ──x──       b alone  └   missing b  ┐      missing a: b, c and d are one label, a is not
      c │ d       c alone  ┐   missing c  └
                  d alone  ┌   missing d  ┘

Where a label holds just two diagonal pixels it has two corners, one in each (a pinch): objects are 4-connected.
An outline runs clockwise on the screen, with its object on the right hand, and every corner knows the next one.

Row by row, `edges` holds the corners whose neighbour is still to come: for every vertical edge that goes on below the
row its upper end, once for the outline of the pixel on each side, and likewise the left end of the horizontal edge that
is open at the moment. Only vertices where a row differs from the row above are looked at, eight pixels at a time: most
of a label map costs one comparison of two words.

A part is born at every corner whose two neighbours are both still to come, which may be the top left of a ring. Parts
that turn out to belong to one object are put together (a union-find forest, with a list of the members), and so are, if
they are asked for, objects that touch. An object whose lines are all closed to rings is finished. Tarjan, "Efficiency
of a good but not linear set union algorithm" (1975), https://doi.org/10.1145/321879.321884
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray
from shapely import Polygon

from wsiseg.classes import IGNORE
from wsiseg.errors import GeometryError

# The tables.
# Columns of `nodes`, int32, the corners: where, the next corner, the part, the other corner of a pinch (or -1).
X, Y, NEXT, PART, TWIN = range(5)
# Columns of `parts`, int32, as an object: parent in the forest, open lines, own corners, label, corner of birth, the
# next part of the object (or -1), the last one; as a group of objects that touch: parent, how many are unfinished, the
# first and the last one finished, the one finished next (or -1).
PARENT, OPEN, SIZE, LABEL, START, MEMBER, LAST, GROUP, UNFINISHED, HEAD, END, AFTER = range(12)
# `state`, int64: heads of the free lists (through NEXT and MEMBER), entries in use, free entries that the next row asks
# for, finished objects and their corners.
FREE_NODE, FREE_PART, NODES, PARTS, ROOM, CLOSED, CORNERS = range(7)
NODE_COLUMNS, PART_COLUMNS, STATE_SIZE = 5, 12, 7
# `closed`, int32 (n, 2): finished objects in the order they come out, and whether it is the last of its group.

# Open edges: outline of the pixel left of a vertical edge (it runs down) and right of it (up), of the pixel above a
# horizontal edge (it runs left) and below it (right). Corners come row by row and from left to right, so an outline
# arrives along DOWN and RIGHT from a corner that is known, and leaves along UP and LEFT to one that is known.
DOWN, UP, LEFT, RIGHT = range(4)
# Each kind of corner: the pixel it belongs to, the edge that the outline arrives along, the edge it leaves along.
_KINDS = np.array([
    (0, DOWN, LEFT), (1, LEFT, UP), (2, RIGHT, DOWN), (3, UP, RIGHT),  # a, b, c, d alone
    (3, RIGHT, UP), (2, DOWN, RIGHT), (1, UP, LEFT), (0, LEFT, DOWN),  # a, b, c, d missing
    (0, LEFT, LEFT), (2, RIGHT, RIGHT), (0, DOWN, DOWN), (1, UP, UP),  # no turn: above, below, left, right of the edge
])  # fmt: skip
_MISSING_D, _TURNS = 7, 8  # the last kind that is missing; how many kinds are turns
# Which kinds there are, by the pairs of equal pixels: 1 a = b, 2 c = d, 4 a = c, 8 b = d.
_FOUND = np.full((16, 4), -1)
for _pairs, _kinds in {
    0: (0, 1, 2, 3), 1: (2, 3, 8), 2: (0, 1, 9), 4: (1, 3, 10), 8: (0, 2, 11),
    5: (3, 7), 6: (1, 5), 9: (2, 6), 10: (0, 4),
}.items():  # fmt: skip
    _FOUND[_pairs, : len(_kinds)] = _kinds


@njit(cache=True, nogil=True)
def link(block, first, last, y, grouped, nodes, parts, edges, closed, state):  # type: ignore[no-untyped-def]
    """Adds to the outlines what the rows `first` to `last` of a block tell, compared with the row above each.

    Args:
        block: uint8 (rows, 8 n), one column of 0 on the left and at least one on the right
        y: vertex row between row 0 and row 1 of the block
        grouped: keep objects back until all that they touch are finished too, and give an outline a corner that is
            no turn where two other labels meet it
        nodes, parts, closed, state: the tables described above
        edges: int32 (2 × columns + 2), the upper ends of the edges DOWN, of those UP, the left ends of LEFT and RIGHT

    Returns:
        The first row that was not done, because the tables have to be emptied or enlarged; last + 1 when all were.
    """
    columns = block.shape[1]
    found = np.empty(columns, np.int64)
    for row in range(first, last + 1):
        count = _look(block[row - 1], block[row], found)
        state[ROOM] = 4 * count  # corners, and parts, that one vertex can give birth to
        if min(nodes.shape[0] - state[NODES], parts.shape[0] - state[PARTS]) < state[ROOM]:
            return row
        if count:
            _corners(block, row, y + row - 1, found[:count], grouped, nodes, parts, edges, closed, state)
    return last + 1


@njit(cache=True, nogil=True)
def _look(upper, lower, found):  # type: ignore[no-untyped-def]
    """Finds the vertices between two rows where any label has a corner: x for the one behind column x of the block."""
    upper_words, lower_words = upper.view(np.uint64), lower.view(np.uint64)
    count, done = 0, 0
    for k in range(upper_words.size):
        if upper_words[k] != lower_words[k]:
            for x in range(max(done, 8 * k - 1), min(8 * k + 8, upper.size - 1)):
                a, b, c, d = upper[x], upper[x + 1], lower[x], lower[x + 1]
                found[count] = x  # kept or written over: no branch for the processor to guess wrong
                count += ((a != b) | (c != d)) & ((a != c) | (b != d))
            done = 8 * k + 8
    return count


@njit(cache=True, nogil=True)
def _corners(block, row, y, found, grouped, nodes, parts, edges, closed, state):  # type: ignore[no-untyped-def]
    """Makes the corners of one row of vertices."""
    columns = block.shape[1]
    labels, at = np.empty(4, np.uint8), np.empty(4, np.int64)
    for x in found:
        labels[0], labels[1] = a, b = block[row - 1, x], block[row - 1, x + 1]
        labels[2], labels[3] = c, d = block[row, x], block[row, x + 1]
        slots = (x, columns + x, 2 * columns, 2 * columns + 1)
        pairs = (a == b) + 2 * (c == d) + 4 * (a == c) + 8 * (b == d)
        finished = -1
        at[:] = -1
        for i in range(4):
            kind = _FOUND[pairs, i]
            if kind < 0 or (kind >= _TURNS and not grouped):
                break
            pixel, arrives, leaves = _KINDS[kind, 0], _KINDS[kind, 1], _KINDS[kind, 2]
            if labels[pixel] == 0:
                continue
            n = state[FREE_NODE]
            state[FREE_NODE] = nodes[n, NEXT]
            state[NODES] += 1
            before = edges[slots[arrives]] if arrives in (DOWN, RIGHT) else -1
            after = edges[slots[leaves]] if leaves in (UP, LEFT) else -1
            if before >= 0:
                part = nodes[before, PART]
                nodes[before, NEXT] = n
            else:
                edges[slots[arrives]] = n
            if after >= 0:
                part = nodes[after, PART]
                nodes[n, NEXT] = after
            else:
                edges[slots[leaves]] = n
            if before < 0 and after < 0:
                part = _new_part(labels[pixel], n, parts, state)
                parts[part, OPEN] = parts[part, UNFINISHED] = 1
            nodes[n, X], nodes[n, Y], nodes[n, PART], nodes[n, TWIN] = x, y, part, -1
            parts[part, SIZE] += 1
            at[pixel] = n
            if kind == _MISSING_D:  # the pixels on the left belong to the same object: so does what bounds them
                left = x
                while block[row, left - 1] == a:
                    left -= 1
                _unite(parts, part, nodes[edges[columns + left - 1], PART])
            elif before >= 0 and after >= 0:
                part = _unite(parts, nodes[before, PART], part)
                parts[part, OPEN] -= 1
                if parts[part, OPEN] == 0:
                    finished = part
        if pairs == 0:
            _pinch(at[0], at[3], a == d, nodes, parts, state)
            _pinch(at[1], at[2], b == c, nodes, parts, state)
        if grouped:
            _touch(at, nodes, parts)
        if finished >= 0:
            _split(finished, nodes, parts)
            _finish(finished, parts, closed, state)


@njit(cache=True, nogil=True)
def _new_part(label, start, parts, state):  # type: ignore[no-untyped-def]
    """A part, and an object and a group of its own, that was born at a corner."""
    part = state[FREE_PART]
    state[FREE_PART] = parts[part, MEMBER]
    state[PARTS] += 1
    parts[part, LABEL], parts[part, START] = label, start
    parts[part, OPEN], parts[part, SIZE], parts[part, UNFINISHED] = 0, 0, 0
    parts[part, PARENT], parts[part, LAST], parts[part, GROUP] = part, part, part
    parts[part, MEMBER], parts[part, HEAD] = -1, -1
    return part


@njit(cache=True, nogil=True)
def _pinch(one, other, same, nodes, parts, state):  # type: ignore[no-untyped-def]
    """Two corners of one label at one vertex: a ring may have to be split here, so that another one starts here."""
    if not same or one < 0:
        return
    nodes[one, TWIN], nodes[other, TWIN] = other, one
    for n in (one, other):
        if parts[nodes[n, PART], START] != n:
            owner = _root(parts, PARENT, nodes[n, PART])
            part = _new_part(parts[owner, LABEL], n, parts, state)
            parts[part, PARENT] = owner
            parts[parts[owner, LAST], MEMBER] = part
            parts[owner, LAST] = part


@njit(cache=True, nogil=True)
def _root(parts, parent, part):  # type: ignore[no-untyped-def]
    """The part that stands for an object (parent is PARENT) or for a group of objects (parent is GROUP)."""
    while parts[part, parent] != part:
        parts[part, parent] = parts[parts[part, parent], parent]
        part = parts[part, parent]
    return part


@njit(cache=True, nogil=True)
def _unite(parts, one, other):  # type: ignore[no-untyped-def]
    """Makes one object of two parts."""
    one, other = _root(parts, PARENT, one), _root(parts, PARENT, other)
    if one == other:
        return one
    if parts[one, OPEN] < parts[other, OPEN]:
        one, other = other, one
    parts[other, PARENT] = one
    parts[one, OPEN] += parts[other, OPEN]
    parts[parts[one, LAST], MEMBER] = other
    parts[one, LAST] = parts[other, LAST]
    group = _group(parts, one, other)
    parts[group, UNFINISHED] -= 1
    return one


@njit(cache=True, nogil=True)
def _group(parts, one, other):  # type: ignore[no-untyped-def]
    """Makes one group of the groups of two objects."""
    one, other = _root(parts, GROUP, one), _root(parts, GROUP, other)
    if one == other:
        return one
    if parts[one, UNFINISHED] < parts[other, UNFINISHED]:
        one, other = other, one
    parts[other, GROUP] = one
    parts[one, UNFINISHED] += parts[other, UNFINISHED]
    if parts[other, HEAD] >= 0:
        if parts[one, HEAD] < 0:
            parts[one, HEAD] = parts[other, HEAD]
        else:
            parts[parts[one, END], AFTER] = parts[other, HEAD]
        parts[one, END] = parts[other, END]
    return one


@njit(cache=True, nogil=True)
def _touch(corners, nodes, parts):  # type: ignore[no-untyped-def]
    """Join the objects around one vertex into one group; ignored pixels join nothing."""
    held = -1
    for n in corners:
        if n >= 0 and parts[nodes[n, PART], LABEL] != IGNORE:
            part = _root(parts, PARENT, nodes[n, PART])
            if held >= 0:
                _group(parts, held, part)
            held = part


@njit(cache=True, nogil=True)
def _split(owner, nodes, parts):  # type: ignore[no-untyped-def]
    """Splits the rings of a finished object where they come back to a vertex.

    Both corners of a pinch within one object lie on one ring; to exchange what comes after them makes two rings of it.
    The rings touch and never cross, so that one split does not get in another's way.
    """
    part = owner
    while part >= 0:
        n = parts[part, START]
        twin = nodes[n, TWIN]
        if twin >= 0 and _root(parts, PARENT, nodes[twin, PART]) == owner:
            nodes[n, NEXT], nodes[twin, NEXT] = nodes[twin, NEXT], nodes[n, NEXT]
            nodes[n, TWIN], nodes[twin, TWIN] = -1, -1
        part = parts[part, MEMBER]


@njit(cache=True, nogil=True)
def _finish(part, parts, closed, state):  # type: ignore[no-untyped-def]
    """Hands out the group of an object if this was the last one in it, in the order the objects were finished."""
    group = _root(parts, GROUP, part)
    if parts[group, HEAD] < 0:
        parts[group, HEAD] = part
    else:
        parts[parts[group, END], AFTER] = part
    parts[group, END], parts[part, AFTER] = part, -1
    parts[group, UNFINISHED] -= 1
    if parts[group, UNFINISHED] > 0:
        return
    part = parts[group, HEAD]
    while part >= 0:
        closed[state[CLOSED], 0], closed[state[CLOSED], 1] = part, parts[part, AFTER] < 0
        state[CLOSED] += 1
        member = part
        while member >= 0:
            state[CORNERS] += parts[member, SIZE]
            member = parts[member, MEMBER]
        part = parts[part, AFTER]


@dataclass(frozen=True, slots=True)
class Batch:
    """Finished objects as flat arrays.

    Attributes:
        labels: uint8 (n,)
        corners: int32 (m, 2), x and y; every ring is closed, its last corner is its first
        rings: int64 (r + 1,), ring i is corners[rings[i]:rings[i + 1]]
        objects: int64 (n + 1,), object i has the rings objects[i] to objects[i + 1] - 1, its shell first
        areas: int64 (r,), px² of every ring, below 0 for holes
        groups: int64 (n,), the number of the group that an object belongs to, ascending
    """

    labels: NDArray[np.uint8]
    corners: NDArray[np.int32]
    rings: NDArray[np.int64]
    objects: NDArray[np.int64]
    areas: NDArray[np.int64]
    groups: NDArray[np.int64]

    def polygons(self, scale: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.object_]:
        """Shapely polygons (n,), x and y multiplied by the scale."""
        return shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, self.corners * np.asarray(scale, np.float64), (self.rings, self.objects)
        )

    def only(self, rings: NDArray[np.bool_]) -> Batch:
        """The batch with some rings (r,) left out; with its shell an object goes altogether."""
        lengths, counts = np.diff(self.rings), np.diff(self.objects)
        shells = rings[self.objects[:-1]]
        rings = rings & np.repeat(shells, counts)
        owner = np.repeat(np.arange(len(counts)), counts)
        return Batch(
            self.labels[shells],
            self.corners[np.repeat(rings, lengths)],
            np.concatenate([[0], np.cumsum(lengths[rings])]),
            np.concatenate([[0], np.cumsum(np.bincount(owner[rings], minlength=len(counts))[shells])]),
            self.areas[rings],
            self.groups[shells],
        )


def collect(
    closed: NDArray[np.int32], nodes: NDArray[np.int32], parts: NDArray[np.int32], state: NDArray[np.int64]
) -> Batch:
    """The finished objects, whose corners and parts are free from now on."""
    count, size = int(state[CLOSED]), int(state[CORNERS])
    corners = np.empty((size + size // 4, 2), np.int32)  # a ring has four corners or more and repeats the first
    rings, areas = np.zeros(size // 4 + 1, np.int64), np.empty(size // 4, np.int64)
    objects, labels = np.zeros(count + 1, np.int64), np.empty(count, np.uint8)
    ends = closed[:count, 1]
    groups = np.cumsum(ends) - ends
    _collect(closed, nodes, parts, state, corners, rings, areas, objects, labels)
    found = int(objects[-1])
    return Batch(labels, corners[: rings[found]], rings[: found + 1], objects, areas[:found], groups)


@njit(cache=True, nogil=True)
def _collect(closed, nodes, parts, state, corners, rings, areas, objects, labels):  # type: ignore[no-untyped-def]
    """Writes the finished objects out and frees their corners and parts."""
    count = 0
    for k in range(state[CLOSED]):
        part = closed[k, 0]
        labels[k] = parts[part, LABEL]
        for start in _starts(part, nodes, parts):
            if nodes[start, PART] >= 0:  # else it is on a ring that is written already
                areas[count], rings[count + 1] = _ring(start, nodes, state, corners, rings[count])
                count += 1
        objects[k + 1] = count
        while part >= 0:
            after = parts[part, MEMBER]
            parts[part, LABEL], parts[part, MEMBER] = 0, state[FREE_PART]
            state[FREE_PART] = part
            state[PARTS] -= 1
            part = after
    state[CLOSED], state[CORNERS] = 0, 0


@njit(cache=True, nogil=True)
def _starts(owner, nodes, parts):  # type: ignore[no-untyped-def]
    """The corners that may be top left of a ring of an object, by row and column: the shell comes first."""
    count, part = 0, owner
    while part >= 0:
        count, part = count + 1, parts[part, MEMBER]
    starts, keys = np.empty(count, np.int64), np.empty(count, np.int64)
    part = owner
    for i in range(count):
        n = parts[part, START]
        starts[i], keys[i] = n, (np.int64(nodes[n, Y]) << 32) | nodes[n, X]
        part = parts[part, MEMBER]
    return starts if count == 1 else starts[np.argsort(keys)]


@njit(cache=True, nogil=True)
def _ring(start, nodes, state, corners, at):  # type: ignore[no-untyped-def]
    """Writes one ring behind `at` and frees its corners; returns its area in px² and where it ends."""
    n, first, double = start, at, 0
    while True:
        after, twin = nodes[n, NEXT], nodes[n, TWIN]
        corners[at, 0], corners[at, 1] = nodes[n, X], nodes[n, Y]
        double += np.int64(nodes[n, X]) * nodes[after, Y] - np.int64(nodes[after, X]) * nodes[n, Y]
        at += 1
        if twin >= 0:
            nodes[twin, TWIN] = -1
        nodes[n, NEXT], nodes[n, PART] = state[FREE_NODE], -1
        state[FREE_NODE] = n
        state[NODES] -= 1
        n = after
        if n == start:
            break
    corners[at] = corners[first]
    return double // 2, at + 1


_BLOCK = 1 << 19  # bytes of label map that are worked on at a time: what fits into a processor's second cache


def trace_pixels(bands: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[int, Polygon]]:
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
        self.height = 0  # rows taken in so far
        self._grouped, self._width = grouped, width
        columns = -(-(width + 2) // 8) * 8
        self._block = np.zeros((max(1, _BLOCK // columns) + 1, columns), np.uint8)
        self._edges = np.empty(2 * columns + 2, np.int32)
        self._state = np.zeros(STATE_SIZE, np.int64)
        self._nodes = np.empty((0, NODE_COLUMNS), np.int32)
        self._parts = np.empty((0, PART_COLUMNS), np.int32)
        self._closed = np.empty((0, 2), np.int32)

    @property
    def oldest(self) -> int:
        """The topmost row of all unfinished objects, as far as it is known."""
        starts = self._parts[self._parts[:, LABEL] > 0, START]
        return int(self._nodes[starts, Y].min(initial=self.height))

    def read(self, bands: Iterable[NDArray[np.uint8]]) -> Iterator[Batch]:
        """All bands of a map, uint8 (rows, width) each; how the objects fall into batches depends on the bands."""
        block = self._block
        for band in bands:
            if band.dtype != np.uint8 or band.ndim != 2:
                raise GeometryError(f"A band of a label map is uint8 (rows, width), not {band.dtype} {band.shape}.")
            if band.shape[1] != self._width:
                raise GeometryError(
                    f"A band is {band.shape[1]} px wide, the map {self._width}: give whole rows of one map."
                )
            for top in range(0, len(band), len(block) - 1):
                rows = band[top : top + len(block) - 1]
                block[1 : len(rows) + 1, 1 : self._width + 1] = rows
                yield from self._link(len(rows))
                self.height += len(rows)
                block[0] = block[len(rows)]
        block[1] = 0
        yield from self._link(1)

    def _link(self, rows: int) -> Iterator[Batch]:
        row = 1
        while row <= rows:
            tables = self._nodes, self._parts, self._edges, self._closed, self._state
            row = link(self._block, row, rows, self.height, self._grouped, *tables)
            if self._state[CLOSED]:
                yield collect(self._closed, self._nodes, self._parts, self._state)
            if row <= rows:
                self._nodes = _with_room(self._nodes, NODES, NEXT, FREE_NODE, self._state)
                self._parts = _with_room(self._parts, PARTS, MEMBER, FREE_PART, self._state)
                if len(self._closed) < len(self._parts):
                    self._closed = np.empty((len(self._parts), 2), np.int32)


def _with_room(
    table: NDArray[np.int32], used: int, after: int, head: int, state: NDArray[np.int64]
) -> NDArray[np.int32]:
    """The table; where less than half of it is free, at least twice as long, with new rows at the head of its free
    list, lest the next rows stop again."""
    if len(table) - state[used] >= max(state[ROOM], len(table) // 2):
        return table
    old, new = len(table), max(2 * len(table), len(table) + int(state[ROOM]))
    larger = np.zeros((new, table.shape[1]), np.int32)
    larger[:old] = table
    larger[old:, after] = np.arange(old + 1, new + 1)
    larger[-1, after] = state[head]
    state[head] = old
    return larger
