"""A slide that changes while it is open: its pixels would be those of two files."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.slides.make import texture, write_tiff
from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.grid import Grid
from wsiseg.progress import Progress
from wsiseg.selection.tiling import tile_slide
from wsiseg.slides.memory import memory_slide
from wsiseg.slides.open import open_slide

HERE = Box(0, 0, 40, 40)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiff(tmp_path / "s.tif", [texture(600, 500)])


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(1))


def rewritten(path: Path) -> None:
    write_tiff(path, [255 - texture(600, 500)])
    os.utime(path, ns=(10**18, 10**18))


def replaced(path: Path) -> None:
    other = write_tiff(path.with_name("other.tif"), [texture(700, 300)])
    other.replace(path)


@pytest.mark.parametrize("change", [appended, rewritten, replaced, Path.unlink])
@pytest.mark.parametrize("backend", ["tiff", "openslide", "image"])
def test_reading_goes_no_further(path: Path, change: object, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsiseg.slides.slide.CHECK_SECONDS", -1.0)
    with open_slide(path, mpp=0.5, backend=backend) as slide:
        slide.read(HERE, slide.frame)
        packed = pickle.dumps(slide)
        change(path)  # type: ignore[operator]
        with pytest.raises(SlideError, match=r"s\.tif has changed since it was opened"):
            slide.read(HERE, slide.frame)
        for again in (lambda: copy.copy(slide), lambda: pickle.loads(packed)):
            with pytest.raises(SlideError):
                again()


def test_a_look_costs_no_read_its_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is looked at once a second, not for every read."""
    with open_slide(path) as slide:
        looks: list[str] = []
        monkeypatch.setattr("wsiseg.slides.slide._stamp_of", lambda path: looks.append(path) or slide._stamp)
        for _ in range(50):
            slide.read(HERE, slide.frame)
        assert len(looks) <= 10


def test_a_store_of_a_slide_that_changed_is_not_finished(path: Path, tmp_path: Path) -> None:
    with open_slide(path) as slide:
        grid = Grid(slide.frame, 128, 0)

        def change(progress: Progress) -> None:
            if progress.done:
                appended(path)

        with pytest.raises(SlideError, match="has changed"):
            tile_slide(slide, grid, list(grid), tmp_path / "s.zarr", report=change)
    assert not (tmp_path / "s.zarr").exists() or not any((tmp_path / "s.zarr").glob("manifest.json"))


def test_a_slide_in_memory_has_no_file() -> None:
    slide = memory_slide(texture(60, 50))
    slide.check_unchanged()
    assert np.array_equal(pickle.loads(pickle.dumps(slide)).read(HERE, slide.frame), texture(60, 50)[:40, :40])
