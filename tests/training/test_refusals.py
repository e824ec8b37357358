"""`wsiseg train` refuses in one sentence, with exit code 2, and leaves an earlier run as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.slides.make import pyramid, texture, write_tiff
from tests.test_cli import refused, run

RECIPE = """
name = "small"
[classes]
names = ["Background", "Blob"]
[data]
slides = "slides.csv"
mpp = 1.0
tile = 64
[model]
encoder = "tu-test_resnet"
weights = "none"
decoder_channels = 16
[training]
steps = 1
batch = 2
crop = 64
loaders = 0
[predict]
tile = 64
overlap = 16
"""


def annotate(path: Path, name: str) -> None:
    ring = [[100, 100], [300, 100], [300, 300], [100, 300], [100, 100]]
    properties = {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}}
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, an annotated slide, and a finished run of one step."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "slides.csv").write_text("slide,annotations\nslide.tif,slide.geojson\n")
    write_tiff(folder / "slide.tif", pyramid(texture(500, 400), (2,)), mpp=1.0)
    annotate(folder / "slide.geojson", "Blob")
    done = run("train", "recipe.toml", "--out", "run", "--device", "cpu", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def state(folder: Path) -> dict[str, bytes]:
    """All files, less the tiles, which a refusal may leave behind for the next attempt."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith(("new/tiles/", "run/tiles/"))}


@pytest.mark.parametrize(
    ("change", "words", "sentence"),
    [
        ("", ["--out", "new", "--set", "training.stepz=1"], "'training.stepz' is unknown"),
        ("", ["--out", "new", "--set", "training.crop=100"], "must be a multiple of 16"),
        ("", ["--out", "new", "--set", "data.slides='none.csv'"], "none.csv"),
        ("class", ["--out", "new"], "No pixel of the slides of the split `train` has a class"),
        ("split", ["--out", "new"], "No slide of the split `train` has annotations"),
        ("", ["--out", "run"], "continue it with --resume, replace it with --overwrite"),
        ("list", ["--out", "run", "--resume"], "has another recipe (slide_list"),
        ("", ["--out", "run", "--resume", "--set", "training.seed=7"], "has another recipe (recipe.training.seed"),
    ],
    ids=["key", "value", "no list", "no class", "no annotations", "a run is there", "other slides", "other recipe"],
)
def test_one_sentence_and_nothing_changes(
    trained: Path, tmp_path: Path, change: str, words: list[str], sentence: str
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(trained, folder)
    if change == "class":
        annotate(folder / "slide.geojson", "Ignore")
    elif change == "split":
        (folder / "slides.csv").write_text("slide,annotations\nslide.tif,\n")
    elif change == "list":
        (folder / "slides.csv").write_text("slide,annotations,patient\nslide.tif,slide.geojson,p1\n")
    before = state(folder)
    assert sentence in refused("train", "recipe.toml", "--device", "cpu", "--quiet", *words, cwd=folder)
    assert state(folder) == before
