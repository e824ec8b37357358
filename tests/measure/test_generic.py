"""The generic profile: objects of any organ, by hand, through files, and through a run of a recipe without kidneys."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely import Point, box

from tests.annotations.sample import table
from tests.measure.scene import disc, place
from tests.measure.test_files import picture
from tests.test_cli import run
from tools import document_pages
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.errors import WsisegError
from wsiseg.evaluation.measurements import MeasuredPair, compare_measurements, render_measurements
from wsiseg.measure import generic
from wsiseg.measure.column import Column, means_of
from wsiseg.measure.files import MeasureOptions, measure_files, write_measured
from wsiseg.measure.generic import measure_generic
from wsiseg.measure.nesting import NOBODY, Nesting
from wsiseg.measure.objects import Measured
from wsiseg.measure.profiles import PROFILES
from wsiseg.measure.shapes import perimeter_and_circularity
from wsiseg.measure.tables import write_tables
from wsiseg.models import GLOMERULI
from wsiseg.report.write import write_report
from wsiseg.synthetic import SlideSpec, generate, write_slide

KNOWN = ("Crypt", "Lymphocyte", "Mucosa")


def colon() -> list[LabelledPolygon]:
    """A mucosa with two crypts, three lymphocytes in the first and one between them, and one far away."""
    return [
        LabelledPolygon(box(200, 200, 1000, 600), "Mucosa"),
        disc(400, 400, 50, "Crypt"),
        disc(700, 400, 40, "Crypt"),
        *(disc(380 + 15 * i, 400, 4, "Lymphocyte") for i in range(3)),
        disc(550, 400, 4, "Lymphocyte"),
        disc(1300, 1300, 4, "Lymphocyte"),
    ]


def measured(polygons: list[LabelledPolygon], known: tuple[str, ...] = KNOWN) -> Measured:
    return measure_generic(polygons, place(), known)


def test_a_colon_by_hand() -> None:
    found = measured(colon())
    objects = found["objects"]
    ids = objects["id"].tolist()
    assert objects["class"].tolist() == [r.label for r in colon()]
    parents = [None if p is None else ids.index(p) for p in objects["parent"]]
    assert parents == [None, 0, 0, 1, 1, 1, 0, None]
    np.testing.assert_array_equal(objects["n[Lymphocyte]"][:3], [4, 3, 0])
    np.testing.assert_array_equal(objects["n[Crypt]"][0], 2)
    assert np.isnan(objects["n[Lymphocyte]"][3]), "a lymphocyte is not counted in lymphocytes"
    area = objects["area_um2"]
    assert objects["per_mm2[Lymphocyte]"][1] == pytest.approx(3e6 / area[1])
    assert objects["area_fraction[Crypt]"][0] == pytest.approx((area[1] + area[2]) / (800 * 400))
    classes = {
        name: dict(zip(found["classes"]["class"], values, strict=True)) for name, values in found["classes"].items()
    }
    assert classes["objects"] == {"Crypt": 2, "Lymphocyte": 5, "Mucosa": 1}
    assert classes["objects_per_mm2"]["Crypt"] == pytest.approx(2 / 1.96)
    assert classes["tissue_fraction"]["Mucosa"] == pytest.approx(0.32 / 1.96)
    assert classes["mean_area_um2"]["Crypt"] == pytest.approx((area[1] + area[2]) / 2)
    assert classes["mean_n[Lymphocyte]"]["Crypt"] == 1.5
    assert np.isnan(classes["mean_n[Lymphocyte]"]["Lymphocyte"])
    assert classes["mean_area_um2_low"]["Crypt"] < classes["mean_area_um2"]["Crypt"]
    assert np.isnan(classes["mean_area_um2_low"]["Mucosa"]), "one object does not vary"
    slide = {name: values[0] for name, values in found["slides"].items()}
    assert (slide["objects"], slide["tissue_area_mm2"]) == (8, pytest.approx(1.96))
    assert found.polygons[1].measurements["Lymphocyte: number"] == 3
    assert "Lymphocyte: number" not in {k for k, v in found.polygons[3].measurements.items() if math.isfinite(v)}


def test_one_class_and_none_at_all() -> None:
    crypts = [r for r in colon() if r.label == "Crypt"]
    found = measured(crypts, ("Crypt",))
    assert not [name for name in found["objects"] if "[" in name]
    empty = measured([], ())
    assert empty["slides"]["objects"][0] == 0
    assert len(empty["classes"]["class"]) == len(empty["objects"]["id"]) == 0
    looked = measured([], ("Crypt",))
    assert looked["classes"]["objects"].tolist() == [0], "looked for and not found"
    unnamed = measured([LabelledPolygon(Point(500, 500).buffer(30), None)], ())
    assert unnamed["objects"]["class"].tolist() == [None]


def test_nesting_by_hand() -> None:
    """Three boxes within each other, the middle one of the outer one's class, and one beside them."""
    shapes = np.array([box(0, 0, 100, 100), box(10, 10, 60, 60), box(20, 20, 40, 40), box(200, 0, 210, 10)], object)
    found = Nesting(shapes, np.array([0, 0, 1, 1]))
    assert found.parents().tolist() == [NOBODY, NOBODY, 1, NOBODY], "an object lies in no object of its own class"
    assert found.count(1).tolist() == [1, 1, 0, 0]
    assert found.area_of(1).tolist() == [400, 400, 0, 0]


