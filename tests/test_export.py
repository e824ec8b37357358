"""The same outlines in every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.test_predict import BUNDLE, CLASSES, ColourRule, label_of, picture, slide  # noqa: F401
from wsiseg.annotations.formats import read_annotations
from wsiseg.errors import AnnotationError
from wsiseg.export import export
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap


@pytest.fixture
def labels(slide: Slide, tmp_path: Path) -> Path:  # noqa: F811
    path = tmp_path / "labels.zarr"
    predict_slide(slide, BUNDLE, ColourRule(), PredictOptions(tmp_path / "out.geojson", labels=path))
    return path


def test_equal_area_per_class_in_every_format(labels: Path, tmp_path: Path, picture: np.ndarray) -> None:  # noqa: F811
    truth = {name: int((label_of(picture) == i).sum()) for i, name in enumerate(CLASSES) if i}
    for name in ("a.geojson", "a.geojson.gz", "a.xml"):
        export(labels, tmp_path / name)
        found = read_annotations(tmp_path / name).polygons
        assert {n: sum(r.polygon.area for r in found if r.label == n) for n in truth} == pytest.approx(truth)
    export(labels, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {n: sum(float(r["area_um2"]) for r in rows if r["class"] == n) for n in truth} == pytest.approx(truth)
    export(labels, tmp_path / "a.coco.json")
    coco = json.loads((tmp_path / "a.coco.json").read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    areas = {n: sum(a["area"] for a in coco["annotations"] if names[a["category_id"]] == n) for n in truth}
    assert areas == pytest.approx(truth)
    stored = LabelMap(labels)
    pixels = stored.read(stored.frame.box)
    assert {n: int((pixels == i).sum()) * 4 for i, n in enumerate(CLASSES) if i} == truth


def test_sizes_are_in_micrometres(labels: Path, tmp_path: Path) -> None:
    export(labels, tmp_path / "all.geojson")
    areas = [r.polygon.area for r in read_annotations(tmp_path / "all.geojson").polygons]
    limit = float(np.median(areas))
    export(labels, tmp_path / "large.geojson", postprocessing={"min_object_um2": limit})
    assert [r.polygon.area for r in read_annotations(tmp_path / "large.geojson").polygons] == [
        a for a in areas if a >= limit
    ]
    export(labels, tmp_path / "filled.geojson", postprocessing={"min_hole_um2": 1e9})
    filled = read_annotations(tmp_path / "filled.geojson").polygons
    holes = sum(len(p.interiors) for r in filled for p in getattr(r.polygon, "geoms", [r.polygon]))
    before = read_annotations(tmp_path / "all.geojson").polygons
    assert holes < sum(len(p.interiors) for r in before for p in getattr(r.polygon, "geoms", [r.polygon]))


def test_a_prediction_becomes_a_table_without_its_slide(labels: Path, tmp_path: Path) -> None:
    export(tmp_path / "out.geojson", tmp_path / "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) > 10


def test_outlines_by_hand_need_the_slide_for_a_table(tmp_path: Path, slide: Slide) -> None:  # noqa: F811
    text = '{"type": "Polygon", "coordinates": [[[0,0],[9,0],[9,9],[0,0]]]}'
    (tmp_path / "hand.geojson").write_text(text)
    with pytest.raises(AnnotationError, match="level-0 frame"):
        export(tmp_path / "hand.geojson", tmp_path / "hand.csv")
    assert export(tmp_path / "hand.geojson", tmp_path / "hand.csv", frame=slide.frame).objects == 1
    with pytest.raises(AnnotationError, match="for a label map alone"):
        export(tmp_path / "hand.geojson", tmp_path / "b.geojson", postprocessing={"simplify_um": 2.0})
