"""What the tests of all formats write, and how they read areas back."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

from shapely import MultiPolygon, Point, Polygon, box

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.geometry import Frame

FRAME = Frame(400, 300, 0.25, 0.5)
HOLED = Polygon(box(10, 10, 60, 50).exterior, [box(20, 20, 40, 40).exterior])
ISLAND = box(25, 25, 35, 35)
SAMPLE = [
    LabelledPolygon(HOLED, "Glomerulus", score=0.875, measurements={"Area of lumen µm²": 12.5}),
    LabelledPolygon(ISLAND, "Glomerulus", measurements={"nuclei": 3}),
    LabelledPolygon(MultiPolygon([box(100, 100, 110, 110), box(120, 100, 130.5, 110.25)]), "Sclerotic glomerulus"),
    LabelledPolygon(Point(200.5, 150).buffer(37.123), "Immune: CD3", score=0.5),
]


def areas(found: Annotations | list[LabelledPolygon]) -> dict[str | None, float]:
    """px² per class."""
    total: Counter[str | None] = Counter()
    for region in found if isinstance(found, list) else found.polygons:
        total[region.label] += region.polygon.area
    return dict(total)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def areas_in(path: Path) -> dict[str | None, float]:
    """px² per class, as any of the formats states it."""
    total: Counter[str | None] = Counter()
    if path.suffix == ".csv":
        for row in table(path):
            total[row["class"]] += float(row["area_um2"]) / (FRAME.mpp * FRAME.mpp_y)
    elif path.name.endswith(".coco.json"):
        tree = json.loads(path.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in tree["categories"]}
        for row in tree["annotations"]:
            total[names[row["category_id"]]] += row["area"]
    else:
        return areas(read_annotations(path))
    return dict(total)
