"""MIRAX: a folder of images beside the file, bounds where less than the whole plane was scanned, holes in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.slides.make import pyramid, texture
from tests.slides.mirax import write_mirax
from wsiseg.cli import wsiseg
from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.open import open_slide
from wsiseg.stores.tiles import TileStore

SIDE = 1536
PICTURE = texture(SIDE, SIDE)
BOUNDS = Box(512, 512, 1024, 1024)
HOLE = Box(1024, 1024, 512, 512)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_mirax(tmp_path / "a.mrxs", pyramid(PICTURE, (2, 4)), 128, kept=((1, 1), (2, 1), (1, 2)))


def test_planes_and_pixels(slide: Path) -> None:
    wanted = np.full_like(PICTURE, 255)
    wanted[BOUNDS.slices] = PICTURE[BOUNDS.slices]
    wanted[HOLE.slices] = 255
    with open_slide(slide) as opened:
        assert opened.vendor == "mirax"
        assert (opened.frame.mpp, opened.levels, opened.bounds) == (0.5, ((1536,) * 2, (768,) * 2, (384,) * 2), BOUNDS)
        for mpp, step in ((0.5, 1), (1.0, 2)):
            frame = opened.frame.at(mpp)
            found, right = opened.read(frame.box, frame).astype(int), wanted.astype(int)
            if step == 2:
                right = right.reshape(768, 2, 768, 2, 3).mean((1, 3))
            difference = np.abs(found - right).mean(-1)
            assert difference.mean() < 3
            assert difference.mean() < np.abs(np.roll(found, 1, axis=1) - right).mean() / 2, "no pixel is misplaced"


def test_tiles_lie_within_the_bounds(slide: Path, tmp_path: Path) -> None:
    words = ["tile", str(slide), "--out", str(tmp_path / "s.zarr"), "--tile-mpp", "0.5", "--size", "256", "-q"]
    done = CliRunner().invoke(wsiseg, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    stored = set(map(tuple, TileStore(tmp_path / "s.zarr").index.tolist()))
    scanned = {(row, col) for row in range(2, 6) for col in range(2, 6) if row < 4 or col < 4}
    assert scanned <= stored
    assert not stored & {(0, 0), (0, 5), (5, 0), (5, 5)}


def test_a_file_without_its_folder_is_one_sentence(slide: Path) -> None:
    shutil.rmtree(slide.with_suffix(""))
    with pytest.raises(SlideError, match=r"a\.mrxs"):
        open_slide(slide)
