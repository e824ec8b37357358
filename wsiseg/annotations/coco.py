"""Write annotations as COCO instances (Lin et al., "Microsoft COCO", 2014; format: cocodataset.org, "Data format").

COCO has two ways to say where an object is. Polygons have no holes, so an object without holes is written as its
rings, to the hundredth of a pixel, and an object with holes as run lengths over the pixels of the slide, column by
column, by the pixel-centre rule. `area` and `bbox` are those of the polygon itself in both cases.

Run lengths of a slide of more than 2³² pixels do not fit the C code of pycocotools; readers in Python take them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from shapely import MultiPolygon

from wsiseg.annotations.canonical import Batch, canonical
from wsiseg.annotations.geojson_write import compact
from wsiseg.annotations.polygon import LabelledPolygon, Written
from wsiseg.annotations.rasterise import ANY, rasterise
from wsiseg.atomic import atomic_write
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Box, Frame


def write_coco(
    path: Path,
    polygons: Iterable[LabelledPolygon],
    *,
    classes: ClassMap,
    frame: Frame,
    properties: Mapping[str, Any] | None = None,
) -> Written:
    """Write one image with its instances, streamed.

    Args:
        path: the JSON file
        polygons: in level-0 pixels; a score becomes `score`, an id `uuid`
        classes: the categories: label and name
        frame: level 0, for the image's width and height
        properties: goes into `info`; its `slide` (or `slide["name"]`) becomes the image's `file_name`

    Raises:
        AnnotationError: an object has no class, which COCO cannot express
        ClassError: a label is not in `classes`
        OutputError: the place cannot be written or the disk is full
    """
    slide = (properties or {}).get("slide", "")
    name = slide.get("name", "") if isinstance(slide, Mapping) else slide
    image = {"id": 1, "width": frame.width, "height": frame.height, "file_name": str(name)}
    used: dict[int, str] = {index: name for index, name in enumerate(classes.names) if index}
    written = Written()
    with atomic_write(path) as sink:
        sink.write(
            b'{"info":' + _json(dict(properties or {}), path) + b',"licenses":[],"images":[' + _json(image, path)
        )
        sink.write(b'],"annotations":[')
        for batch in canonical(polygons):
            for number, row in enumerate(_rows(batch, classes, frame, written, used), written.objects + 1):
                sink.write((b",\n" if number > 1 else b"\n") + _json({"id": number, **row}, path))
            written += batch.written
        categories = [{"id": index, "name": used[index], "supercategory": ""} for index in sorted(used)]
        sink.write(b'\n],"categories":' + _json(categories, path) + b"}\n")
    return written


def _rows(
    batch: Batch, classes: ClassMap, frame: Frame, before: Written, used: dict[int, str]
) -> Iterable[dict[str, Any]]:
    bounds, areas = shapely.bounds(batch.shapes).tolist(), shapely.area(batch.shapes).tolist()
    for i, region in enumerate(batch.polygons):
        if region.label is None:
            number = before.objects + before.dropped + i + 1
            raise AnnotationError(f"Object {number} has no class, which COCO cannot say: give it one or write GeoJSON.")
        index = classes.index(region.label)
        used.setdefault(index, region.label)
        left, top, right, bottom = bounds[i]
        row = {
            "image_id": 1,
            "category_id": index,
            "segmentation": _segmentation(batch.shapes[i], frame),
            "area": round(areas[i], 4),  # hundredths of a px squared, so this is exact
            "bbox": [compact(v) for v in (left, top, round(right - left, 2), round(bottom - top, 2))],
            "iscrowd": 0,
            "uuid": batch.ids[i],
        }
        if region.score is not None and math.isfinite(region.score):
            row["score"] = region.score
        yield row


def _segmentation(shape: MultiPolygon, frame: Frame) -> list[list[float]] | dict[str, Any]:
    """Rings as [x, y, x, y, …] without the repeated corner, or run lengths where there are holes."""
    if any(part.interiors for part in shape.geoms):
        return run_lengths(shape, frame)
    rings = [shapely.get_coordinates(part.exterior)[:-1].ravel().tolist() for part in shape.geoms]
    return [[compact(value) for value in ring] for ring in rings]


def run_lengths(shape: MultiPolygon, frame: Frame) -> dict[str, Any]:
    """Uncompressed COCO run lengths of a shape on the pixels of a frame.

    Returns:
        `size` [height, width]; `counts`, of pixels outside, inside, outside, … down the columns, left to right
    """
    left, top, right, bottom = shape.bounds
    around = Box.from_bounds(math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
    box = around.overlap(frame.box)
    mask = rasterise([LabelledPolygon(shape, ANY.names[1])], ANY, box, frame, frame)
    # Where a run begins and where it ends, as positions in the columns of the frame put end to end.
    columns, rows = np.nonzero(np.diff(mask.T > 0, axis=1, prepend=False, append=False))
    edges = (box.x + columns) * frame.height + box.y + rows
    # A run down to the frame's last row and one from the first row of the next column are one.
    places, times = np.unique(edges, return_counts=True)
    ends = np.append(places[times == 1], frame.width * frame.height)
    counts = np.diff(ends, prepend=0)
    return {"size": [frame.height, frame.width], "counts": counts[: len(counts) - (counts[-1] == 0)].tolist()}


def _json(value: Any, path: Path) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise AnnotationError(
            f"The properties for {path} are not plain JSON ({error}): give text and numbers."
        ) from None
