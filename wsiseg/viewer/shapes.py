"""Paint very many polygons, one tile at a time.

Corners lie in flat arrays. Polygons are sorted along a curve that fills the plane (Morton order), and every `BLOCK` of
them share one bounding box: a tile looks at the boxes of the blocks, then at those of the polygons in the blocks it
meets. One million objects are 4,000 blocks, and a linear search through them takes microseconds.

What is painted are numbers of objects, larger objects below smaller ones, so that an object that lies in another one
is seen. A pixel belongs to an object when its centre does, exactly as in `wsiseg.annotations.rasterise`; an object that is
smaller than `SMALL` px both ways is one pixel, the one that its middle lies in, so that none vanishes when zoomed out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray

from wsiseg.annotations.gather import Area
from wsiseg.annotations.rasterise import paint_polygons
from wsiseg.geometry import Box, Frame

BLOCK = 256
SMALL = 2.0  # px of the tile


class Shapes:
    """An index of polygons, for painting them and for finding the object at a point. It does not change.

    Args:
        polygons: in level-0 pixels
        level0: their plane
        before: objects that come first, and whose index is used again

    Attributes:
        area_px: float64 (n,), area of each object in level-0 px
        bounds: float64 (n, 4), left, top, right, bottom in level-0 px
        ranked: int64 (n,), the objects in the order of painting
    """

    def __init__(self, polygons: Sequence[Area], level0: Frame, before: Shapes | None = None) -> None:
        self.level0 = level0
        found = np.fromiter(polygons, object, len(polygons))
        kept = [before] if before else []
        self._polygons: NDArray[Any] = np.concatenate([*(s._polygons for s in kept), found])
        self.area_px: NDArray[np.float64] = np.concatenate([*(s.area_px for s in kept), shapely.area(found)])
        self.bounds: NDArray[np.float64] = np.concatenate(
            [*(s.bounds for s in kept), shapely.bounds(found).reshape(-1, 4)]
        )
        self.ranked: NDArray[np.int64] = np.argsort(-self.area_px, kind="stable")
        self._rank = np.empty(len(self._polygons), np.int32)
        self._rank[self.ranked] = np.arange(len(self._polygons), dtype=np.int32)
        # The first index is large and stays; all that came later is few, and is indexed again with what comes now.
        first = before._indices[:1] if before else []
        start = len(before._indices[0].polygons) if before else 0
        self._indices: list[_Index] = [*first, _Index(self._polygons[start:], start)]

    def __len__(self) -> int:
        return len(self._polygons)

    def paint(self, box: Box, frame: Frame, shown: NDArray[np.bool_] | None = None) -> NDArray[np.int32]:
        """Which object covers each pixel of a box.

        Args:
            box: pixels of `frame`, which may lie partly outside it
            frame: any plane over the slide
            shown: bool (n,), False for objects that are left out; None takes all

        Returns:
            int32 (box.h, box.w): 0 where there is none, else 1 + the object's place in `ranked`; the higher
            number lies on top.
        """
        scale = frame.scale_to(self.level0)
        out = np.zeros(box.shape, np.int32)
        for index in self._indices:
            near = index.near(*_reach(box, scale))
            if shown is not None:
                near = near[shown[index.owner[near]]]
            size = index.limits[near, 2:] - index.limits[near, :2]
            small = (size < SMALL * np.array(scale)).all(axis=1)
            large, dots = near[~small], near[small]
            large = large[np.argsort(self._rank[index.owner[large]], kind="stable")]
            points, rings, shells = _gathered(index.points, index.rings, index.shells, large, *scale)
            top = 1 + self._rank[index.owner[large]]
            layer = np.zeros_like(out) if out.any() else out
            paint_polygons(layer, box.x, box.y, points, rings, shells, np.arange(len(large)), top)
            np.maximum(out, layer, out=out)
            _dots(out, box.x, box.y, index.limits[dots], 1 + self._rank[index.owner[dots]], *scale)
        return out

    def at(self, x: float, y: float, shown: NDArray[np.bool_] | None = None) -> int | None:
        """The number of the topmost object at a point in level-0 px; None if there is none.

        Args:
            x, y: level-0 px
            shown: bool (n,), False for objects that are left out; None takes all
        """
        near = {n for index in self._indices for n in index.owner[index.near(x, y, x, y)].tolist()}
        point = shapely.Point(x, y)
        hits = [n for n in near if (shown is None or shown[n]) and self._polygons[n].covers(point)]
        return max(hits, key=lambda n: self._rank[n], default=None)

    def meeting(self, box: Box, frame: Frame) -> int:
        """How many polygons have bounds that meet a box of `frame`, each part of an object by itself."""
        return sum(len(index.near(*_reach(box, frame.scale_to(self.level0)))) for index in self._indices)


class _Index:
    """The parts of polygons in flat arrays, along the curve.

    Args:
        polygons: in level-0 pixels
        start: number of the first one

    Attributes:
        limits: float64 (k, 4), bounds of each part
        owner: int64 (k,), number of the polygon that it belongs to
        points, rings, shells: as `shapely.to_ragged_array` gives them
    """

    def __init__(self, polygons: NDArray[Any], start: int) -> None:
        self.polygons = polygons
        parts, owner = shapely.get_parts(polygons, return_index=True)
        limits = shapely.bounds(parts).reshape(-1, 4)
        order = np.argsort(_morton(limits), kind="stable")
        self.limits, self.owner = np.ascontiguousarray(limits[order]), owner[order] + start
        if len(parts):
            starts = np.arange(0, len(parts), BLOCK)
            low = np.minimum.reduceat(self.limits[:, :2], starts)
            self._blocks = np.concatenate([low, np.maximum.reduceat(self.limits[:, 2:], starts)], 1)
            _, self.points, (rings, shells) = shapely.to_ragged_array(parts[order], include_z=False)
        else:
            self._blocks, self.points, rings, shells = np.empty((0, 4)), np.empty((0, 2)), np.zeros(1), np.zeros(1)
        self.rings, self.shells = rings.astype(np.int64), shells.astype(np.int64)

    def near(self, left: float, top: float, right: float, bottom: float) -> NDArray[np.int64]:
        """int64 (m,): the parts whose bounds meet a rectangle of level-0 px, touching counts."""
        return _search(self._blocks, self.limits, float(left), float(top), float(right), float(bottom))


def _reach(box: Box, scale: tuple[float, float]) -> tuple[float, float, float, float]:
    """The bounds of a box in level-0 px, and a pixel of slack for the rounding of scales."""
    grown, (sx, sy) = box.grow(1), scale
    return grown.x * sx, grown.y * sy, grown.right * sx, grown.bottom * sy


def _morton(limits: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Where the middle of each box comes on a curve whose neighbours are neighbours in the plane.

    The bits of x and y take turns (Morton, "A computer oriented geodetic data base", IBM 1966).
    """
    if not len(limits):
        return np.empty(0, np.uint64)
    middle = (limits[:, :2] + limits[:, 2:]) / 2
    span = max(float(np.ptp(middle, axis=0).max()), 1.0)
    cells = ((middle - middle.min(0)) / span * 65535).astype(np.uint64)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        cells = (cells | cells << np.uint64(shift)) & np.uint64(mask)
    return cells[:, 0] | cells[:, 1] << np.uint64(1)