@pytest.mark.parametrize("radius", [2.0, 3.5, 8.0, 20.0])
def test_small_objects_keep_their_perimeter(radius: float) -> None:
    perimeter, circularity = perimeter_and_circularity(np.array([Point(50, 50).buffer(radius, 32)], dtype=object))
    assert perimeter[0] == pytest.approx(2 * math.pi * radius, rel=0.02)
    assert circularity[0] == pytest.approx(1, abs=0.005)


def test_classes_are_compared_one_by_one() -> None:
    said = [*colon()[1:], disc(1200, 300, 60, "Crypt")]
    said[0] = disc(400, 400, 52, "Crypt")
    result = compare_measurements([MeasuredPair.of(measured(colon()), measured(said))])
    assert result["matched"] == {"found": 7, "missed": 1, "unmatched": 1}
    area = result["objects"]["Crypt: area_um2"]
    assert area["n"] == 2
    assert area["bias"] == pytest.approx(math.pi * (52**2 - 50**2) / 2, rel=0.01)
    assert result["objects"]["Crypt: n[Lymphocyte]"]["reference"] == 1.5
    assert result["classes"]["Crypt: objects"] == result["classes"]["Crypt: objects"] | {"reference": 2, "measured": 3}
    assert "Lymphocyte: n[Lymphocyte]" not in result["objects"]
    assert "over 7 matched objects" in render_measurements(result)


def test_the_profile_follows_the_classes_unless_it_is_named(tmp_path: Path) -> None:
    assert MeasureOptions().profile_for({"Crypt"}) == "generic"
    assert MeasureOptions().profile_for({"Crypt", "Sclerotic glomerulus"}) == "kidney"
    assert MeasureOptions(thickness_um=3).profile_for({"Crypt"}) == "kidney"
    assert MeasureOptions("generic").profile_for({"Glomerulus"}) == "generic"
    with pytest.raises(WsisegError, match="--thickness-um belongs to the kidney profile"):
        MeasureOptions("generic", thickness_um=3)
    classes = ClassMap(("Background", *KNOWN))
    write_annotations(tmp_path / "in.geojson", [_halved(r) for r in colon()], classes=classes)
    found, read = measure_files(picture(), [tmp_path / "in.geojson"], MeasureOptions())
    write_measured(tmp_path / "out.geojson", picture(), found, read)
    again, _ = measure_files(picture(), [tmp_path / "out.geojson"], MeasureOptions())
    for name, columns in found.tables.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(again[name][column], values, err_msg=column)
    write_tables(tmp_path / "tables", found.tables, "csv")
    declared = {name for columns in PROFILES["generic"].values() for c in columns for name in c.names}
    for name in ("slides", "classes", "objects"):
        for row in table(tmp_path / "tables" / f"{name}.csv"):
            assert {
                c.replace("Crypt", "CLASS").replace("Lymphocyte", "CLASS").replace("Mucosa", "CLASS") for c in row
            } <= declared
    page = "".join(document_pages.measurements("generic"))
    assert all(f"`{name}`" in page for name in declared)


