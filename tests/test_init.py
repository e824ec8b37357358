"""`wsiseg init`: what it finds in a folder, and a recipe that fits it and trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from shapely import box

from tests.example_slide import write_example
from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.cli import wsiseg
from wsiseg.data.slides import read_slides
from wsiseg.errors import OutputError, RecipeError, SlideError
from wsiseg.project.propose import propose
from wsiseg.project.survey import survey
from wsiseg.recipe import load_recipe

KINDS = ("kidney-003", "kidney-004", "kidney-005", "kidney-007", "kidney-008", "kidney-011")


def run(*words: object) -> Result:
    return CliRunner().invoke(wsiseg, ["init", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def biopsies(kidney: Path, tmp_path: Path) -> Path:
    """Six biopsies: one without annotations, one whose annotations are empty; annotations of a slide that is gone."""
    folder = tmp_path / "lab"
    folder.mkdir()
    for name in KINDS:
        (folder / f"{name}.svs").symlink_to(kidney / f"{name}.svs")
        shutil.copyfile(kidney / f"{name}.geojson", folder / f"{name}.geojson")
    (folder / "kidney-008.geojson").unlink()
    (folder / "kidney-011.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    shutil.copyfile(kidney / "kidney-013.geojson", folder / "gone.geojson")
    return folder


def test_real_biopsies(biopsies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("lab", "--out", "mine")
    assert done.exit_code == 0, done.output
    for told in ("5000 × 6000 px, 1 µm/px", "H&E", "10 Glomerulus", "no annotations", "gone.geojson", "no object that"):
        assert told in done.output
    recipe = load_recipe(tmp_path / "mine" / "recipe.toml")
    assert recipe.classes.names[0] == "Background"
    assert "Glomerulus" in recipe.classes.names
    assert recipe.data.mpp == 2.25
    assert Path(recipe.model.weights).name == "kidney-glomeruli"
    assert recipe.training.crop == 256
    rows = read_slides(Path(recipe.data.slides))
    sides = {row.name: row.split for row in rows}
    assert set(sides) == set(KINDS)
    assert sides["kidney-008"] == sides["kidney-011"] == "test"
    assert sorted(sides.values()) == ["test", "test", "train", "train", "train", "validation"]
    assert [line.split()[1] for line in done.output.splitlines() if line.startswith("  wsiseg ")] == [
        "recipe", "train", "predict", "view", "evaluate",
    ]  # fmt: skip


def test_nothing_is_replaced(biopsies: Path, tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"slides\.csv exists"):
        run(biopsies, "--out", tmp_path)
    assert not (tmp_path / "recipe.toml").exists()
    assert (tmp_path / "slides.csv").read_text() == "mine"


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Two slides of 2 µm/px with 20 squares each, and one with nothing."""
    folder = tmp_path / "squares"
    folder.mkdir()
    for seed, name in enumerate(("a_1", "a_2", "b_1")):
        write_example(folder, name, seed + 4)
        (folder / f"{name}-truth.geojson").unlink()
    return folder


