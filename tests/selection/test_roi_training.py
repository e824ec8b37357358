"""Learning inside outlines alone: which tiles are stored, and that nothing is stated about the rest."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from shapely import contains_xy, union_all

from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.classes import IGNORE
from wsiseg.data.slides import SlideEntry
from wsiseg.errors import ClassError, RecipeError
from wsiseg.recipe import load_recipe
from wsiseg.synthetic import CLASSES, SlideSpec, generate, write_slide
from wsiseg.training.run import tile_row

RECIPE = Path(__file__).parents[2] / "pipelines" / "kidney-podocytes.toml"
SETTINGS = ("data.mpp=1.0", "data.tile=64", "data.roi_margin_um=5")
MADE = generate(SlideSpec(7, 1800, 1400, "pas", 1.0, ()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("within")
    write_slide(MADE, folder / "slide.svs")
    write_annotations(folder / "all.geojson", chain(MADE.truth, MADE.nuclei()), classes=CLASSES)
    write_annotations(folder / "glomeruli.geojson", MADE.truth[:1], classes=CLASSES)
    write_annotations(folder / "nuclei.geojson", MADE.nuclei(), classes=CLASSES)
    return folder


def test_labels_are_there_inside_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, SETTINGS)
    row = SlideEntry(folder / "slide.svs", folder / "all.geojson", "one")
    store = tile_row(row, recipe, recipe.classes.class_map(), tmp_path, print)
    inside = union_all([r.polygon for r in MADE.truth]).buffer(5)
    nuclei = list(MADE.nuclei())
    wanted = Rasteriser(nuclei, recipe.classes.class_map(), MADE.frame, MADE.frame)
    seen = 0
    for tile in map(store.tile, range(len(store))):
        labels = store.read_labels(tile.read)
        y, x = np.mgrid[tile.read.y : tile.read.bottom, tile.read.x : tile.read.right] + 0.5
        there = contains_xy(inside, x, y)
        assert (labels[~there] == IGNORE).all()
        assert (labels[there] == wanted.read(tile.read)[there]).mean() > 0.995  # the file keeps two decimals
        assert there.any()
        seen += int(there.sum())
    assert seen == pytest.approx(inside.area, rel=0.01)


def test_a_slide_without_outlines_brings_those_of_another_model(folder: Path, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, SETTINGS)
    classes = recipe.classes.class_map()
    row = SlideEntry(folder / "slide.svs", None, "one", roi=folder / "glomeruli.geojson")
    store = tile_row(row, recipe, classes, tmp_path, print)
    assert not store.labelled
    assert 0 < len(store) < 30
    with pytest.raises(RecipeError, match="column `roi`"):
        tile_row(SlideEntry(folder / "slide.svs", None, "one"), recipe, classes, tmp_path / "b", print)
    with pytest.raises(RecipeError, match="holds no Glomerulus or Sclerotic glomerulus"):
        tile_row(SlideEntry(folder / "slide.svs", folder / "nuclei.geojson", "one"), recipe, classes, tmp_path, print)


def test_a_class_must_be_named_or_left_out(folder: Path, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, (*SETTINGS, 'data.rename={"Sclerotic glomerulus" = ""}'))
    row = SlideEntry(folder / "slide.svs", folder / "all.geojson", "one")
    with pytest.raises(ClassError, match="'Glomerulus'"):
        tile_row(row, recipe, recipe.classes.class_map(), tmp_path, print)
