"""Measurements of any organ: one table of all objects, one of their classes, one row for the slide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.measure.column import CLASS, Column, Table, expanded, means_of, tabulated, text
from wsiseg.measure.nesting import NOBODY, Nesting
from wsiseg.measure.objects import (
    AREA,
    ID,
    LABEL,
    OF_SLIDE,
    PLACE,
    SHAPE,
    SLIDE,
    Measured,
    Objects,
    Part,
    Summary,
    TissueContext,
    one_row,
    per_area,
    settled,
    with_measurements,
)  # fmt: skip

ONE_CLASS = "all objects have one class"
_OWN = "the object itself has that class"


def _nested(compute: Callable[[Objects, int], Any]) -> Callable[[Objects, str], Any]:
    """A number about the objects of a class that lie in others: none for the objects of that class themselves, and
    absent where there is one class alone."""

    def values(objects: Objects, label: str) -> Any:
        if len(objects.around.classes) < 2:
            return None
        own = np.array([p.label == label for p in objects.polygons], np.bool_)
        return np.where(own, np.nan, compute(objects, objects.around.classes.index(label)))

    return values


OBJECTS = (
    SLIDE,
    ID,
    LABEL,
    Column(
        "parent", "", "Id of the smallest larger object of another class that holds the centroid.",
        lambda o: text(None if i == NOBODY else o.polygons[i].id for i in o.around.nesting.parents()),
        empty="no object holds it",
    ),
    AREA,
    *SHAPE,
    *PLACE,
    Column(
        f"n[{CLASS}]", "", f"Number of objects of the class {CLASS} that lie in it: their centroid does.",
        _nested(lambda o, n: o.around.nesting.count(n)),
        absent=ONE_CLASS, empty=_OWN, shown=f"{CLASS}: number", compared=True, averaged=True,
    ),
    Column(
        f"per_mm2[{CLASS}]", "1/mm²", f"Their number divided by its area ({CLASS}).",
        _nested(lambda o, n: o.around.nesting.count(n) / o["area_um2"] * 1e6),
        absent=ONE_CLASS, empty=_OWN, shown=f"{CLASS}: per mm²", compared=True, averaged=True,
    ),
    Column(
        f"area_fraction[{CLASS}]", "0 to 1", f"The sum of their areas divided by its area ({CLASS}).",
        _nested(lambda o, n: o.around.nesting.area_of(n) * (o.place.frame.mpp * o.place.frame.mpp_y) / o["area_um2"]),
        absent=ONE_CLASS, empty=_OWN, shown=f"{CLASS}: area fraction", compared=True, averaged=True,
    ),
)  # fmt: skip

NO_TISSUE = "there is no tissue"
NO_OBJECTS = "there are no such objects"
PER_MM2 = Column(
    "objects_per_mm2", "1/mm²", "Their number per area of tissue.",
    lambda s: per_area(len(s.used), s.place.tissue_um.area / 1e6), empty=NO_TISSUE, compared=True,
)  # fmt: skip
CLASSES = (
    Column("slide", "", "File name of the slide.", lambda s: s.place.slide),
    Column("class", "", "The class.", lambda s: s.label),
    Column("objects", "", "Number of objects of this class.", lambda s: len(s.used), compared=True),
    PER_MM2,
    Column("area_mm2", "mm²", "Sum of their areas.", lambda s: s.area_um2 / 1e6, compared=True),
    Column(
        "tissue_fraction", "0 to 1", "That sum divided by the area of the tissue.",
        lambda s: per_area(s.area_um2, s.place.tissue_um.area), empty=NO_TISSUE, compared=True,
    ),
    *means_of(OBJECTS, "the objects of this class", NO_OBJECTS),
)  # fmt: skip

SLIDES = (
    *OF_SLIDE,
    Column("objects", "", "Number of objects of all classes.", lambda s: len(s.used), compared=True),
    PER_MM2,
)

TABLES = {"slides": SLIDES, "classes": CLASSES, "objects": OBJECTS}


class _Around:
    """What the columns of objects need beside their own polygons: all classes, and which object lies in which."""

    def __init__(self, polygons: Sequence[LabelledPolygon], classes: Sequence[str]) -> None:
        self.classes = list(classes)
        numbers = {label: n for n, label in enumerate(self.classes)}
        labels = [numbers.get(p.label or "", -1) for p in polygons]
        self.nesting = Nesting(np.array([p.polygon for p in polygons], object), np.array(labels, np.int64))


class _OfClass(Summary):
    """The objects of one class."""

    def __init__(self, objects: Objects, label: str) -> None:
        chosen = np.array([r.label == label for r in objects.polygons], np.bool_)
        super().__init__(objects.place, Part(objects, chosen), np.ones(int(chosen.sum()), np.bool_))
        self.label = label
        self.area_um2 = float(objects["area_um2"][chosen].sum())


def measure_generic(
    polygons: Sequence[LabelledPolygon], place: TissueContext, classes: Sequence[str], *, seed: int = 0
) -> Measured:
    """Measure the objects of a slide, whatever they are.

    Args:
        polygons: in level-0 pixels
        place: the slide's plane and tissue
        classes: all classes that the files know, background and ignored ones left out; objects of other classes are
            kept and not measured
        seed: of the bootstrap

    Raises:
        AnnotationError: an object is not a polygon or has an impossible name or coordinate
    """
    everything = settled(polygons)
    rows = [i for i, r in enumerate(everything) if r.label is None or r.label in classes]
    chosen = [everything[i] for i in rows]
    columns = expanded(OBJECTS, classes)
    objects = Objects(chosen, columns, place, _Around(chosen, classes))
    table = tabulated(columns, objects)
    of_classes = [_OfClass(objects, label).row(expanded(CLASSES, classes), seed) for label in classes]
    slide = Summary(place, objects, np.ones(len(chosen), np.bool_)).row(SLIDES, seed)
    with_measurements(everything, rows, table, columns)
    return Measured(
        "generic",
        {"slides": one_row(slide), "classes": _stacked(of_classes), "objects": table},
        {"objects": rows},
        tuple(everything),
    )


def _stacked(rows: list[dict[str, Any]]) -> Table:
    if not rows:
        return {name: np.empty(0, object) for column in CLASSES if CLASS not in column.name for name in column.names}
    tables = [one_row(row) for row in rows]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
