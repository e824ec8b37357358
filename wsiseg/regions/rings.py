"""Finished objects as rings of corners, taken out of the tables of `wsiseg.regions.contours`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray

from wsiseg.regions.contours import (
    CLOSED,
    CORNERS,
    FREE_NODE,
    FREE_PART,
    LABEL,
    MEMBER,
    NEXT,
    NODES,
    PART,
    PARTS,
    START,
    TWIN,
    X,
    Y,
)


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
