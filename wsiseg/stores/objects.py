"""From a label map to outlines with class and confidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import ANY, covering
from wsiseg.annotations.split import split_touching
from wsiseg.annotations.trace import trace
from wsiseg.classes import IGNORE
from wsiseg.geometry import Box
from wsiseg.stores.labels import LabelMap, RowReader

STRIP_PX = 2**22  # of an object that are looked at together; an object may be as large as the tissue


def objects_of(
    labels: LabelMap,
    *,
    min_object_um2: float = 0.0,
    min_hole_um2: float = 0.0,
    simplify_um: float = 0.0,
    whole_objects: bool = False,
    split_distance_um: float = 0.0,
) -> Iterator[LabelledPolygon]:
    """The objects of a label map as regions in level-0 pixels, each with its mean confidence as score.

    Args:
        labels: the map
        min_object_um2, min_hole_um2, simplify_um: as of `wsiseg.annotations.trace.trace`
        whole_objects: pixels of several classes that touch are one object, of the class that most of them have; right
            where the classes are kinds of one thing. Otherwise each class has its own outlines.
        split_distance_um: touching objects are taken apart, as of `wsiseg.annotations.split.split_touching`; 0: they are not
    """
    bands, classes = labels.bands(), labels.classes
    if whole_objects:
        bands, classes = (np.where((b > 0) & (b != IGNORE), 1, 0).astype(np.uint8) for b in bands), ANY
    found = trace(
        bands, classes, labels.frame, labels.level0,
        min_area_um2=min_object_um2, min_hole_um2=min_hole_um2, simplify_um=simplify_um,
    )  # fmt: skip
    if split_distance_um:
        found = split_touching(found, labels.frame, labels.level0, split_distance_um)
    of_label, of_score = RowReader(labels.row, labels.grid), RowReader(labels.score_row, labels.grid)
    for region, covered in covering(found, labels.frame, labels.level0):
        counts = np.zeros(256, np.int64)  # of labels
        sure = pixels = 0
        for box in _strips(region, labels):
            inside = covered(box)
            if whole_objects:
                counts += np.bincount(of_label.read(box)[inside], minlength=256)
            sure += int(of_score.read(box)[inside].sum())
            pixels += int(inside.sum())
        name = (
            labels.classes.names[1 + int(counts[1 : len(labels.classes)].argmax())] if whole_objects else region.label
        )
        yield replace(region, label=name, score=round(sure / max(pixels, 1) / 255, 4))


def _strips(region: LabelledPolygon, labels: LabelMap) -> Iterator[Box]:
    """Boxes of the map's frame that make up the one round a region."""
    sx, sy = labels.level0.scale_to(labels.frame)
    left, top, right, bottom = region.polygon.bounds
    box = Box.from_bounds(
        round(left * sx), round(top * sy), max(round(right * sx), round(left * sx) + 1), round(bottom * sy)
    )
    rows = max(1, STRIP_PX // box.w)
    for y in range(box.y, box.bottom, rows):
        yield Box(box.x, y, box.w, min(rows, box.bottom - y))
