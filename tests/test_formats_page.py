"""Our files are read by the Python that docs/formats.md shows, in a process where wsiseg cannot be imported."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.example_slide import CLASSES, ROOT, blocks, run_python, write_example
from wsiseg.annotations.formats import read_annotations
from wsiseg.bundle import load_bundle
from wsiseg.grid import Grid
from wsiseg.inference.engines import make_engine
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.models import GLOMERULI
from wsiseg.selection.tiling import tile_slide
from wsiseg.slides.open import open_slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.tiles import JPEG, TileStore

PROGRAMS = [block.text for block in blocks(ROOT / "docs" / "formats.md") if block.language == "python"]


def program(about: str) -> str:
    """The one program of the page that opens a certain file."""
    (found,) = (text for text in PROGRAMS if about in text)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """slide.zarr and jpeg.zarr, labels.zarr and slide.geojson, and a bundle in model/."""
    folder = tmp_path_factory.mktemp("formats")
    write_example(folder)
    with open_slide(folder / "slide.svs") as slide:
        grid = Grid(slide.frame.at(4.0), 128, 32)
        regions = read_annotations(folder / "slide-truth.geojson").polygons
        tile_slide(slide, grid, list(grid), folder / "slide.zarr", classes=CLASSES, regions=regions)
        tile_slide(slide, grid, list(grid), folder / "jpeg.zarr", pixels=JPEG)
        bundle = load_bundle(GLOMERULI)
        job = PredictOptions(folder / "slide.geojson", labels=folder / "labels.zarr")
        result = predict_slide(slide, bundle, make_engine(bundle, "torch", "cpu"), job)
        assert result.objects, "the demonstration model finds the glomeruli that it was trained for"
    shutil.copytree(GLOMERULI, folder / "model")
    return folder


def test_the_tile_store(folder: Path) -> None:
    told = run_python(program("slide.zarr"), folder, without="wsiseg").splitlines()
    store = TileStore(folder / "slide.zarr")
    expected = []
    for i in range(len(store)):
        read = store.tile(i).read
        inside = (store.label(i) == 1).sum()
        expected.append(f"tile at level-0 px {read.x * 2}, {read.y * 2}: {inside} px of class 1")
    assert told == expected
    assert any(not line.endswith(" 0 px of class 1") for line in told)


def test_the_pixels_of_a_store_as_jpeg(folder: Path) -> None:
    store = TileStore(folder / "jpeg.zarr")
    code = program("jpeg.zarr") + f"np.save('tiles.npy', [tile(i) for i in range({len(store)})])\n"
    assert run_python(code, folder, without="wsiseg") == "(128, 128, 3)\n"
    theirs = np.load(folder / "tiles.npy").astype(int)
    ours = np.stack([store.image(i) for i in range(len(store))])
    assert abs(theirs - ours).max() <= 8, "two decoders differ by little, two tiles by much"


def test_the_label_map(folder: Path) -> None:
    told = dict(re.findall(r"^(.+): (\d+) µm², ", run_python(program("labels.zarr"), folder, without="wsiseg"), re.M))
    labels = LabelMap(folder / "labels.zarr")
    pixels = np.bincount(labels.read(labels.frame.box).ravel(), minlength=3)
    areas = {name: round(pixels[i] * labels.frame.mpp**2) for i, name in enumerate(labels.classes.names) if i}
    assert {name: int(area) for name, area in told.items()} == {name: area for name, area in areas.items() if area}


def test_the_bundle(folder: Path) -> None:
    told = run_python(program("model.json"), folder, without="wsiseg")
    weights = sum(t.numel() for t in load_bundle(GLOMERULI).network().state_dict().values())
    assert told == f"tu-tf_efficientnet_lite0 3.0 µm/px, {weights} weights\n"


def test_the_outlines(folder: Path) -> None:
    told = run_python(program("slide.geojson"), folder, without="wsiseg").splitlines()
    found = read_annotations(folder / "slide.geojson").polygons
    outer = [abs(type(r.polygon)(r.polygon.exterior).area) for r in found]  # the demonstration gives no MultiPolygon
    assert told == [f"{r.label} {area:.0f} px² {r.score}" for r, area in zip(found, outer, strict=True)]


def test_every_program_of_the_page_is_tested() -> None:
    assert len(PROGRAMS) == 5