@njit(cache=True, nogil=True)
def _search(blocks, limits, left, top, right, bottom):
    """The rows of `limits` (n, 4) that meet a rectangle, touching counts; `blocks` bound each `BLOCK` rows."""
    found = np.empty(1024, np.int64)
    count = 0
    for b in range(blocks.shape[0]):
        if blocks[b, 0] > right or blocks[b, 2] < left or blocks[b, 1] > bottom or blocks[b, 3] < top:
            continue
        for i in range(b * BLOCK, min((b + 1) * BLOCK, limits.shape[0])):
            if limits[i, 0] > right or limits[i, 2] < left or limits[i, 1] > bottom or limits[i, 3] < top:
                continue
            if count == found.size:
                buffer = np.empty(2 * count, np.int64)
                buffer[:count] = found
                found = buffer
            found[count] = i
            count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _gathered(points, rings, shells, chosen, sx, sy):
    """The corners of the chosen polygons in px of a frame, with their own rings and shells."""
    n_rings, n_points = 0, 0
    for p in chosen:
        n_rings += shells[p + 1] - shells[p]
        n_points += rings[shells[p + 1]] - rings[shells[p]]
    corners = np.empty((n_points, 2), np.float64)
    ring_ends, shell_ends = np.zeros(n_rings + 1, np.int64), np.zeros(chosen.size + 1, np.int64)
    point, ring = 0, 0
    for k in range(chosen.size):
        p = chosen[k]
        for r in range(shells[p], shells[p + 1]):
            for i in range(rings[r], rings[r + 1]):
                corners[point, 0], corners[point, 1] = points[i, 0] / sx, points[i, 1] / sy
                point += 1
            ring += 1
            ring_ends[ring] = point
        shell_ends[k + 1] = ring
    return corners, ring_ends, shell_ends


@njit(cache=True, nogil=True)
def _dots(out, x, y, limits, top, sx, sy):
    """Marks the pixel in which the middle of each small polygon lies; the higher value stays."""
    for p in range(len(top)):
        col = int(np.floor((limits[p, 0] + limits[p, 2]) / 2 / sx)) - x
        row = int(np.floor((limits[p, 1] + limits[p, 3]) / 2 / sy)) - y
        if 0 <= col < out.shape[1] and 0 <= row < out.shape[0]:
            out[row, col] = max(out[row, col], top[p])
