"""`wsiseg tile`: which µm/px is which; the area of tissue that every command gives."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from wsiseg.cli import wsiseg
from wsiseg.errors import SlideError
from wsiseg.stores.tiles import TileStore


def command(*words: object) -> Result:
    return CliRunner().invoke(wsiseg, [str(w) for w in words])


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    pixels = np.full((300, 400, 3), 240, np.uint8)
    pixels[50:250, 60:300] = (200, 120, 170)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    return tmp_path / "plain.png"


def test_mpp_is_that_of_the_slide(plain: Path, tmp_path: Path) -> None:
    done = command("tile", plain, "--mpp", 0.5, "--size", 64, "--out", tmp_path / "a.zarr", "-q")
    assert done.exit_code == 0, done.output
    grid = TileStore(tmp_path / "a.zarr").grid
    assert (grid.frame.mpp, grid.frame.width) == (1.0, 200)
    done = command("tile", plain, "--mpp", 0.5, "--tile-mpp", 2, "--size", 64, "--out", tmp_path / "b.zarr", "-q")
    assert done.exit_code == 0, done.output
    assert TileStore(tmp_path / "b.zarr").grid.frame.mpp == 2.0


def test_mpp_as_version_0_1_meant_it_is_refused(slides: Path, tmp_path: Path) -> None:
    slide = slides / "CMU-1-Small-Region.svs"
    done = command("tile", slide, "--mpp", 1.0, "--out", tmp_path / "a.zarr", "-q")
    assert isinstance(done.exception, SlideError)
    assert re.search(r"states 0\.499 µm/px.*--tile-mpp 1,.*--slide-mpp 1\.$", str(done.exception))
    assert not list(tmp_path.iterdir())
    done = command("tile", slide, "--slide-mpp", 0.25, "--tile-mpp", 2, "--out", tmp_path / "b.zarr", "-q")
    assert done.exit_code == 0, done.output
    assert TileStore(tmp_path / "b.zarr").grid.frame.width == pytest.approx(2220 / 8, abs=1)


def test_one_slide_has_one_area_of_tissue(kidney: Path, tmp_path: Path) -> None:
    """`tissue`, `qc` and `measure` agree; tiles are chosen by a mask that is a little larger."""
    slide = kidney / "kidney-007.svs"
    found = command("tissue", slide, "--out", tmp_path / "mask.png").output
    area = float(re.search(r"([\d.]+) mm² of tissue", found)[1])  # type: ignore[index]
    quality = json.loads(command("qc", slide, "--json", "--out", tmp_path / "qc", "-q").stdout)
    flags = {flag["name"]: flag["value"] for flag in quality["flags"]}
    assert flags["tissue"] == pytest.approx(area, abs=0.005)
    done = command("measure", slide, slide.with_suffix(".geojson"), "--out", tmp_path / "m")
    assert done.exit_code == 0, done.output
    with (tmp_path / "m" / "slides.csv").open(newline="", encoding="utf-8-sig") as file:
        row = next(csv.DictReader(file))
    measured = float(next(value for name, value in row.items() if re.fullmatch("tissue(_area)?_(mm2|um2)", name)))
    assert measured == pytest.approx(flags["tissue"], rel=1e-4)
