"""A slide whose scanner states bounds: every command speaks of the whole plane's level-0 pixels, as OpenSlide does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.slides.make import write_leica
from tests.test_predict import BUNDLE, CLASSES, ColourRule, draw, label_of
from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.rasterise import rasterise
from wsiseg.cli import wsiseg
from wsiseg.geometry import Box
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.slides.open import open_slide
from wsiseg.stores.tiles import TileStore

AT, PLANE = (512, 256), (2560, 1536)  # px of level 0
AREA = Box(*AT, 1100, 760)


@pytest.fixture(scope="module")
def leica(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_leica(tmp_path_factory.mktemp("leica") / "s.scn", draw(), at=AT, plane=PLANE, mpp=1.0)


def run(*words: object) -> str:
    done = CliRunner().invoke(wsiseg, [*map(str, words)], catch_exceptions=False, standalone_mode=False)
    assert done.exit_code == 0
    return done.stdout


def test_info_and_tissue(leica: Path, tmp_path: Path) -> None:
    told = json.loads(run("info", leica, "--json"))
    assert (told["width"], told["height"]) == PLANE
    assert told["bounds"] == {"x": AREA.x, "y": AREA.y, "w": AREA.w, "h": AREA.h}
    run("tissue", leica, "--out", tmp_path / "t.geojson")
    found = [p.polygon.bounds for p in read_annotations(tmp_path / "t.geojson").polygons]
    left, top = (min(b[i] for b in found) for i in (0, 1))
    right, bottom = (max(b[i] for b in found) for i in (2, 3))
    wanted = (AREA.x + 60, AREA.y + 80, AREA.x + 1040, AREA.y + 680)  # the pink rectangle of the drawing
    assert (left, top, right, bottom) == pytest.approx(wanted, abs=24)


def test_prediction(leica: Path, tmp_path: Path) -> None:
    options = PredictOptions(tmp_path / "o.geojson")
    with open_slide(leica) as slide:
        predict_slide(slide, BUNDLE, ColourRule(), options)
        found = read_annotations(options.out)
        labels = rasterise(found.polygons, CLASSES, slide.frame.box, slide.frame, slide.frame)
    inside = labels[AREA.y : AREA.bottom, AREA.x : AREA.right]
    assert (inside > 0).sum() == (labels > 0).sum(), "nothing lies outside the bounds"
    right = label_of(draw())
    assert (inside == right).mean() > 0.97  # JPEG blurs the borders of colours
    assert (inside == right).mean() > (np.roll(inside, 4, axis=1) == right).mean()


def test_tiles(leica: Path, tmp_path: Path) -> None:
    run("tile", leica, "--size", 128, "--out", tmp_path / "s.zarr", "-q")
    store, picture = TileStore(tmp_path / "s.zarr"), draw()
    whole = np.full((PLANE[1], PLANE[0], 3), 255, np.uint8)
    whole[AREA.y : AREA.bottom, AREA.x : AREA.right] = picture
    assert len(store) > 20
    for i in range(len(store)):
        box = store.tile(i).read
        assert np.abs(store.image(i).astype(int) - whole[box.slices]).mean() < 6
