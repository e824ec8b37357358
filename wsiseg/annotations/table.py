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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

from wsiseg.annotations.canonical import Batch, canonical
from wsiseg.annotations.polygon import LabelledPolygon, Written
from wsiseg.atomic import atomic_write
from wsiseg.errors import AnnotationError
from wsiseg.extras import require_extra
from wsiseg.geometry import Frame

TEXT = ("id", "class")
DERIVED = ("area_um2", "perimeter_um", "centroid_x_um", "centroid_y_um", "centroid_x_px", "centroid_y_px")

# Text columns, then numbers with NaN where there is none.
Columns: TypeAlias = tuple[dict[str, list[str | None]], dict[str, NDArray[np.float64]]]


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
    (texts, numbers), written = _columns(polygons, frame)
    # Ten digits are more than any slide scanner knows; what others measured is passed on as it came.
    columns: list[Sequence[str | None]] = [*texts.values()]
    columns += [_shown(values, ".10g" if name in DERIVED else "") for name, values in numbers.items()]
    with atomic_write(path) as sink:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow([*texts, *numbers])
        for start in range(0, written.objects, 4096):
            part = slice(start, start + 4096)
            rows.writerows(zip(*[column[part] for column in columns], strict=True))
            sink.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
        sink.write(text.getvalue().encode())
    return written


def write_parquet(path: Path, polygons: Iterable[LabelledPolygon], *, frame: Frame) -> Written:
    """Write a Parquet table with the columns of the CSV one; missing values are null.

    Raises:
        MissingExtraError: pyarrow is not installed
        AnnotationError: a measurement has the name of a column
        OutputError: the place cannot be written or the disk is full
    """
    require_extra("pyarrow", "Parquet", otherwise="write .csv")
    import pyarrow
    import pyarrow.parquet

    (texts, numbers), written = _columns(polygons, frame)
    columns = {name: pyarrow.array(values, pyarrow.string()) for name, values in texts.items()}
    columns |= {name: pyarrow.array(values, from_pandas=True) for name, values in numbers.items()}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    with atomic_write(path) as sink:
        sink.write(buffer.getvalue())
    return written


def _columns(polygons: Iterable[LabelledPolygon], frame: Frame) -> tuple[Columns, Written]:
    """The whole table, because the names of all measurements are known only at the end."""
    ids: list[str | None] = []
    labels: list[str | None] = []
    parts: list[dict[str, NDArray[np.float64]]] = []
    written = Written()
    for batch in canonical(polygons):
        ids += batch.ids
        labels += [region.label for region in batch.polygons]
        parts.append(_geometry(batch, frame) | _stated(batch, written.objects + written.dropped))
        written += batch.written
    names = list(dict.fromkeys([*DERIVED, "score", *(name for part in parts for name in part)]))
    lengths = [len(part[DERIVED[0]]) for part in parts]
    numbers = {
        name: np.concatenate(
            [part.get(name, np.full(n, np.nan)) for part, n in zip(parts, lengths, strict=True)] or [np.empty(0)]
        )
        for name in names
    }
    return (dict(zip(TEXT, (ids, labels), strict=True)), numbers), written


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
    scores = [np.nan if region.score is None else region.score for region in batch.polygons]
    columns = {"score": np.array(scores, dtype=np.float64)}
    for row, region in enumerate(batch.polygons):
        for name, value in region.measurements.items():
            if name in (*TEXT, *DERIVED, "score"):
                number = before + row + 1
                raise AnnotationError(
                    f"Outline {number} has a measurement called {name!r}, which is a column: rename it."
                )
            if name not in columns:
                columns[name] = np.full(len(batch), np.nan)
            columns[name][row] = value
    return columns


def _shown(values: NDArray[np.float64], style: str) -> list[str]:
    """Numbers as text; empty if not finite."""
    return [format(value, style) if ok else "" for value, ok in zip(values.tolist(), np.isfinite(values), strict=True)]
