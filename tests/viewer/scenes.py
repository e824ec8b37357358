"""A small slide with everything that can lie over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from shapely import Polygon

from tests.slides.make import texture
from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.geometry import Frame
from wsiseg.grid import Grid
from wsiseg.slides.memory import memory_slide
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import FORMAT, LabelWriter
from wsiseg.stores.reservation import reserve

WIDTH, HEIGHT, MPP = 1500, 1100, 0.5
FRAME = Frame(WIDTH, HEIGHT, MPP)
CLASSES = ClassMap(("Background", "Glomerulus", "Vessel"))


def small_slide() -> Slide:
    """1500 × 1100 px at 0.5 µm/px, no two places alike, with two coarser levels."""
    return memory_slide(texture(WIDTH, HEIGHT), MPP, (2, 4), "small.slide")


def outlines(shift: float = 0.0) -> list[LabelledPolygon]:
    """Twelve objects on odd corners, one with a hole; a vessel lies in the largest glomerulus."""
    regions = []
    for n in range(10):
        x, y = 90.3 + 140 * n + shift, 200.7 + 70 * n
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        radius = (30 + 3 * n) * (1 + 0.1 * np.sin(5 * angle))
        shape = Polygon(np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1))
        if n == 5:
            shape = shape.difference(shapely.box(x - 8, y - 8, x + 9, y + 7))
        name = "Vessel" if n % 3 == 2 else "Glomerulus"
        regions.append(
            LabelledPolygon(shape, name, score=round(0.05 + 0.09 * n, 2), measurements={"podocytes": float(n % 4)})
        )
    big = regions[9].polygon.centroid
    regions.append(LabelledPolygon(shapely.box(big.x - 9, big.y - 7, big.x + 8, big.y + 10), "Vessel", score=0.5))
    regions.append(LabelledPolygon(shapely.box(700, 40, 900, 90), "Glomerulus", score=0.99))
    return regions


def write(path: Path, regions: list[LabelledPolygon]) -> Path:
    """An outline file of these regions."""
    write_annotations(path, regions, classes=CLASSES)
    return path


def write_labels(path: Path) -> Path:
    """A label map at 2 µm/px of 375 × 275 px: stripes of all classes, confidence growing to the right."""
    grid = Grid(FRAME.at(2.0), 128, 32)
    manifest = {
        "kind": "labels", "format": FORMAT, "grid": grid.to_json(), "level0": FRAME.to_json(),
        "classes": CLASSES.to_json(),
    }  # fmt: skip
    y, x = np.mgrid[: grid.frame.height, : grid.frame.width]
    labels = ((x // 7 + y // 11) % 3).astype(np.uint8)
    score = np.where(labels > 0, 50 + x * 200 // grid.frame.width, 0).astype(np.uint8)
    with reserve(path, manifest) as folder:
        assert folder is not None
        writer = LabelWriter(folder, grid, CLASSES, manifest)
        for row in range(grid.shape[0]):
            rows = slice(row * grid.stride, (row + 1) * grid.stride)
            writer.write_row(row, labels[rows], score[rows])
        writer.finish()
    return path
