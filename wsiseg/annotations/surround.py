"""Buffers around annotations, the area outside all of them, and the area inside those without a class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import shapely
from shapely import box, union_all

from wsiseg.annotations.gather import only_areas
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.geometry import Frame


def buffer(polygons: Iterable[LabelledPolygon], margin_um: float, level0: Frame) -> list[LabelledPolygon]:
    """Annotations with a margin around them, in level-0 pixels."""
    return [replace(r, polygon=r.polygon.buffer(margin_um / level0.mpp)) for r in polygons]


def outside(polygons: Sequence[LabelledPolygon], level0: Frame, classes: ClassMap) -> LabelledPolygon:
    """Everything outside the polygons as one polygon of an ignored class: nothing is stated there."""
    plane = box(0, 0, level0.width, level0.height)
    return LabelledPolygon(plane.difference(union_all([r.polygon for r in polygons])), classes.ignore_names[0])


def statements_first(polygons: Sequence[LabelledPolygon]) -> list[LabelledPolygon]:
    """The polygons, those that state nothing cut back by those that state a class: a statement wins over none.

    A polygon that lies under statements altogether is left out.
    """
    silent = np.array([p.states_nothing for p in polygons], dtype=bool)
    if silent.all() or not silent.any():
        return list(polygons)
    shapes = np.array([p.polygon for p in polygons], dtype=object)
    stated = shapes[~silent]
    below, above = shapely.STRtree(stated).query(shapes[silent], predicate="intersects")
    place, found = np.flatnonzero(silent), list(polygons)
    for i in np.unique(below):
        rest = shapes[place[i]].difference(union_all(stated[above[below == i]]))
        found[place[i]] = replace(found[place[i]], polygon=only_areas(rest))
    return [p for p in found if not p.polygon.is_empty]
