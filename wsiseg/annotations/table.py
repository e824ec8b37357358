"""Write annotations as a flat table, one row per object: CSV, and Parquet if pyarrow is installed.

| column | unit | meaning |
|---|---|---|
| id | | UUID, the same as in GeoJSON |
| class | | empty without a class |
| area_um2 | µm² | holes left out |
| perimeter_um | µm | all rings, those of holes too |
| centroid_x_um, centroid_y_um | µm | centre of gravity, from the slide's top left corner |
| centroid_x_px, centroid_y_px | level-0 px | the same |
| score | 0 to 1 | empty without a score |
| … | as their names say | the measurements, empty where an object lacks one |
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

from wsiseg.annotations.canonical import Batch, canonical
from wsiseg.annotations.polygon import LabelledPolygon, Written
from wsiseg.atomic import atomic_write
from wsiseg.errors import AnnotationError
from wsiseg.extras import require_extra
from wsiseg.geometry import Frame

DERIVED = ("area_um2", "perimeter_um", "centroid_x_um", "centroid_y_um", "centroid_x_px", "centroid_y_px")
ROWS = 4096  # of a CSV table that are text at once

# Column name -> one value a row: text (None where there is none), integers, booleans, or floats (NaN where none).
Table: TypeAlias = Mapping[str, NDArray[Any]]


def write_csv(path: Path, polygons: Iterable[LabelledPolygon], *, frame: Frame) -> Written:
    """Write a CSV table: UTF-8, commas, a point in numbers, empty fields for what is not known.

    Args:
        path: the file
        polygons: in level-0 pixels
        frame: level 0, whose µm/px (along x and y) make µm out of pixels

    Raises:
        AnnotationError: a measurement has the name of a column
        OutputError: the place cannot be written or the disk is full
    """
    table, written = _columns(polygons, frame)
    with atomic_write(path) as sink:
        for part in csv_parts(table, exact=table.keys() - set(DERIVED)):  # what others measured stays as it came
            sink.write(part)
    return written


def write_parquet(path: Path, polygons: Iterable[LabelledPolygon], *, frame: Frame) -> Written:
    """Write a Parquet table with the columns of the CSV one; missing values are null.

    Raises:
        MissingExtraError: pyarrow is not installed
        AnnotationError: a measurement has the name of a column
        OutputError: the place cannot be written or the disk is full
    """
    require_extra("pyarrow", "Parquet", otherwise="write .csv")
    table, written = _columns(polygons, frame)
    with atomic_write(path) as sink:
        sink.write(parquet(table))
    return written


def csv_parts(table: Table, exact: Collection[str] = ()) -> Iterator[bytes]:
    """A table as CSV, some rows at a time: `true` and `false`, and empty fields for what is not known.

    Args:
        table: columns of one length
        exact: columns whose numbers have all their digits; ten are more than any slide scanner knows
    """
    styles = ["" if name in exact else ".10g" for name in table]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(table)
    for start in range(0, max(1, len(next(iter(table.values())))), ROWS):
        columns = [values[start : start + ROWS].tolist() for values in table.values()]
        rows.writerows(zip(*(map(partial(_shown, s), c) for s, c in zip(styles, columns, strict=True)), strict=True))
        yield text.getvalue().encode("utf-8", "replace")  # a file's name may be no text
        text.seek(0)
        text.truncate()


def _shown(style: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(value, style) if math.isfinite(value) else ""
    return "" if value is None else str(value)


def parquet(table: Table) -> bytes:
    """A table as Parquet; what is not known is null. pyarrow must be installed."""
    import pyarrow
    import pyarrow.parquet

    columns = {
        name: pyarrow.array(values.tolist(), pyarrow.string())
        if values.dtype == object
        else pyarrow.array(values, from_pandas=True)
        for name, values in table.items()
    }
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def _columns(polygons: Iterable[LabelledPolygon], frame: Frame) -> tuple[Table, Written]:
    """The whole table, because the names of all measurements are known only at the end."""
    ids: list[str] = []
    labels: list[str | None] = []
    parts: list[dict[str, NDArray[np.float64]]] = [dict.fromkeys((*DERIVED, "score"), np.empty(0))]
    written = Written()
    for batch in canonical(polygons):
        ids += batch.ids
        labels += [polygon.label for polygon in batch.polygons]
        parts.append(_geometry(batch, frame) | _stated(batch, written.objects + written.dropped))
        written += batch.written
    table: dict[str, NDArray[Any]] = {"id": np.array(ids, object), "class": np.array(labels, object)}
    for name in dict.fromkeys(name for part in parts for name in part):
        table[name] = np.concatenate([p.get(name, np.full(len(p["score"]), np.nan)) for p in parts])
    return table, written


def _geometry(batch: Batch, frame: Frame) -> dict[str, NDArray[np.float64]]:
    scale = np.array([frame.mpp, frame.mpp_y])
    scaled = shapely.transform(batch.shapes, lambda points: points * scale)
    # The centre of gravity moves with the scale, so it is computed once.
    centre = shapely.get_coordinates(shapely.centroid(batch.shapes))
    area = shapely.area(batch.shapes) * (frame.mpp * frame.mpp_y)
    columns = (area, shapely.length(scaled), *(centre * scale).T, *centre.T)
    return dict(zip(DERIVED, columns, strict=True))


def _stated(batch: Batch, before: int) -> dict[str, NDArray[np.float64]]:
    """Scores and measurements, NaN where an object has none."""
    columns = {"score": np.array([p.score for p in batch.polygons], dtype=np.float64)}
    for row, polygon in enumerate(batch.polygons):
        for name, value in polygon.measurements.items():
            if name in ("id", "class", *DERIVED, "score"):
                raise AnnotationError(
                    f"Object {before + row + 1} has a measurement called {name!r}, which is a column: rename it."
                )
            if name not in columns:
                columns[name] = np.full(len(batch), np.nan)
            columns[name][row] = value
    return columns