def _halved(region: LabelledPolygon) -> LabelledPolygon:
    """In px of 2 µm."""
    return LabelledPolygon(shapely.affinity.scale(region.polygon, 0.5, 0.5, origin=(0, 0)), region.label)


def test_a_measurement_is_one_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy column is computed, averaged, compared, written, shown and documented, and nothing else was touched."""
    toy = Column(
        "width_um", "µm", "Width of the bounding box.", lambda o: np.ptp(shapely.bounds(o.um)[:, ::2], axis=1),
        shown="Width µm", compared=True, averaged=True,
    )  # fmt: skip
    objects = (*generic.OBJECTS, toy)
    others = [c for c in generic.CLASSES if not c.name.startswith("mean_")]
    tables = PROFILES["generic"] | {
        "objects": objects,
        "classes": (*others, *means_of(objects, "the objects of this class", "there are none")),
    }
    monkeypatch.setattr(generic, "OBJECTS", objects)
    monkeypatch.setattr(generic, "CLASSES", tables["classes"])
    monkeypatch.setitem(PROFILES, "generic", tables)
    found = measured(colon())
    np.testing.assert_allclose(found["objects"]["width_um"][:3], [800, 100, 80], atol=0.02)
    assert found["classes"]["mean_width_um"][0] == pytest.approx(90, abs=0.02)
    assert found.polygons[1].measurements["Width µm"] == pytest.approx(100, abs=0.02)
    result = compare_measurements([MeasuredPair.of(found, found)])
    assert result["objects"]["Crypt: width_um"]["bias"] == 0
    assert result["classes"]["Crypt: mean_width_um"]["n"] == 1
    write_tables(tmp_path, found.tables, "csv")
    assert "width_um" in table(tmp_path / "objects.csv")[0]
    assert "| `width_um` | µm | Width of the bounding box. |" in "".join(document_pages.measurements("generic"))


# --- a run


RECIPE = """
name = "colon"
[classes]
names = ["Background", "Crypt", "Lesion"]
[data]
slides = "none.csv"
mpp = 4.0
tile = 128
[training]
steps = 1
[run]
stages = ["predict", "measure", "report"]
"""


def test_other_organs_go_through_a_run(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    write_slide(generate(SlideSpec(seed=1, width_um=1500, height_um=1200, mpp=2.0)), tmp_path / "slides" / "a.svs")
    shutil.copytree(GLOMERULI, tmp_path / "model")
    about = (tmp_path / "model" / "model.json").read_text()
    renamed = about.replace("Sclerotic glomerulus", "Lesion").replace("Glomerulus", "Crypt")
    renamed = renamed.replace("glomeruli", "crypts").replace("Glomeruli", "Crypts").replace("glomerul", "crypt")
    (tmp_path / "model" / "model.json").write_text(renamed)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = ["run", "recipe.toml", "--slides", "slides/*.svs", "--model", "model", "--out", "out"]
    done = run(*words, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "slides" / "a"
    tables = folder / "measurements"
    assert sorted(p.name for p in tables.iterdir()) == ["classes.csv", "objects.csv", "slides.csv"]
    with (tables / "classes.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"Crypt", "Lesion"}
    objects = len(read_annotations(folder / "outlines.geojson").polygons)
    assert sum(int(row["objects"]) for row in rows.values()) == objects > 0
    write_report(tmp_path / "all.html", tmp_path / "out")
    said = done.stdout + done.stderr + (tmp_path / "all.html").read_text() + (folder / "report.html").read_text()
    said += "".join(path.read_text() for path in tables.iterdir())
    assert "glomer" not in said.lower()
    assert "podocyte" not in said.lower()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["measure"]["profile"] == "auto"
