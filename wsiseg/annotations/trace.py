"""Trace a label map into polygons: the inverse of `wsiseg.annotations.rasterise`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from wsiseg.annotations.contours import Batch, Tracer
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import ClassError, GeometryError
from wsiseg.geometry import Frame


def trace(
    bands: Iterable[NDArray[np.uint8]],
    classes: ClassMap,
    frame: Frame,
    level0: Frame,
    *,
    min_area_um2: float = 0.0,
    min_hole_um2: float = 0.0,
    simplify_um: float = 0.0,
) -> Iterator[LabelledPolygon]:
    """Trace all objects of a label map as a stream of polygons; background and ignored pixels have none.

    Without the three options the polygons follow the exact edges of the pixels, and `rasterise` makes the same map of
    them; see `wsiseg.annotations.contours.trace_pixels` for what an object is, for the order, and for how little memory
    this takes. Nothing depends on how the map is cut into bands.

    Simplified polygons are no longer exact. To keep the border of two objects one line, without gap and overlap, all
    objects that touch (at edges or in points, directly or through others) are simplified together, once the last of
    them is complete. Objects then come group by group, and memory holds every group that reaches the last row read: a
    few objects where nuclei lie scattered, but the whole tissue where one class surrounds the others. Objects that do
    not touch are simplified without regard to each other. The corners left are corners of pixels.

    Args:
        bands: uint8 (rows, frame.width), consecutive rows that add up to the whole map
        classes: labels to names
        frame: the plane of the map
        level0: the plane of the polygons
        min_area_um2: objects of fewer µm² (pixels of the object, holes not counted) are left out
        min_hole_um2: holes of fewer µm² are filled, unless a whole object lies in them that is not left out
        simplify_um: takes away detail of less than about its square (Visvalingam and Whyatt, "Line generalisation by
            repeated elimination of points" (1993), https://doi.org/10.1179/000870493786962263, on shared lines)

    Yields:
        polygons in level-0 pixels, without score and id

    Raises:
        ClassError: the map has a label that the class map does not know
        GeometryError: the bands do not make up the frame, or an option is negative
    """
    for value in (min_area_um2, min_hole_um2, simplify_um):
        if not value >= 0:
            raise GeometryError(f"Sizes of objects, holes and details are 0 or more, not {value}.")
    pixel = frame.mpp * frame.mpp_y
    sieve = _Sieve(min_area_um2 / pixel, min_hole_um2 / pixel)
    tracer = Tracer(frame.width, grouped=simplify_um > 0)
    for batch in tracer.read(bands):
        if batch.labels[batch.labels != IGNORE].max(initial=0) >= len(classes):
            label = batch.labels[batch.labels != IGNORE].max()
            raise ClassError(
                f"The map has the label {label}, the class map ends at {len(classes) - 1}: use the classes of the map."
            )
        kept = sieve.sift(batch, tracer)
        polygons = (
            _simplified(kept, frame, level0, simplify_um) if simplify_um else kept.polygons(frame.scale_to(level0))
        )
        for label, polygon in zip(kept.labels.tolist(), polygons, strict=True):
            yield LabelledPolygon(polygon, classes.names[label])
    if tracer.height != frame.height:
        raise GeometryError(f"The bands had {tracer.height} rows, the frame has {frame.height}: give the whole map.")


def _simplified(batch: Batch, frame: Frame, level0: Frame, tolerance: float) -> Iterator[shapely.Polygon]:
    """The polygons of a batch in level-0 pixels, simplified group by group (tolerance in µm)."""
    # What goes and what stays is a matter of areas, so it may be found in pixels of the map even if these are no
    # squares: there the corners are whole numbers and no rounding can make a polygon touch itself.
    pixels = tolerance / math.sqrt(frame.mpp * frame.mpp_y)
    scale = np.array(frame.scale_to(level0))
    starts = np.flatnonzero(np.diff(batch.groups, prepend=-1))
    for group in np.split(batch.polygons(), starts[1:]) if len(starts) else ():
        yield from shapely.transform(shapely.coverage_simplify(group, pixels), lambda corners: corners * scale)


class _Sieve:
    """Leaves out small objects and fills small holes (sizes in px).

    A hole is not filled over an object. What lies in a hole is finished earlier than the object round it, so the
    sieve remembers one pixel of every object that is small enough to lie in a small hole, as long as there may be an
    unfinished object round it.
    """

    def __init__(self, min_area: float, min_hole: float) -> None:
        self._min_area, self._min_hole = min_area, min_hole
        self._pixels: dict[int, list[int]] = {}  # row -> columns
        self._count, self._enough = 0, 10_000

    def sift(self, batch: Batch, tracer: Tracer) -> Batch:
        """The objects and rings to keep."""
        areas = np.add.reduceat(batch.areas, batch.objects[:-1])
        keep = (batch.labels != IGNORE) & (areas >= self._min_area)
        rings = np.repeat(keep, np.diff(batch.objects))
        if self._min_hole > 0:
            self._remember(batch, keep & (areas < self._min_hole), tracer)
            for i in np.flatnonzero(rings & (batch.areas < 0) & (-batch.areas < self._min_hole)):
                rings[i] = self._any_in(batch.corners[batch.rings[i] : batch.rings[i + 1]])
        return batch if rings.all() else batch.only(rings)

    def _remember(self, batch: Batch, objects: NDArray[np.bool_], tracer: Tracer) -> None:
        # The first corner of an object is the top left corner of one of its pixels.
        for x, y in batch.corners[batch.rings[batch.objects[:-1][objects]]].tolist():
            self._pixels.setdefault(y, []).append(x)
            self._count += 1
        if self._count > self._enough:
            oldest = min(tracer.oldest, int(batch.corners[:, 1].min()))
            self._pixels = {y: xs for y, xs in self._pixels.items() if y >= oldest}
            self._count = sum(map(len, self._pixels.values()))
            self._enough = max(10_000, 2 * self._count)

    def _any_in(self, ring: NDArray[np.int32]) -> bool:
        (left, top), (right, bottom) = ring.min(axis=0), ring.max(axis=0)
        near = [(x, y) for y in range(top, bottom) for x in self._pixels.get(y, ()) if left <= x < right]
        return bool(near) and bool(shapely.contains_xy(shapely.Polygon(ring), np.array(near) + 0.5).any())
