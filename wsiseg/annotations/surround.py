"""What lies a little around outlines, and what lies outside all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from shapely import box, union_all

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.geometry import Frame


def buffer(polygons: Iterable[LabelledPolygon], margin_um: float, level0: Frame) -> list[LabelledPolygon]:
    """Annotations with a margin around them, in level-0 pixels."""
    return [replace(r, polygon=r.polygon.buffer(margin_um / level0.mpp)) for r in polygons]


def outside(polygons: Sequence[LabelledPolygon], level0: Frame, classes: ClassMap) -> LabelledPolygon:
    """Everything outside the outlines as one region of an ignored class: nothing is stated there."""
    plane = box(0, 0, level0.width, level0.height)
    return LabelledPolygon(plane.difference(union_all([r.polygon for r in polygons])), classes.ignore_names[0])
