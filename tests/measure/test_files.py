"""Measurements of files: tables, their dictionary, the GeoJSON, the command, and real biopsies."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely import box

from tests.annotations.qupath_rules import check_file
from tests.annotations.sample import table
from tests.measure.hierarchy import resolve
from tests.measure.scene import ALL, TISSUE, measured, scene, to_px
from tests.test_cli import refused, run
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.errors import MismatchError, OutputError
from wsiseg.measure.edges import CUT_FRACTION, REACH_UM
from wsiseg.measure.files import MeasureOptions, check_output, measure_files, write_measured
from wsiseg.measure.kidney.columns import TABLES
from wsiseg.measure.nesting import NOBODY
from wsiseg.measure.sample import RESAMPLES
from wsiseg.measure.shapes import SMOOTH_UM
from wsiseg.measure.tables import write_tables
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide

ROOT = Path(__file__).resolve().parents[2]


# --- files


def picture() -> Slide:
    """Pink tissue of 1400 × 1400 µm on white, at 2 µm/px."""
    pixels = np.full((800, 800, 3), 245, np.uint8)
    pixels[50:750, 50:750] = (200, 130, 170)
    return Slide(MemoryBackend(pixels, 2.0, path="pink.svs"))


@pytest.fixture
def outlines(tmp_path: Path) -> Path:
    path = tmp_path / "in.geojson"
    classes = ClassMap(("Background", *sorted({str(r.label) for r in scene()})))
    write_annotations(
        path, [replace(r, polygon=to_px(r.polygon, (2.0, 2.0)), score=0.5) for r in scene()], classes=classes
    )
    return path


def test_the_geojson_and_the_tables_tell_the_same(outlines: Path, tmp_path: Path) -> None:
    found, read = measure_files(picture(), [outlines], MeasureOptions(thickness_um=3))
    assert found["slides"]["tissue_area_mm2"][0] == pytest.approx(1.96, rel=0.05)
    write_measured(tmp_path / "out.geojson", picture(), found, read)
    features = check_file(tmp_path / "out.geojson", mixed=True)
    assert len(features) == len(scene())
    nuclei = found.tables["podocytes"]
    inside = {uuid for uuid, parent in zip(nuclei["id"], nuclei["parent"], strict=True) if parent}
    kinds = {f["id"]: f["properties"]["objectType"] for f in features}
    assert {uuid for uuid, kind in kinds.items() if kind == "detection"} == inside, "all others stay what they were"
    assert inside
    by_id = {f["id"]: f for f in features}
    for name in ("glomeruli", "podocytes"):
        for row, uuid in enumerate(found.tables[name]["id"]):
            said = by_id[uuid]["properties"]["measurements"]
            for column in TABLES[name]:
                if column.shown:
                    assert said[column.shown] == pytest.approx(float(found.tables[name][column.name][row])), column
            assert said["score"] == 0.5
    held = [f for f in features if f["id"] not in set(found["podocytes"]["id"])]
    shapes = [shapely.geometry.shape(f["geometry"]) for f in held]
    nuclei = [shapely.geometry.shape(by_id[i]["geometry"]) for i in found["podocytes"]["id"]]
    resolved = [None if i == NOBODY else held[i]["id"] for i in resolve(shapes, nuclei)]
    assert resolved == found["podocytes"]["parent"].tolist()
    again, _ = measure_files(picture(), [tmp_path / "out.geojson"], MeasureOptions(thickness_um=3))
    for name, columns in found.tables.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(again.tables[name][column], values, err_msg=column)


def test_several_files_are_taken_together(outlines: Path, tmp_path: Path) -> None:
    regions = read_annotations(outlines).polygons
    classes = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus", "Podocyte", "Artery"))
    for name, wanted in (("g", False), ("p", True)):
        some = [r for r in regions if (r.label == "Podocyte") == wanted]
        write_annotations(tmp_path / f"{name}.geojson", some, classes=classes)
    one, _ = measure_files(picture(), [outlines], MeasureOptions())
    two, _ = measure_files(picture(), [tmp_path / "g.geojson", tmp_path / "p.geojson"], MeasureOptions())
    assert two["podocytes"]["parent"].tolist() == one["podocytes"]["parent"].tolist()
    assert two["glomeruli"]["podocytes"].tolist() == one["glomeruli"]["podocytes"].tolist()
    alone, _ = measure_files(picture(), [tmp_path / "g.geojson"], MeasureOptions())
    assert "podocytes" not in alone.tables


def test_outlines_of_another_slide_are_refused(outlines: Path, tmp_path: Path) -> None:
    found, read = measure_files(picture(), [outlines], MeasureOptions())
    write_measured(tmp_path / "out.geojson", picture(), found, read)
    other = Slide(MemoryBackend(np.full((80, 80, 3), 200, np.uint8), 2.0))
    with pytest.raises(MismatchError, match="800 × 800 px at 2 µm/px, not 80 × 80"):
        measure_files(other, [tmp_path / "out.geojson"], MeasureOptions())
    with pytest.raises(OutputError, match="is one of the files that are measured"):
        check_output(outlines, [outlines])


def test_given_tissue_counts(outlines: Path, tmp_path: Path) -> None:
    classes = ClassMap(("Background", "Tissue"))
    write_annotations(tmp_path / "t.geojson", [LabelledPolygon(box(50, 50, 750, 400), "Tissue")], classes=classes)
    found, _ = measure_files(picture(), [outlines], MeasureOptions(tissue=tmp_path / "t.geojson"))
    assert found["slides"]["tissue_area_mm2"][0] == pytest.approx(1.4 * 0.7)


def dictionary() -> dict[str, list[tuple[str, ...]]]:
    """Table -> rows of docs/measurements.md, as (columns, unit, meaning, absence, …)."""
    text = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    found = {}
    for name in TABLES:
        part = text.split(f"\n### Table `{name}` of `kidney`\n")[1].split("\n##")[0]
        rows = [tuple(c.strip() for c in line.strip("|").split("|")) for line in part.splitlines() if line[:3] == "| `"]
        found[name] = rows
    return found


def test_the_page_of_measurements_states_the_constants() -> None:
    page = " ".join((ROOT / "docs" / "measurements.md").read_text(encoding="utf-8").split())
    assert f"{RESAMPLES} bootstrap samples" in page
    assert f"Gaussian of {SMOOTH_UM:g} µm" in page
    assert f"more than {CUT_FRACTION:.0%} of its outer" in page
    assert f"less than {REACH_UM:g} µm inside" in page


@pytest.mark.parametrize("thickness", [None, 3.0])
@pytest.mark.parametrize("podocytes", [False, True])
@pytest.mark.parametrize("cortex", [False, True])
def test_every_column_written_is_in_the_dictionary(
    tmp_path: Path, thickness: float | None, podocytes: bool, cortex: bool
) -> None:
    names = ALL if podocytes else replace(ALL, podocytes=())
    found = measured(scene(), names=names, thickness_um=thickness, cortex=TISSUE if cortex else None)
    write_tables(tmp_path, found.tables, "csv")
    gone = {"`--thickness-um`": thickness is not None, "`--cortex`": cortex, "podocyte class": podocytes}
    for name, rows in dictionary().items():
        if name == "podocytes" and not podocytes:
            assert not (tmp_path / "podocytes.csv").exists()
            continue
        header = (tmp_path / f"{name}.csv").read_text().splitlines()[0].split(",")
        wanted = []
        for columns, _, meaning, missing, *_ in rows:
            assert meaning
            absent = missing.split("empty:")[0]
            if all(there for reason, there in gone.items() if reason in absent):
                wanted += [column.strip(" `") for column in columns.split(",")]
        assert header == wanted


def test_tables_are_whole_and_replace_only_when_told(tmp_path: Path) -> None:
    tables = measured(scene(), thickness_um=3).tables
    folder = tmp_path / "out"
    write_tables(folder, tables, "csv")
    rows = table(folder / "glomeruli.csv")
    assert [r["sclerotic"] for r in rows] == ["false", "false", "true"]
    assert [float(r["area_um2"]) for r in rows] == pytest.approx(tables["glomeruli"]["area_um2"])
    assert rows[0]["score"] == "", "nobody stated one"
    assert [bool(r["parent"]) for r in table(folder / "podocytes.csv")] == [True, True, False]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"slides.csv.*--overwrite"):
        write_tables(folder, tables, "csv")
    write_tables(folder, {name: tables[name] for name in ("slides", "glomeruli")}, "csv", overwrite=True)
    assert sorted(p.name for p in folder.iterdir()) == ["glomeruli.csv", "notes.txt", "slides.csv"]


def test_parquet(tmp_path: Path) -> None:
    tables = measured(scene(), thickness_um=3).tables
    parquet = pytest.importorskip("pyarrow.parquet")
    write_tables(tmp_path, tables, "parquet")
    for name, columns in tables.items():
        read = parquet.read_table(tmp_path / f"{name}.parquet")
        assert read.column_names == list(columns)
        for column, values in columns.items():
            want = [None if isinstance(v, float) and math.isnan(v) else v for v in values.tolist()]
            assert read[column].to_pylist() == want, column


# --- the command


def test_the_command(tmp_path: Path, outlines: Path) -> None:
    from wsiseg.pictures import save_picture

    slide = picture()
    save_picture(tmp_path / "pink.png", slide.read(slide.frame.box, slide.frame))
    words = ["measure", "pink.png", outlines.name, "--mpp", 2, "--thickness-um", 3]
    done = run(*words, "--geojson", "out.geojson", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "podocytes_outside" in done.stdout
    folder = tmp_path / "pink-measurements"
    assert sorted(p.name for p in folder.iterdir()) == ["glomeruli.csv", "podocytes.csv", "slides.csv"]
    with (folder / "slides.csv").open() as file:
        assert float(next(csv.DictReader(file))["section_thickness_um"]) == 3
    assert "--overwrite" in refused(*words, cwd=tmp_path)
    other = ["--out", "other", "--geojson", "other.geojson"]
    assert "'Podocytes'" in refused(*words, *other, "--podocytes", "Podocytes", cwd=tmp_path)
    assert "thick" in refused(*words[:-1], -1, *other, cwd=tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(("other", ".other"))], "nothing half-written"


@pytest.mark.parametrize("name", ["kidney-007", "kidney-013", "kidney-051"])
def test_real_biopsies(kidney: Path, tmp_path: Path, name: str) -> None:
    from wsiseg.slides.open import open_slide

    with open_slide(kidney / f"{name}.svs") as slide:
        found, read = measure_files(slide, [kidney / f"{name}.geojson"], MeasureOptions())
        frame = slide.frame
        coarse = frame.at(8.0)
        pixels = slide.read(coarse.box, coarse).astype(np.int64)
    coloured = float((np.ptp(pixels, axis=2) > 25).sum()) * 8.0**2 / 1e6
    features = json.loads((kidney / f"{name}.geojson").read_text())["features"]
    by_hand = {
        f["id"]: shapely.make_valid(shapely.geometry.shape(f["geometry"])).area * frame.mpp * frame.mpp_y
        for f in features
    }
    g, s = found["glomeruli"], {column: values[0] for column, values in found["slides"].items()}
    assert dict(zip(g["id"], g["area_um2"], strict=True)) == pytest.approx(by_hand)
    sclerotic = [f["properties"]["classification"]["name"] == "Sclerotic glomerulus" for f in features]
    assert (s["glomeruli"], s["sclerotic_glomeruli"]) == (len(features), sum(sclerotic))
    assert 1 < s["tissue_area_mm2"] / coloured < 1.5, "gaps and pale rims are tissue, too"
    assert 0.5 < s["glomeruli_per_mm2"] < 15
    assert ((g["circularity"] > 0.4) & (g["circularity"] <= 1)).all()
    whole = g["equivalent_diameter_um"][~g["sclerotic"] & ~g["cut"]]
    assert ((whole > 40) & (whole < 350)).all()
    assert "podocytes" not in found.tables
    write_measured(tmp_path / "out.geojson", slide, found, read)
    assert len(check_file(tmp_path / "out.geojson")) == len(features)
