"""Pixels between two levels, shrunk by the decoder: where they are, how near they are, and who chooses them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.slides.make import aperio, pyramid, write_tiles
from tests.slides.test_reading import displacement
from tests.slides.test_tiff import counting, stained
from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.grid import Grid
from wsiseg.selection.tiling import tile_manifest
from wsiseg.slides.backend import ReducingBackend
from wsiseg.slides.memory import shrunk
from wsiseg.slides.open import open_slide
from wsiseg.slides.tiff.backend import TiffBackend


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Levels 1 and 4 of an odd size, JPEG."""
    levels = pyramid(stained(1237, 1051), (4,))
    return write_tiles(tmp_path_factory.mktemp("s") / "s.svs", levels, "jpeg", about=aperio(levels))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("tile", [16, 48, 64])
def test_every_pixel_stands_for_its_square(tmp_path: Path, factor: int, tile: int) -> None:
    """Colours that encode x and y, 2 grey levels a pixel: half a pixel of level 0 off would be a whole level off."""
    y, x = np.mgrid[:112, :120]
    place = np.stack([2 * x, 2 * y, np.full(x.shape, 90)], -1).astype(np.uint8)
    backend = TiffBackend(str(write_tiles(tmp_path / "c.tif", [place], "jpeg-rgb", tile=tile)))
    assert isinstance(backend, ReducingBackend)
    pixels = backend.read_reduced(0, factor, Box(0, 0, 120 // factor, 112 // factor)).astype(float)
    middles = np.arange(120 // factor) * factor + (factor - 1) / 2  # of the squares, in pixel numbers of level 0
    for found, expected in ((pixels[..., 0], 2 * middles), (pixels[..., 1].T, 2 * middles[: 112 // factor])):
        assert abs((found - expected).mean()) < 0.3
        assert np.abs(found - expected).max() < 4


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_nothing_is_shifted_on_a_real_slide(slides: Path, factor: int) -> None:
    backend = TiffBackend(str(slides / "CMU-1-Small-Region.svs"))
    whole = Box(0, 0, 2220 // factor, 2967 // factor)
    expected = shrunk(backend.read(0, Box(0, 0, 2220, 2967)), factor)
    for box in (whole, Box(100 // factor, 700 // factor, 700 // factor, 900 // factor)):
        dx, dy = displacement(backend.read_reduced(0, factor, box), expected[box.slices])
        assert abs(dx) < 0.02
        assert abs(dy) < 0.02


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("slides/CMU-1-Small-Region.svs", (2.0, 3.5, 3.9, 4.0, 5.0, 8.0, 9.1)),
        ("kidney/kidney-062.svs", (2.0, 3.5, 3.9)),
    ],
)
def test_near_to_decoding_and_shrinking(data: Path, name: str, scales: tuple[float, ...]) -> None:
    with open_slide(data / name) as scaled, open_slide(data / name, scaled_decoding=False) as plain:
        assert scaled.scaled_decoding
        assert not plain.scaled_decoding
        for scale in scales:
            frame = plain.frame.at(plain.frame.mpp * scale)
            error = np.abs(scaled.read(frame.box, frame).astype(int) - plain.read(frame.box, frame))
            assert 0 < error.mean() < 1.5, scale


def test_the_source_is_the_nearest_that_costs_least(slide_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    read = TiffBackend.read_reduced

    def spy(self: TiffBackend, level: int, factor: int, box: Box) -> np.ndarray:
        asked.append((level, factor))
        return read(self, level, factor, box)

    def chosen(scale: float, scaled_decoding: bool) -> tuple[int, int]:
        with open_slide(slide_file, scaled_decoding=scaled_decoding) as slide:
            monkeypatch.setattr(TiffBackend, "read_reduced", spy)
            asked.clear()
            slide.read(Box(3, 4, 5, 6), slide.frame.at(slide.frame.mpp * scale))
            monkeypatch.setattr(TiffBackend, "read_reduced", read)
        return asked[0]

    expected = {0.7: (0, 1), 1: (0, 1), 1.9: (0, 1), 2: (0, 2), 2.3: (0, 1), 3.4: (0, 1), 3.6: (0, 2), 4: (1, 1),
                7.9: (1, 1), 8: (1, 2), 9: (1, 1), 15: (1, 2), 16: (1, 4), 17: (1, 2), 40: (1, 4),
                64: (1, 8)}  # fmt: skip
    assert {scale: chosen(scale, True) for scale in expected} == expected
    assert {scale: chosen(scale, False) for scale in expected} == {s: (0 if s < 4 else 1, 1) for s in expected}


def test_copies_keep_the_setting(slide_file: Path) -> None:
    for setting in (True, False):
        with open_slide(slide_file, scaled_decoding=setting) as slide:
            for other in (copy.copy(slide), pickle.loads(pickle.dumps(slide))):
                assert other.scaled_decoding is setting


def test_the_setting_is_in_the_manifest(slide_file: Path) -> None:
    for setting in (True, False):
        with open_slide(slide_file, scaled_decoding=setting) as slide:
            grid = Grid(slide.frame.at(1.0), 256, 0)
            assert tile_manifest(slide, grid, list(grid), None, {})["scaled_decoding"] is setting
    with open_slide(slide_file, backend="openslide") as slide:  # whose decoder shrinks nothing
        assert slide.scaled_decoding is False


def test_damage_is_placed_in_level_0_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiles(tmp_path / "s.tif", [stained(600, 600)], "jpeg")
    with open_slide(path) as slide:

        def fail(*_: object) -> None:
            raise ValueError("torn")

        monkeypatch.setattr(slide._backend, "_decode", fail)
        with pytest.raises(SlideError, match=r"x 40 to 80, y 80 to 160 cannot be read \(tiff: torn\)"):
            slide.read(Box(20, 40, 20, 40), slide.frame.at(slide.frame.mpp * 2))


def test_neighbouring_reads_decode_no_tile_twice(slide_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_slide(slide_file) as slide:
        decoded = counting(slide._backend, monkeypatch)
        frame = slide.frame.at(slide.frame.mpp * 3.7)
        for y in range(0, frame.height, 150):
            for x in range(0, frame.width, 150):
                slide.read(Box(x, y, 150, 150), frame)
        assert sorted(decoded) == list(range(25))