def draw(folder: Path, name: str, width_px: float, label: str | None, count: int = 20) -> None:
    at = [(20 + 100 * (i % 6), 20 + 100 * (i // 6)) for i in range(count)]
    polygons = [LabelledPolygon(box(x, y, x + width_px, y + width_px), label) for x, y in at]
    classes = ClassMap(("Background", label or "Object"))
    write_annotations(folder / f"{name}.geojson", polygons, classes=classes)


@pytest.mark.parametrize(("width_px", "mpp"), [(40, 2.0), (80, 2.5), (95, 3.0)])
def test_the_resolution_follows_the_objects_but_is_no_finer_than_the_slide(
    squares: Path, width_px: float, mpp: float
) -> None:
    draw(squares, "a_1", width_px, "Islet")
    draw(squares, "b_1", width_px, "Islet")
    chosen = propose(survey(squares))
    assert chosen.mpp == mpp
    assert chosen.start == ""
    assert chosen.crop >= 2.5 * width_px * 2 / mpp
    assert chosen.width_um == pytest.approx(2 * width_px * 2 / 3.14159**0.5, rel=0.01)


def test_patients_stay_on_one_side(squares: Path) -> None:
    for name in ("a_1", "a_2", "b_1"):
        draw(squares, name, 60, "Islet")
    with_pattern = {e.slide.stem: (e.patient, e.split) for e in propose(survey(squares), patient="^([^_]+)_").entries}
    assert with_pattern["a_1"] == with_pattern["a_2"]
    assert with_pattern["b_1"][0] == "b"
    assert {side for _, side in with_pattern.values()} == {"train", "validation"}
    with pytest.raises(RecipeError, match="regular expression"):
        propose(survey(squares), patient="(")


def test_no_class_is_missing_from_training(squares: Path) -> None:
    draw(squares, "a_1", 60, "Islet")
    draw(squares, "a_2", 60, "Duct")
    draw(squares, "b_1", 60, "Vessel")
    chosen = propose(survey(squares))
    assert {e.split for e in chosen.entries} == {"train"}
    assert any("validation" in note for note in chosen.notes)


def test_objects_without_a_class_get_one_and_train(squares: Path, tmp_path: Path) -> None:
    for name in ("a_1", "b_1"):
        draw(squares, name, 60, None)
    assert run(squares, "--out", tmp_path / "out").exit_code == 0
    recipe = tmp_path / "out" / "recipe.toml"
    assert load_recipe(recipe).data.rename == {"": "Object"}
    small = ["training.steps=2", "training.batch=2", "training.crop=64", "training.loaders=0", "model.weights=none"]
    words = ["train", str(recipe), "--out", str(tmp_path / "run"), "--device", "cpu"]
    words += [word for value in [*small, "model.decoder_channels=16"] for word in ("--set", value)]
    done = CliRunner().invoke(wsiseg, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "model" / "model.json").exists()


def test_classes_of_different_size_are_two_models(squares: Path) -> None:
    draw(squares, "a_1", 80, "Glomerulus")
    draw(squares, "b_1", 6, "Nucleus")
    chosen = propose(survey(squares))
    assert chosen.classes == ("Glomerulus", "Nucleus")
    assert any("times as wide" in note for note in chosen.notes)


def test_a_qupath_project(squares: Path, tmp_path: Path) -> None:
    draw(squares, "a_1", 60, "Islet")
    project = tmp_path / "project"
    (project / "data" / "3").mkdir(parents=True)
    (project / "data" / "3" / "data.qpdata").write_bytes(b"java")
    calibrated = {"pixelCalibration": {"pixelWidth": {"value": 0.5, "unit": "µm"}}}

    def image(uri: str, number: int) -> dict[str, object]:
        return {"serverBuilder": {"builderType": "uri", "uri": uri, "metadata": calibrated}, "entryID": number}

    rotated = image((squares / "b_1.svs").as_uri(), 3)
    rotated["serverBuilder"] = {"builderType": "rotated", "builder": rotated["serverBuilder"]}
    images = [image((squares / "a_1.svs").as_uri(), 1), image("file:/elsewhere/squares/a_2.svs", 2), rotated]
    (project / "project.qpproj").write_text(
        json.dumps({"version": "0.6.0", "uri": "file:/elsewhere/project/project.qpproj", "images": images})
    )
    shutil.copyfile(squares / "a_1.geojson", project / "a_1.geojson")
    found = survey(project / "project.qpproj")
    assert [slide.path.resolve() for slide in found.slides] == [squares / f"{n}.svs" for n in ("a_1", "a_2", "b_1")]
    assert found.slides[0].objects == {"Islet": 20}
    assert "not exported" in str(found.slides[2].problems)
    assert not found.slides[1].problems
    (project / "project.qpproj").write_text("{}")
    with pytest.raises(Exception, match="not a QuPath project"):
        survey(project / "project.qpproj")


def test_predictions_are_no_annotations(squares: Path) -> None:
    draw(squares, "a_1", 60, "Islet")
    (squares / "a_1.geojson").rename(squares / "a_1.wsiseg.geojson")
    about = {"wsiseg": {"model": {"name": "m"}}}
    classes = ClassMap(("Background", "Islet"))
    square = LabelledPolygon(box(10, 10, 60, 60), "Islet")
    write_annotations(squares / "b_1.geojson", [square], classes=classes, properties=about)
    found = {slide.path.stem: slide for slide in survey(squares).slides}
    assert found["a_1"].annotations is None
    assert any("predicted by wsiseg" in problem for problem in found["b_1"].problems)


def test_what_cannot_begin(tmp_path: Path, squares: Path) -> None:
    with pytest.raises(SlideError, match="no folder"):
        survey(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SlideError, match="no slide"):
        survey(tmp_path / "empty")
    with pytest.raises(RecipeError, match="export them as GeoJSON"):
        propose(survey(squares))


def test_damaged_slides_are_problems(biopsies: Path, odd: Path) -> None:
    (biopsies / "kidney-020.svs").write_bytes(b"no slide")
    (biopsies / "kidney-003.geojson").write_text("{")
    found = {slide.path.stem: slide for slide in survey(biopsies).slides}
    assert not found["kidney-020"].usable
    assert found["kidney-020"].problems
    assert found["kidney-003"].usable
    assert found["kidney-003"].problems
    assert found["kidney-003"].annotations is None


def test_the_estimate_of_a_recipe(squares: Path, tmp_path: Path) -> None:
    for name in ("a_1", "b_1"):
        draw(squares, name, 60, "Islet")
    run(squares, "--out", tmp_path / "out")
    from wsiseg.training.cost import measure_cost

    words = ("model.weights=none", "training.batch=4", "training.crop=64", "training.steps=10")
    small = measure_cost(load_recipe(tmp_path / "out" / "recipe.toml", words), "cpu")
    large = measure_cost(load_recipe(tmp_path / "out" / "recipe.toml", (*words, "training.crop=256")), "cpu")
    assert small.total == pytest.approx(10 * small.step)
    assert large.memory - small.memory > 4 * 100e6, "four crops of 256 px keep more than 100 MB each"
    assert large.step > small.step
    done = CliRunner().invoke(wsiseg, ["recipe", "check", str(tmp_path / "out" / "recipe.toml"), "--set", words[0]])
    assert "GiB of memory" in done.output, done.output
