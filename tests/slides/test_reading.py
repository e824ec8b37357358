"""The front door by itself: anchoring, level choice, accuracy of the resampling, true downsamples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.slides.coordinates import coordinate_slide, decode_coordinates
from tests.slides.make import pyramid, texture, write_tiff
from wsiseg.errors import ResolutionError, SlideError
from wsiseg.geometry import Box, Frame
from wsiseg.slides.backend import downsample
from wsiseg.slides.memory import MemoryBackend, memory_slide, shrunk
from wsiseg.slides.open import open_slide
from wsiseg.slides.resample import HAMMING_FROM, resample, resampling
from wsiseg.slides.slide import Slide
from wsiseg.slides.tiffslide import TiffSlideBackend

TEXTURED = memory_slide(texture(401, 307), 0.5, (2, 4))
ONE_LEVEL = memory_slide(texture(401, 307), 0.5)
BOXES = st.builds(Box, st.integers(-60, 420), st.integers(-60, 320), st.integers(1, 90), st.integers(1, 90))


@settings(max_examples=60)
@given(BOXES, st.floats(0.3, 9), st.floats(0, 1), st.booleans())
def test_two_halves_are_the_whole(box: Box, scale: float, where: float, upright: bool) -> None:
    frame = TEXTURED.frame.at(0.5 * scale)
    whole = TEXTURED.read(box, frame)
    cut = round((box.w if upright else box.h) * where)
    if upright:
        halves = Box(box.x, box.y, cut, box.h), Box(box.x + cut, box.y, box.w - cut, box.h)
        joined = np.hstack([TEXTURED.read(half, frame) for half in halves])
    else:
        halves = Box(box.x, box.y, box.w, cut), Box(box.x, box.y + cut, box.w, box.h - cut)
        joined = np.vstack([TEXTURED.read(half, frame) for half in halves])
    assert np.abs(joined.astype(int) - whole).max() <= 1


@settings(max_examples=60)
@given(BOXES, st.integers(2, 7), st.floats(0, 1), st.booleans())
def test_for_whole_numbers_they_are_exactly(box: Box, scale: int, where: float, upright: bool) -> None:
    """From a slide of one level: by 3, one of two levels would be shrunk by 1.5."""
    frame = ONE_LEVEL.frame.at(0.5 * scale)
    cut = round((box.w if upright else box.h) * where)
    first = Box(box.x, box.y, cut, box.h) if upright else Box(box.x, box.y, box.w, cut)
    assert (ONE_LEVEL.read(first, frame) == ONE_LEVEL.read(box, frame)[: first.h, : first.w]).all()


@settings(max_examples=60)
@given(st.builds(Box, st.integers(-99, 450), st.integers(-99, 350), st.integers(1, 500), st.integers(1, 400)))
def test_beyond_the_edge_the_outermost_pixels_go_on(region: Box) -> None:
    whole = texture(401, 307)
    rows = np.clip(np.arange(region.y, region.bottom), 0, 306)
    cols = np.clip(np.arange(region.x, region.right), 0, 400)
    assert (ONE_LEVEL._pixels(ONE_LEVEL._sources[0], region) == whole[rows[:, None], cols]).all()


@settings(max_examples=60)
@given(BOXES, st.sampled_from([1, 2, 4]))
def test_exact_where_a_level_fits(box: Box, n: int) -> None:
    slide = coordinate_slide(401, 307, 0.5, (2, 4))
    frame = slide.frame.at(0.5 * n)
    x, y = decode_coordinates(slide.read(box, frame))
    inside = box.overlap(Box(0, 0, 401 // n, 307 // n))
    if inside:
        rows, cols = inside.relative_to(box).slices
        assert (x[rows, cols] == np.arange(inside.x, inside.right)).all()
        assert (y[rows, cols] == np.arange(inside.y, inside.bottom)[:, None]).all()
    outside = np.ones(box.shape, bool)
    plane = box.overlap(frame.box)
    outside[plane.relative_to(box).slices if plane else np.s_[:0]] = False
    assert (x[outside] == 4095).all()


def test_the_incomplete_last_pixel_is_the_slides() -> None:
    """401 px are 200.5 px at half the resolution: pixel 200 is half slide, and no pale rim shows it."""
    slide = memory_slide(np.full((307, 401, 3), 90, np.uint8), 0.5, (2,))
    for scale in (1.3, 2.0, 3.0, 5.5):
        frame = slide.frame.at(0.5 * scale)
        pixels = slide.read(frame.box.grow(3), frame)
        assert (pixels[3:-3, 3:-3] == 90).all()
        pixels[3:-3, 3:-3] = 255
        assert (pixels == 255).all()


def test_the_coarsest_level_that_is_fine_enough_is_read() -> None:
    shades = {1: 10, 2: 20, 4: 40, 16: 160}
    backend = MemoryBackend(
        np.full((640, 960, 3), 10, np.uint8),
        1.0,
        (2, 4, 16),
        shrink=lambda n: np.full((640 // n, 960 // n, 3), shades[n], np.uint8),
    )
    slide = Slide(backend)
    for mpp, shade in ((0.5, 10), (1, 10), (1.99, 10), (2, 20), (3.9, 20), (4, 40), (15.9, 40), (16, 160), (40, 160)):
        frame = slide.frame.at(mpp)
        assert (slide.read(Box(1, 1, 5, 5), frame) == shade).all(), mpp


@pytest.mark.parametrize(
    ("full", "level", "expected"),
    [
        ((4443, 3567), (2221, 1783), (2, 2)),
        ((4443, 3567), (2222, 1784), (2, 2)),
        ((15000, 11000), (937, 687), (16, 16)),
        ((300, 250), (37, 31), (8, 8)),
        ((46000, 32914), (11500, 8228), (4, 4)),
        ((46000, 32914), (1437, 1028), (32, 32)),
        ((100000, 90000), (97, 87), (1024, 1024)),
        ((30000, 27000), (10000, 9000), (3, 3)),
        ((1000, 1000), (1000, 1000), (1, 1)),
        ((1000, 800), (1, 1), (1024, 1024)),
        ((3000, 2500), (1200, 1000), (2.5, 2.5)),
        ((3000, 2500), (1500, 2500), (2, 1)),
    ],
)
def test_downsample(full: tuple[int, int], level: tuple[int, int], expected: tuple[float, float]) -> None:
    assert downsample(full, level) == expected


@given(st.integers(200, 200_000), st.integers(200, 200_000), st.integers(0, 5), st.booleans(), st.booleans())
def test_downsample_of_rounded_sizes(width: int, height: int, power: int, up_x: bool, up_y: bool) -> None:
    n = 2**power
    level = (-(-width // n) if up_x else width // n, -(-height // n) if up_y else height // n)
    assert downsample((width, height), level) == (n, n)


def displacement(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[float, float]:
    """By how many px `a` is shifted against `b`, least squares on the gradient (Lucas and Kanade, IJCAI 1981)."""
    one, other = a.mean(-1), b.mean(-1)
    gy, gx = np.gradient(other)
    columns = np.stack([gx.ravel(), gy.ravel(), np.ones(gx.size)], 1)
    dx, dy, _ = np.linalg.lstsq(columns, (one - other).ravel(), rcond=None)[0]
    return float(dx), float(dy)


def test_the_real_level_of_2221_px_has_downsample_2(slides: Path) -> None:
    """Registered at the far corner, where the size ratio 2.0005 would be off by 0.5 px of the level."""
    backend = TiffSlideBackend(str(slides / "tcga-cr-7395-01a-01-ts1.svs"))
    assert backend.levels == ((4443, 3567), (2221, 1783))
    for x, y in ((100, 500), (1000, 900), (1700, 1200)):
        level = backend.read(1, Box(x, y, 300, 300))
        dx, dy = displacement(level, shrunk(backend.read(0, Box(2 * x, 2 * y, 600, 600)), 2))
        assert abs(dx) < 0.05
        assert abs(dy) < 0.05
    ratio = 4443 / 2221  # had the ratio been true, level 0 would have been found here
    at = round(1700 * ratio), round(1200 * 3567 / 1783)
    dx, dy = displacement(backend.read(1, Box(1700, 1200, 300, 300)), shrunk(backend.read(0, Box(*at, 600, 600)), 2))
    assert max(abs(dx), abs(dy)) > 0.3


def area_mean(array: NDArray[np.uint8], start: float, scale: float, count: int, axis: int) -> NDArray[np.float64]:
    """The exact mean over [start + i·scale, start + (i + 1)·scale) along one axis."""
    sums = np.cumsum(np.insert(array.astype(float), 0, 0, axis), axis)
    edges = start + np.arange(count + 1) * scale
    low = np.floor(edges).astype(int)
    part = np.expand_dims(edges - low, tuple(i for i in range(3) if i != axis))
    high = np.minimum(low + 1, sums.shape[axis] - 1)
    return np.diff(np.take(sums, low, axis) * (1 - part) + np.take(sums, high, axis) * part, axis=axis) / scale


FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.HAMMING, Image.Resampling.LANCZOS)


@pytest.mark.parametrize("scale", [1.05, 1.2, 1.5, 2.0, 2.3, 3.0, 3.7, 4.0])
def test_the_chosen_filter_is_nearest_to_the_mean(slides: Path, scale: float) -> None:
    with open_slide(slides / "CMU-1-Small-Region.svs") as slide:
        source = slide.read(Box(700, 700, 700, 700), slide.frame)
    start, count = (20.0 if scale.is_integer() else 20.37), int(640 / scale)
    exact = area_mean(area_mean(source, start, scale, count, 1), start, scale, count, 0)
    box = (start, start, start + count * scale, start + count * scale)
    errors = {
        f: np.abs(np.asarray(Image.fromarray(source).resize((count, count), f, box=box)) - exact).mean()
        for f in FILTERS
    }
    chosen = resampling((scale, scale))
    assert errors[chosen] == min(errors.values())
    assert errors[chosen] < 1.3


@pytest.mark.parametrize("scale", [0.25, 0.73, 1.05, 1.5, 2.0, 2.3, 4.0])
def test_a_gradient_stays_where_it_is(scale: float) -> None:
    """4 grey levels per px: a shift by a quarter of a pixel would be one level."""
    ramp = np.broadcast_to((np.arange(60) * 4)[None, :, None], (60, 60, 3)).astype(np.uint8)
    count = int(40 / scale)
    box = (8.3, 8.3, 8.3 + count * scale, 8.3 + count * scale)
    pixels = resample(ramp, box, (count, count), (scale, scale)).astype(float)
    expected = (8.3 + (np.arange(count) + 0.5) * scale - 0.5) * 4
    allowed = 0.5 + 4 * (0.5 if scale.is_integer() else 0.05)  # BOX takes whole pixels: only for whole positions
    assert np.abs(pixels - expected[None, :, None]).max() <= allowed


@given(st.integers(2, 9), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([3, 3.9, 60]))
@settings(max_examples=60, deadline=None)
def test_whole_numbers_shrink_as_pillow_does(by: int, side: int, seed: int, contrast: float) -> None:
    """Of a square; of a tall piece Pillow takes the mean along y first, which rounds otherwise."""
    rng = np.random.default_rng(seed)
    shape = (side * by, side * by, 3)
    source = np.clip(rng.normal(rng.integers(0, 256), contrast, shape), 0, 255).astype(np.uint8)
    pillow = Image.fromarray(source).resize((side, side), Image.Resampling.BOX)
    ours = resample(source, (0, 0, side * by, side * by), (side, side), (float(by), float(by)))
    assert (ours == np.asarray(pillow)).all()


def test_filters() -> None:
    assert resampling((2.0, 1.0)) == Image.Resampling.BOX
    assert resampling((2.5, 2.0)) == Image.Resampling.HAMMING
    assert resampling((1.2, 5.0)) == Image.Resampling.BILINEAR
    assert resampling((0.5, 0.5)) == Image.Resampling.BILINEAR
    assert 1.2 < HAMMING_FROM < 1.5


def test_a_very_wide_read_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all of a large slide at a coarse resolution asks its backend for pieces only."""
    slide = memory_slide(texture(3000, 2000), 0.5)
    backend = slide._backend
    asked: list[int] = []
    read = backend.read
    monkeypatch.setattr(backend, "read", lambda level, box: asked.append(box.area) or read(level, box))
    monkeypatch.setattr("wsiseg.slides.slide.PART_PX", 300_000)
    frame = slide.frame.at(8.0)
    slide.read(frame.box, frame)
    assert len(asked) >= 20
    assert max(asked) < 2 * 300_000


def test_memory_slides_refuse_what_is_no_image() -> None:
    with pytest.raises(SlideError, match="float64"):
        MemoryBackend(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(ResolutionError, match="--mpp"):
        Slide(MemoryBackend(texture(30, 20), None))
    assert Slide(MemoryBackend(texture(30, 20), None), mpp=2).frame == Frame(30, 20, 2.0)


def test_the_persons_word_wins(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "s.tif", pyramid(texture(400, 300), (2,)), mpp=0.5)
    assert open_slide(path).frame.mpp == pytest.approx(0.5)
    assert open_slide(path, mpp=0.7).frame == Frame(400, 300, 0.7)
