"""From a label map to objects: polygons with class and confidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import ANY, covering
from wsiseg.annotations.split import split_touching
from wsiseg.annotations.trace import trace
from wsiseg.classes import IGNORE
from wsiseg.geometry import Box
from wsiseg.grid import Grid
from wsiseg.usage import Postprocessing

if TYPE_CHECKING:
    from wsiseg.stores.labels import LabelMap

STRIP_PX = 2**22  # of an object that are looked at together; an object may be as large as the tissue


def objects_of(labels: LabelMap, postprocessing: Postprocessing | None = None) -> Iterator[LabelledPolygon]:
    """The objects of a label map in level-0 pixels, each with its mean confidence as score.

    Args:
        labels: the map
        postprocessing: smallest object and hole, simplification, joining and splitting; the map's own when None

    See `wsiseg.annotations.trace.trace` and `wsiseg.annotations.split.split_touching` for what each setting does.
    """
    p = labels.postprocessing if postprocessing is None else postprocessing
    bands, classes = labels.bands(), labels.classes
    if p.whole_objects:
        bands, classes = (np.where((b > 0) & (b != IGNORE), 1, 0).astype(np.uint8) for b in bands), ANY
    found = trace(
        bands, classes, labels.frame, labels.level0,
        min_area_um2=p.min_object_um2, min_hole_um2=p.min_hole_um2, simplify_um=p.simplify_um,
    )  # fmt: skip
    if p.split_distance_um:
        found = split_touching(found, labels.frame, labels.level0, p.split_distance_um)
    of_label, of_score = RowReader(labels.row, labels.grid), RowReader(labels.score_row, labels.grid)
    for region, covered in covering(found, labels.frame, labels.level0):
        counts = np.zeros(256, np.int64)  # of labels
        score = pixels = 0
        for box in _strips(region, labels):
            inside = covered(box)
            if p.whole_objects:
                counts += np.bincount(of_label.read(box)[inside], minlength=256)
            score += int(of_score.read(box)[inside].sum())
            pixels += int(inside.sum())
        most = 1 + int(counts[1 : len(labels.classes)].argmax())
        name = labels.classes.names[most] if p.whole_objects else region.label
        yield replace(region, label=name, score=round(score / max(pixels, 1) / 255, 4))


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


class RowReader:
    """Boxes of a label map, from whole rows of its grid of which the last few are kept.

    Objects come from top to bottom, many to a row, and a read from Zarr takes milliseconds, however small it is.
    """

    KEPT = 4  # rows

    def __init__(self, whole: Callable[[int], np.ndarray], grid: Grid) -> None:
        """Over `LabelMap.row` or `LabelMap.score_row`."""
        self._whole, self._grid = lru_cache(self.KEPT)(whole), grid

    def read(self, box: Box) -> np.ndarray:
        """(box.h, box.w) uint8; 0 outside the frame."""
        out, stride = np.zeros(box.shape, np.uint8), self._grid.stride
        inside = box.overlap(self._grid.frame.box)
        for row in range(inside.y // stride, -(-inside.bottom // stride)) if inside else ():
            band = self._grid.row_box(row)
            part = inside.overlap(band)
            out[part.relative_to(box).slices] = self._whole(row)[part.relative_to(band).slices]
        return out
