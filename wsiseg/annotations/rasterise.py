"""Rasterise annotations into labels: the inverse of `wsiseg.annotations.trace`.

A pixel takes the label of the polygon that its centre lies in. A centre that lies exactly on a border belongs to the
polygon on its right, or below it when the border is horizontal there, so that of two polygons with a common border each
pixel belongs to just one:

            left edge: in            top edge: in
        ┌───●───────┐            ┌─────●─────┐
        │           │            │           │          ● centres on the border
        └───────●───┘            └───────────○          ○ right and bottom edge: out
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray

from wsiseg.annotations.polygon import LabelledPolygon, batched
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError, ClassError
from wsiseg.geometry import Box, Frame

ANY = ClassMap(("Background", "Object"))  # for polygons whose classes do not matter
TOGETHER = 256  # polygons that `covering` prepares at once, at most
_POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


class Rasteriser:
    """Paints many boxes from the same polygons.

    The polygons are converted and indexed once; `read` touches only those whose bounds meet the box. Any two boxes
    agree on the pixels they share, to the last tie.

    Args:
        polygons: in level-0 pixels; they may overlap
        classes: gives each polygon its label; where polygons overlap the later class wins, and an ignored class
            (`classes.ignore_names`, label 255) wins over all; other classes that state nothing by their name, such as
            Region*, get the label 255 where no other polygon lies
        frame: the plane whose pixels `read` returns
        level0: the plane of the polygons

    Raises:
        ClassError: a polygon has no class, or one that the class map does not know
        AnnotationError: a shape is not a polygon, or has a coordinate that is not finite
    """

    def __init__(self, polygons: Iterable[LabelledPolygon], classes: ClassMap, frame: Frame, level0: Frame) -> None:
        kept = list(polygons)
        if any(p.label is None for p in kept):
            raise ClassError("An annotation has no class: give it one, or leave it out, before painting.")
        names = {str(p.label) for p in kept}
        label_of = {name: classes.index(name) for name in names}
        rank = {name: -1 if classes.gives_way(name) else label for name, label in label_of.items()}
        shapes = np.array([p.polygon for p in kept], object)
        if not np.isin(shapely.get_type_id(shapes), _POLYGONAL).all():
            raise AnnotationError("Only polygons can be painted: leave out points, lines and collections.")
        order = np.argsort(np.array([rank[str(p.label)] for p in kept], np.int64), kind="stable")  # of painting
        parts, owner = shapely.get_parts(shapes[order], return_index=True)
        self._scale = frame.scale_to(level0)
        self._owners = order[owner]  # the place among `polygons` of each part
        self._labels = np.array([label_of[str(kept[i].label)] for i in self._owners], np.uint8)
        self._tree = shapely.STRtree(parts)
        if len(parts):
            _, points, (rings, starts) = shapely.to_ragged_array(parts, include_z=False)
        else:
            points, rings, starts = np.empty((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64)
        if not np.isfinite(points).all():
            raise AnnotationError("A polygon has a coordinate that is not a finite number: repair it or leave it out.")
        self._points = np.ascontiguousarray(points) / self._scale
        self._rings, self._parts = rings.astype(np.int64), starts.astype(np.int64)

    def read(self, box: Box, only: int | None = None) -> NDArray[np.uint8]:
        """The labels of a box of the frame, uint8 (box.h, box.w); 0 where there is no polygon.

        The box may reach beyond the frame. Several threads may read at once.

        Args:
            box: pixels of the frame
            only: paint this one of the polygons, by its place among them; None: all
        """
        out = np.zeros(box.shape, np.uint8)
        if not box:
            return out
        if only is None:
            reach = box.grow(1)  # a pixel of slack for the rounding of scales
            sx, sy = self._scale
            near = self._tree.query(shapely.box(reach.x * sx, reach.y * sy, reach.right * sx, reach.bottom * sy))
            near.sort()
        else:
            near = np.flatnonzero(self._owners == only)
        paint_polygons(out, box.x, box.y, self._points, self._rings, self._parts, near, self._labels)
        return out

    def covers(self, only: int, box: Box) -> NDArray[np.bool_]:
        """Which pixels of a box one of the polygons covers, bool (box.h, box.w)."""
        return self.read(box, only) > 0


def covering(
    polygons: Iterable[LabelledPolygon], frame: Frame, level0: Frame
) -> Iterator[tuple[LabelledPolygon, Callable[[Box], NDArray[np.bool_]]]]:
    """Each of a stream of polygons, with what tells which pixels of a box of the frame it alone covers.

    Some are taken together, for to prepare a single one takes longer than to paint it.
    """
    for some in batched(polygons, TOGETHER):
        painter = Rasteriser((replace(r, label=ANY.names[1]) for r in some), ANY, frame, level0)
        for number, polygon in enumerate(some):
            yield polygon, partial(painter.covers, number)


def rasterise(
    polygons: Iterable[LabelledPolygon], classes: ClassMap, box: Box, frame: Frame, level0: Frame
) -> NDArray[np.uint8]:
    """The labels of one box, uint8 (box.h, box.w); see `Rasteriser`, whose errors it raises."""
    return Rasteriser(polygons, classes, frame, level0).read(box)


@njit(cache=True, nogil=True)
def paint_polygons(out, x, y, points, rings, polygons, chosen, labels):  # type: ignore[no-untyped-def]
    """Fills the chosen polygons one after the other; (x, y) is the first pixel of `out`.

    Args:
        out: (h, w) of any integer type
        points: float64 (n, 2), corners in pixels of the frame
        rings: int64, ring r is points[rings[r]:rings[r + 1]]
        polygons: int64, polygon p has the rings polygons[p] to polygons[p + 1] - 1
        chosen: int64, the polygons in the order of painting
        labels: what each polygon is painted with, of the type of `out`
    """
    ends = np.empty(out.shape[0] + 2, np.int64)  # how many crossings each row has, then where they end in `columns`
    columns = np.empty(1024, np.int64)
    for p in chosen:
        first, last = rings[polygons[p]], rings[polygons[p] + 1]  # the shell spans the holes
        top, bottom = _rows(points[first:last, 1].min(), points[first:last, 1].max(), y, out.shape[0])
        part, start, height = out[top:bottom], y + top, bottom - top
        ends[: height + 2] = 0
        for r in range(polygons[p], polygons[p + 1]):
            for i in range(rings[r], rings[r + 1] - 1):
                above, below = _rows(points[i, 1], points[i + 1, 1], start, height)
                for row in range(above, below):
                    ends[row + 2] += 1
        for row in range(height):
            ends[row + 2] += ends[row + 1]
        if ends[height + 1] > columns.size:
            columns = np.empty(2 * ends[height + 1], np.int64)
        for r in range(polygons[p], polygons[p + 1]):
            for i in range(rings[r], rings[r + 1] - 1):
                one, other = (points[i, 0], points[i, 1]), (points[i + 1, 0], points[i + 1, 1])
                _cross(one, other, x, start, part.shape, ends, columns)
        for row in range(height):
            _fill(part[row], columns[ends[row] : ends[row + 1]], labels[p])


@njit(cache=True, nogil=True)
def _first(value, start, size):  # type: ignore[no-untyped-def]
    """The first pixel whose centre is at or behind a coordinate, counted from `start`, at most `size`."""
    return int(min(max(math.ceil(value - 0.5) - start, 0.0), float(size)))


@njit(cache=True, nogil=True)
def _rows(one, other, start, size):  # type: ignore[no-untyped-def]
    """The half-open range of rows whose centre lines an edge between two heights crosses."""
    if max(one, other) < start or min(one, other) > start + size:  # most edges of a long ring
        return 0, 0
    return _first(min(one, other), start, size), _first(max(one, other), start, size)


@njit(cache=True, nogil=True)
def _cross(one, other, x, y, shape, ends, columns):  # type: ignore[no-untyped-def]
    """Notes, for every row that an edge crosses, the first column behind it."""
    height, width = shape
    if one[1] > other[1]:  # always downwards: an edge shared by two polygons is then cut at the very same number
        one, other = other, one
    top, bottom = _rows(one[1], other[1], y, height)
    if top >= bottom:
        return
    slope = (other[0] - one[0]) / (other[1] - one[1])
    for row in range(top, bottom):
        column = _first(one[0] + (y + row + 0.5 - one[1]) * slope, x, width)
        columns[ends[row + 1]] = column
        ends[row + 1] += 1


@njit(cache=True, nogil=True)
def _fill(line, columns, label):  # type: ignore[no-untyped-def]
    """Even-odd: paints from the first crossing to the second, from the third to the fourth, and so on."""
    if columns.size == 2:  # nearly always, and far faster than a call of sort
        columns[0], columns[1] = min(columns[0], columns[1]), max(columns[0], columns[1])
    elif columns.size > 2:
        columns.sort()
    for k in range(0, columns.size - 1, 2):
        line[columns[k] : columns[k + 1]] = label
