"""The jobs of test_crash.py, each run in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from shapely import box as rectangle

from tests.test_predict import BUNDLE, CLASSES, ColourRule, draw
from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.grid import Grid
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.selection.tiling import tile_slide
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.slide import Slide
from wsiseg.stores import tiles as tile_store

PAUSE = 0.01  # s per unit of work, so that a kill lands in the middle of it and not always at its end


def tile(folder: Path) -> None:
    """A store of many small shards, with labels."""
    tile_store.SHARD_BYTES = 6 * 64 * 64 * 3
    slide = Slide(MemoryBackend(draw(), mpp=1.0))
    grid = Grid(slide.frame.at(2.0), 64)
    regions = [LabelledPolygon(rectangle(100, 100, 400, 300), "A")]
    tile_slide(
        slide, grid, list(grid), folder / "out.zarr", classes=CLASSES, regions=regions,
        report=lambda progress: time.sleep(PAUSE),
    )  # fmt: skip


def predict(folder: Path) -> None:
    """A label map and its outlines."""
    slide = Slide(MemoryBackend(draw(), mpp=1.0))
    job = PredictOptions(folder / "out.geojson", labels=folder / "labels.zarr")
    predict_slide(slide, BUNDLE, ColourRule(lambda call: time.sleep(PAUSE)), job)


def export(folder: Path) -> None:
    """Many outlines, streamed."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 50_000, (30_000, 2)).tolist()
    squares = (LabelledPolygon(rectangle(x, y, x + 20, y + 15), "A", score=0.5) for x, y in corners)
    write_annotations(folder / "out.geojson", squares, classes=CLASSES, properties={"from": "crash"})


JOBS: dict[str, Callable[[Path], None]] = {"tile": tile, "predict": predict, "export": export}
