"""Tables and COCO, down to the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import MultiPolygon, box

from tests.annotations.nasty import CLASSES
from tests.annotations.sample import FRAME, ISLAND, SAMPLE, table
from wsiseg.annotations.coco import run_lengths
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.geometry import Frame


def test_the_table_in_numbers(tmp_path: Path) -> None:
    found = [*SAMPLE, LabelledPolygon(box(0, 0, 8, 4), None), LabelledPolygon(box(5, 5, 5, 9), "Glomerulus")]
    written = write_annotations(tmp_path / "a.csv", found, classes=CLASSES, frame=FRAME)
    assert str(written) == "5 objects, 1 without area dropped"
    rows = table(tmp_path / "a.csv")
    assert list(rows[0]) == [
        "id", "class", "area_um2", "perimeter_um", "centroid_x_um", "centroid_y_um", "centroid_x_px", "centroid_y_px",
        "score", "Area of lumen µm²", "nuclei",
    ]  # fmt: skip
    assert [row["class"] for row in rows] == [*(r.label for r in SAMPLE), ""]
    assert [row["score"] for row in rows] == ["0.875", "", "", "0.5", ""]
    assert [row["nuclei"] for row in rows] == ["", "3.0", "", "", ""]
    last = rows[-1]  # 8 × 4 px of 0.25 × 0.5 µm
    assert (last["area_um2"], last["perimeter_um"]) == ("4", "8")
    assert [last[f"centroid_{axis}_{unit}"] for unit in ("um", "px") for axis in "xy"] == ["1", "1", "4", "2"]
    assert float(rows[0]["perimeter_um"]) == 2 * (50 * 0.25 + 40 * 0.5) + 2 * (20 * 0.25 + 20 * 0.5)
    write_annotations(tmp_path / "a.geojson", found, classes=CLASSES)
    assert [row["id"] for row in rows] == [r.id for r in read_annotations(tmp_path / "a.geojson").polygons]


def test_an_empty_table_has_a_head(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.csv", [], classes=CLASSES, frame=FRAME)
    assert (tmp_path / "a.csv").read_text().startswith("id,class,area_um2,")


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet = pytest.importorskip("pyarrow.parquet")
    write_annotations(path, SAMPLE, classes=CLASSES, frame=FRAME)
    write_annotations(tmp_path / "a.csv", SAMPLE, classes=CLASSES, frame=FRAME)
    for one, other in zip(parquet.read_table(path).to_pylist(), table(tmp_path / "a.csv"), strict=True):
        assert list(one) == list(other)
        assert one["area_um2"] == pytest.approx(float(other["area_um2"]))
        assert (one["score"] is None) == (other["score"] == "")


def decode(rle: dict[str, Any]) -> NDArray[np.uint8]:
    """uint8 (height, width): runs of 0 and 1 in turn, down the columns."""
    height, width = rle["size"]
    flat = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"])
    return flat.reshape(width, height).T.astype(np.uint8)


def test_coco(tmp_path: Path) -> None:
    origin = {"slide": {"name": "a.svs"}, "model": "demo"}
    write_annotations(tmp_path / "a.coco.json", SAMPLE, classes=CLASSES, frame=FRAME, properties=origin)
    tree = json.loads((tmp_path / "a.coco.json").read_text(encoding="utf-8"))
    assert tree["info"] == origin
    assert tree["images"] == [{"id": 1, "width": 400, "height": 300, "file_name": "a.svs"}]
    assert [(c["id"], c["name"]) for c in tree["categories"]] == list(enumerate(CLASSES.names))[1:]
    holed, island, parts, _ = tree["annotations"]
    assert [row["id"] for row in tree["annotations"]] == [1, 2, 3, 4]
    assert holed["bbox"] == [10, 10, 50, 40]
    assert holed["score"] == 0.875
    assert holed["area"] == decode(holed["segmentation"]).sum() == 1600
    assert decode(holed["segmentation"])[20:40, 20:40].sum() == 0
    assert island["segmentation"] == [[35, 25, 35, 35, 25, 35, 25, 25]]
    assert "score" not in island
    assert [len(ring) for ring in parts["segmentation"]] == [8, 8]


def test_ignored_classes_are_a_category_when_used(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.coco.json", [LabelledPolygon(ISLAND, "Ignore*")], classes=CLASSES, frame=FRAME)
    tree = json.loads((tmp_path / "a.coco.json").read_text())
    assert tree["categories"][-1] == {"id": 255, "name": "Ignore*", "supercategory": ""}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20 - 1))
def test_run_lengths_are_the_pixels(bits: int) -> None:
    """Every mask of 4 × 5 pixels, partly beyond the frame, and full columns, whose runs flow into one another."""
    mask = np.array([bits >> i & 1 for i in range(20)], np.uint8).reshape(4, 5)
    cells = [box(x - 1, y - 1, x, y) for y, x in zip(*np.nonzero(mask), strict=True)]
    shape = MultiPolygon(cells)
    rle = run_lengths(shape, Frame(4, 3, 1.0)) if cells else {"size": [3, 4], "counts": [12]}
    assert (decode(rle) == mask[1:, 1:]).all()
    assert all(count > 0 for count in rle["counts"][1:])
