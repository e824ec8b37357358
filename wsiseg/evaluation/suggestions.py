"""What is probably wrong with the annotations of a slide, as the objects that a model predicts there suggest.

Annotations that people drew are rarely complete: objects are overlooked, cut where a tile ended, or drawn beside their
place. A model that has not learnt from these annotations disagrees with them there. Only where it is confident does its
disagreement count, the idea of confident learning (Northcutt et al. 2021, https://doi.org/10.1613/jair.1.12125).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from wsiseg.annotations.polygon import Details, LabelledPolygon
from wsiseg.classes import ClassMap

KINDS = ("missed", "halved", "misplaced", "none")

CONFIDENT, UNSUPPORTED = 0.6, 0.05

FREE = 0.1  # of a predicted object's area, at most, is annotated where an object was missed
HALF = (0.3, 0.75)  # of its area are annotated where an annotation was cut
INSIDE = 0.5  # of an area: a polygon belongs to another one that covers more of it than this
STRAIGHT = 0.4  # of the diameter of the circle of the same area: the straight edge at which an annotation was cut
ALONG = 0.015  # of that diameter: how far corners may lie from a straight line
APART, SAME = 0.1, 0.5  # IoU: below the first, two polygons are of two objects; from the second on, they agree


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One annotation, or one place without one, that a person should look at.

    Attributes:
        kind: one of `KINDS`
        object: what to look at, in level-0 pixels: the predicted object, or of the kind "none" the annotation. Its
            class is the object's own, its name says "probably" and the kind, and its score is how sure the model is
        unannotated: the part of a predicted object that no annotation covers; empty for the kind "none"
    """

    kind: str
    object: LabelledPolygon
    unannotated: BaseGeometry


def suggest(
    annotations: Sequence[LabelledPolygon],
    predicted: Sequence[LabelledPolygon],
    classes: ClassMap,
    support: Callable[[LabelledPolygon], float],
    *,
    confident: float = CONFIDENT,
    unsupported: float = UNSUPPORTED,
    smallest: float = 0.0,
) -> list[Suggestion]:
    """Compare the annotations of a slide with the objects that a model predicts on it.

    - missed: a confident object, of which annotations cover almost nothing
    - halved: a confident object of which annotations cover 30 to 75 %, and which goes on behind a long straight edge of
      one of them, parallel to an axis
    - misplaced: a confident object and the annotations of it overlap with an IoU of 0.1 to 0.5, and at least a quarter
      of the object is not annotated: an object that the model sees too small is no fault of the annotation
    - none: an annotation in which the model sees no object

    Where classes state nothing (Ignore, say), nothing is suggested.

    Args:
        annotations: with classes of `classes`, ignored ones among them, in level-0 pixels
        predicted: in the same plane, each with the mean probability of the foreground as its score
        classes: of the model
        support: the mean probability of the foreground in an annotation
        confident: objects with a lower score suggest nothing
        unsupported: annotations with more support are not doubted
        smallest: px², area of the smallest object that the model reports: smaller annotations are not doubted

    Returns:
        for the predicted objects in their order, and then for the annotations in theirs
    """
    silent = [a.polygon for a in annotations if classes.ignores(str(a.label))]
    drawn = [a for a in annotations if not classes.ignores(str(a.label))]
    shapes, objects = _array([a.polygon for a in drawn]), _array([p.polygon for p in predicted])
    tree, others, silence = shapely.STRtree(shapes), shapely.STRtree(objects), shapely.unary_union(silent)
    found = []
    for one in predicted:
        if (one.score or 0) < confident or _fraction(one.polygon, silence) > FREE:
            continue
        near = shapes[np.sort(tree.query(one.polygon, predicate="intersects"))]
        kind = _kind(one.polygon, near, objects, others)
        if kind:
            found.append(_suggestion(kind, one, one.polygon.difference(shapely.unary_union(list(near)))))
    for one in drawn:
        if one.polygon.area < smallest or _fraction(one.polygon, silence) > FREE:
            continue
        if (seen := support(one)) <= unsupported:
            found.append(_suggestion("none", replace(one, score=round(1 - seen, 4)), shapely.Polygon()))
    return found


def _suggestion(kind: str, one: LabelledPolygon, unannotated: BaseGeometry) -> Suggestion:
    named = replace(one, id=None, measurements={}, details=Details(kind="annotation", name=f"probably {kind}"))
    return Suggestion(kind, named, unannotated)


def _kind(one: BaseGeometry, near: np.ndarray, objects: np.ndarray, others: shapely.STRtree) -> str:
    """What a confident object says of the annotations that touch it; empty if it agrees with them."""
    covered = _fraction(one, shapely.unary_union(list(near)))
    if covered < FREE:
        return "missed"
    inner = [a for a in near if _fraction(a, one) > INSIDE]
    own = shapely.unary_union(inner) if inner else max(near, key=lambda a: float(one.intersection(a).area))
    if covered > HALF[1]:
        return ""
    if HALF[0] <= covered <= HALF[1] and inner and any(_is_cut(a, one) for a in inner):
        return "halved"
    # Several predicted parts of one annotation agree with it.
    parts = objects[others.query(own, predicate="intersects")]
    together = shapely.unary_union([part for part in parts if _fraction(part, own) > INSIDE])
    return "misplaced" if APART < _iou(own, one) < SAME and _iou(own, together) < SAME else ""


def _is_cut(drawn: Any, whole: BaseGeometry) -> bool:
    """Whether an annotation ends along a line parallel to an axis, behind which the object goes on."""
    size = math.sqrt(4 / math.pi * whole.area)
    for part in getattr(drawn, "geoms", [drawn]):
        corners = np.asarray(part.exterior.coords)
        for axis in (0, 1):
            for line in np.unique(np.round(corners[:, axis])):
                on = np.abs(corners[:, axis] - line) <= max(1.0, ALONG * size)
                edges = np.flatnonzero(on[:-1] & on[1:])
                if np.abs(np.diff(corners[:, 1 - axis]))[edges].sum() < STRAIGHT * size:
                    continue
                cut = shapely.multilinestrings([corners[i : i + 2] for i in edges])
                if cut.intersection(whole).length >= STRAIGHT * size:
                    return True
    return False


def _array(shapes: Sequence[BaseGeometry]) -> np.ndarray:
    out = np.empty(len(shapes), object)
    out[:] = shapes
    return out


def _fraction(of: BaseGeometry, covering: BaseGeometry) -> float:
    """Of a polygon's area, the part that another one covers."""
    return float(of.intersection(covering).area / of.area) if of.area else 0.0


def _iou(one: BaseGeometry, other: BaseGeometry) -> float:
    both = one.intersection(other).area
    whole = one.area + other.area - both
    return float(both / whole) if whole else 0.0
