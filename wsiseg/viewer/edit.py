"""What a person does to objects by hand, as geometry in level-0 pixels.

| tool | its points | what comes of it |
|---|---|---|
| polygon | the corners | a new object |
| brush | the way of the brush | the object at hand and what was brushed; a new object where there is none |
| eraser | the way of the eraser | the object at hand without what was erased, each piece an object |
| split | a line | the pieces of the object at hand |
| merge | none | one object of all selected ones |

The object at hand is the selected one that the points meet, or else the topmost one under them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict, Field
from shapely import LineString, Point, Polygon
from shapely.ops import split

from wsiseg.annotations.gather import Area, make_valid, only_areas
from wsiseg.annotations.polygon import PLAIN, Details, LabelledPolygon
from wsiseg.viewer.outlines import REJECTED, OutlineLayer

LEAST = 4.0  # px² of an object; what is smaller is a slip of the hand
MOST_POINTS = 20_000
MADE = "wsiseg"  # in an object's metadata: what a person did
DECISIONS = {
    "accepted": "accepted",
    "rejected": "rejected",
    "unreviewed": "unreviewed",
    "delete": "rejected",
    "class": "accepted",
}
Tool = Literal["polygon", "brush", "eraser", "split", "merge", "accepted", "rejected", "unreviewed", "delete", "class"]
Real = Annotated[float, Field(allow_inf_nan=False, ge=-1e7, le=1e7)]


class Edit(BaseModel):
    """What the page sends.

    Attributes:
        tool: see above, or one of `DECISIONS`, which is made for all selected objects
        points: (x, y) in level-0 px
        radius: of the brush and the eraser, level-0 px
        objects: the numbers of those that are selected
        label: the class of a new object, or with "class" of the selected ones
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    tool: Tool
    points: list[Annotated[list[Real], Field(min_length=2, max_length=2)]] = Field(default=[], max_length=MOST_POINTS)
    radius: Annotated[float, Field(gt=0, le=1e5)] = 1.0
    objects: list[int] = Field(default=[], max_length=1000)
    label: str | None = None


def edited(layer: OutlineLayer, edit: Edit) -> tuple[list[LabelledPolygon], list[int]]:
    """The objects that an edit makes, and the numbers of those that they replace.

    Raises:
        ValueError: nothing can come of it, in one sentence
    """
    chosen = [layer.polygons[n] for n in edit.objects]
    if edit.tool == "merge":
        if len(edit.objects) < 2:
            raise ValueError("Select two or more objects to merge: click on them with Shift.")
        largest = max(edit.objects, key=lambda n: layer.shapes.area_px[n])
        return _made(layer, [shapely.union_all([p.polygon for p in chosen])], largest), edit.objects
    if not edit.points:
        raise ValueError("Nothing was drawn: draw on the slide.")
    if edit.tool == "polygon":
        if len(edit.points) < 3:
            raise ValueError("A polygon has three corners or more: click on each of them.")
        return _made(layer, [_valid(Polygon(edit.points))], label=edit.label), []
    line = LineString(edit.points) if len(edit.points) > 1 else Point(edit.points[0])
    if edit.tool == "split":
        return _split(layer, edit.objects, line)
    stroke = _stroke(line, edit.radius)
    if edit.tool == "brush":
        found = _at_hand(layer, edit.objects, stroke, edit.points[:1])
        if not found:
            return _made(layer, [stroke], label=edit.label), []
        return _made(layer, [layer.polygons[found[0]].polygon.union(stroke)], found[0]), found[:1]
    along = line if isinstance(line, Point) else line.segmentize(max(edit.radius, line.length / 200) or 1.0)
    found = _at_hand(layer, edit.objects, stroke, along.coords)
    if not found:
        raise ValueError("The eraser touches no object: begin on one, or select it first.")
    rest = [piece for n in found for piece in _made(layer, _pieces(layer.polygons[n].polygon - stroke), n, least=0)]
    return rest, found


def _split(
    layer: OutlineLayer, chosen: Sequence[int], line: LineString | Point
) -> tuple[list[LabelledPolygon], list[int]]:
    middle = line.interpolate(0.5, normalized=True) if isinstance(line, LineString) else line
    drawn: list[LabelledPolygon] = []
    instead: list[int] = []
    for n in _at_hand(layer, chosen, line, [(middle.x, middle.y)]):
        area = layer.polygons[n].polygon
        pieces = _pieces(split(area, line)) if line.length else []
        if len(pieces) > max(1, len(_pieces(area))):
            drawn += _made(layer, pieces, n, least=0)
            instead.append(n)
    if not drawn:
        raise ValueError("The line divides no object: draw it across one, from outside to outside.")
    return drawn, instead


def _at_hand(
    layer: OutlineLayer, chosen: Sequence[int], drawn: shapely.Geometry, points: Iterable[Sequence[float]]
) -> list[int]:
    """The chosen objects that meet what was drawn, or else the topmost one under the first point that has one."""
    met = [n for n in chosen if layer.polygons[n].polygon.intersects(drawn)]
    under = (layer.at(x, y, REJECTED) for x, y in points)
    return met or [n for n in [next((n for n in under if n is not None), None)] if n is not None]


def _stroke(line: LineString | Point, radius: float) -> Area:
    """What a round brush leaves; its edge has no more corners than can be seen."""
    return _valid(line.simplify(radius / 20).buffer(radius).simplify(radius / 100))


def _valid(area: Area) -> Area:
    return make_valid(np.array([area], dtype=object))[0][0]


def _pieces(geometry: shapely.Geometry) -> list[Polygon]:
    return [part for part in shapely.get_parts(only_areas(geometry)).tolist() if part.area >= LEAST]


def _made(
    layer: OutlineLayer, areas: Iterable[Area], of: int | None = None, *, label: str | None = None, least: float = LEAST
) -> list[LabelledPolygon]:
    """New objects on the slide: of a class, or like another object that a person corrected.

    Score and measurements are those of the old object and are left out.
    """
    plane = shapely.box(0, 0, layer.shapes.level0.width, layer.shapes.level0.height)
    if of is None:
        if label not in layer.names:
            raise ValueError("There is no such class: choose one of the list.")
        details = PLAIN
    else:
        label, details = layer.names[layer.label[of]], layer.polygons[of].details
    what = "drawn by hand" if of is None or details.metadata.get(MADE) == "drawn by hand" else "corrected by hand"
    details = Details("annotation", details.name, metadata={**details.metadata, MADE: what})
    found = [only_areas(area & plane) for area in areas]
    if any(area.area < LEAST for area in found) and least:
        raise ValueError("What was drawn has no area on the slide: draw around the object.")
    return [LabelledPolygon(area, label, id=str(uuid.uuid4()), details=details) for area in found if area.area >= LEAST]
