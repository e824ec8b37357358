"""Tissue masks on generated pictures and on real slides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from shapely.geometry import shape

from wsiseg.geometry import Box, Frame
from wsiseg.selection import tissue as tissue_module
from wsiseg.selection.tissue import TissueMask, find_tissue, tissue_of
from wsiseg.slides.memory import memory_slide
from wsiseg.slides.open import open_slide

Picture = NDArray[np.uint8]
EOSIN = np.array((0.90, 0.55, 0.75))  # transmittance
INKS = {
    "blue": (0.18, 0.28, 0.72),
    "dark blue": (0.10, 0.14, 0.50),
    "light blue": (0.35, 0.55, 0.85),
    "green": (0.15, 0.60, 0.30),
    "red": (0.85, 0.14, 0.20),
    "violet": (0.45, 0.18, 0.75),
    "black": (0.08, 0.08, 0.09),
}


def plane(picture: Picture, mpp: float = 8.0) -> Frame:
    return Frame(picture.shape[1], picture.shape[0], mpp)


def biopsy(glass: tuple[int, int, int] = (236, 238, 237), strength: float = 1.0) -> tuple[Picture, NDArray[np.bool_]]:
    """A core of 0.8 × 2.4 mm on noisy glass at 8 µm/px, with where it is. `strength` dilutes the stain."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:300, :400]
    core = ((x - 200) / 150) ** 2 + ((y - 150) / 50) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.standard_normal((300, 400)), 1.5) * 2
    amount = np.where(core, np.clip(0.8 + 0.3 * texture, 0.3, 1.5), 0) * strength
    light = np.array(glass) * EOSIN ** amount[..., None]
    return (light + rng.normal(0, 1.5, light.shape)).clip(0, 255).astype(np.uint8), core


def marked(picture: Picture, ink: str) -> tuple[Picture, NDArray[np.bool_]]:
    """A stroke of 0.5 mm with soft edges, across the picture."""
    height, width = picture.shape[:2]
    image = Image.new("L", (width, height))
    line = [(width * 0.05, height * 0.95), (width * 0.2, height * 0.4), (width * 0.9, height * 0.97)]
    ImageDraw.Draw(image).line(line, fill=255, width=60, joint="curve")
    amount = ndimage.gaussian_filter(np.asarray(image) / 255, 1.0)[..., None]
    amount *= 0.9 + 0.1 * np.random.default_rng(0).random((height, width, 1))
    return (picture * np.array(INKS[ink]) ** amount).astype(np.uint8), amount[..., 0] > 0.5


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def painted(geometry: dict[str, Any], level0: Frame, frame: Frame) -> NDArray[np.bool_]:
    """The pixels of `frame` that an outline in level-0 px covers; holes are left out of account."""
    image = Image.new("1", (frame.width, frame.height))
    sx, sy = level0.scale_to(frame)
    outline = shape(geometry)
    for part in getattr(outline, "geoms", [outline]):
        ImageDraw.Draw(image).polygon([(x * sx, y * sy) for x, y in part.exterior.coords], fill=1)
    return np.asarray(image)


class TestEmptySlides:
    @pytest.mark.parametrize("colour", [(255, 255, 255), (240, 240, 240), (128, 128, 128), (0, 0, 0), (229, 232, 237)])
    @pytest.mark.parametrize("noise", [0, 2, 6])
    def test_one_colour(self, colour: tuple[int, int, int], noise: float) -> None:
        rng = np.random.default_rng(1)
        picture = (np.array(colour) + rng.normal(0, noise, (200, 300, 3))).clip(0, 255).astype(np.uint8)
        assert not find_tissue(picture, plane(picture)).any()

    def test_grey_structures_are_none(self) -> None:
        """Dust, bubbles and a coverslip's edge throw shadows, which have no colour."""
        picture, _ = biopsy(strength=0)
        picture[100:180, 50:140] = (picture[100:180, 50:140] * 0.5).astype(np.uint8)
        picture[:, 350:356] = 90
        assert not find_tissue(picture, plane(picture)).any()

    def test_padding_beside_glass(self) -> None:
        picture, _ = biopsy(glass=(229, 232, 237), strength=0)
        picture[:150, 200:] = 255
        picture[200:, :100] = 255
        assert not find_tissue(picture, plane(picture)).any()

    def test_specks(self) -> None:
        picture, _ = biopsy(strength=0)
        picture[50:58, 50:58] = (190, 90, 130)  # 64 × 64 µm
        assert not find_tissue(picture, plane(picture)).any()
        assert find_tissue(picture, plane(picture), min_tissue_um2=1000).any()

    def test_nothing_at_all(self) -> None:
        assert find_tissue(np.zeros((0, 7, 3), np.uint8), Frame(7, 0, 8.0)).shape == (0, 7)
        assert find_tissue(np.full((1, 1, 3), 250, np.uint8), Frame(1, 1, 8.0)).shape == (1, 1)

    def test_grey_files(self, odd: Path) -> None:
        with open_slide(odd / "grey10kx5k.tif", mpp=0.5) as slide:
            assert tissue_of(slide).area_um2 == 0


class TestBiopsy:
    @pytest.mark.parametrize("strength", [1.5, 1.0, 0.5, 0.25])
    @pytest.mark.parametrize("glass", [(255, 255, 255), (236, 238, 237), (229, 232, 237), (200, 203, 206)])
    def test_pale_and_dark(self, glass: tuple[int, int, int], strength: float) -> None:
        picture, core = biopsy(glass, strength)
        mask = find_tissue(picture, plane(picture))
        assert dice(mask, core) > 0.97
        grown = TissueMask(mask, plane(picture)).grown()
        assert (core & ~grown.mask).sum() == 0

    def test_padding(self) -> None:
        picture, core = biopsy()
        picture[:150, 200:] = 255
        core[:150, 200:] = False
        assert dice(find_tissue(picture, plane(picture)), core) > 0.97

    @pytest.mark.parametrize("ink", INKS)
    def test_pen(self, ink: str) -> None:
        picture, core = biopsy()
        picture, stroke = marked(picture, ink)
        mask = find_tissue(picture, plane(picture))
        far = ~ndimage.binary_dilation(core, iterations=6)
        assert (mask & stroke & far).sum() <= 0.02 * (stroke & far).sum()
        clear = core & ~ndimage.binary_dilation(stroke, iterations=6)
        assert (mask & clear).sum() >= 0.99 * clear.sum()
        if ink != "black":
            assert (find_tissue(picture, plane(picture), without_pen=False) & stroke & far).any()

    def test_a_blue_stain_is_no_pen(self) -> None:
        """Toluidine blue: where all that is coloured looks like ink, it is the tissue."""
        _, core = biopsy()
        picture = np.where(core[..., None], (60, 110, 200), 238).astype(np.uint8)
        assert dice(find_tissue(picture, plane(picture)), core) > 0.97

    def test_holes(self) -> None:
        picture, _ = biopsy()
        picture[140:160, 150:160] = 238  # 160 × 80 µm
        mask = find_tissue(picture, plane(picture))
        assert mask[140:160, 150:160].all()
        assert not find_tissue(picture, plane(picture), max_hole_um2=1000, close_um=0)[150, 155]

    @pytest.mark.parametrize("mpp", [4.0, 16.0])
    def test_sizes_are_in_um(self, mpp: float) -> None:
        """The same slide at another µm/px has the same tissue."""
        picture, core = biopsy()
        size = (round(400 * 8 / mpp), round(300 * 8 / mpp))
        other = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
        expected = np.asarray(Image.fromarray(core).resize(size))
        assert dice(find_tissue(other, plane(other, mpp)), expected) > 0.95

    def test_unequal_axes(self) -> None:
        picture, core = biopsy()
        tall = np.repeat(picture, 2, 0)
        mask = find_tissue(tall, Frame(400, 600, 8.0, 4.0))
        assert dice(mask, np.repeat(core, 2, 0)) > 0.97

    def test_growing(self) -> None:
        picture, _ = biopsy()
        plain = TissueMask(find_tissue(picture, plane(picture)), plane(picture))
        assert np.array_equal(plain.grown(24).mask, ndimage.binary_dilation(plain.mask, np.ones((7, 7))))


class TestRealSlides:
    def test_all_outlined_glomeruli_are_inside(self, kidney: Path) -> None:
        paths = sorted(kidney.glob("*.svs"))[::3]
        for path in paths:
            with open_slide(path) as slide:
                tissue = tissue_of(slide).grown()
            assert 0.01 < tissue.mask.mean() < 0.7
            for feature in json.loads(path.with_suffix(".geojson").read_text())["features"]:
                inside = painted(feature["geometry"], slide.frame, tissue.frame)
                assert (inside & tissue.mask).sum() >= 0.95 * inside.sum(), path.name

    def test_white_padding_is_no_tissue(self, kidney: Path) -> None:
        for path in sorted(kidney.glob("*.svs"))[::6]:
            with open_slide(path) as slide:
                tissue = tissue_of(slide)
                picture = slide.read(tissue.frame.box, tissue.frame)
            white = ndimage.binary_erosion((picture == 255).all(-1), iterations=12)
            assert not (tissue.mask & white).any(), path.name

    @pytest.mark.parametrize(
        ("name", "mpp", "least", "most"),
        [
            ("slides/CMU-1-Small-Region.svs", None, 0.40, 0.55),
            ("slides/tcga-cr-7395-01a-01-ts1.svs", 0.5, 0.60, 0.75),
            ("slides/multiframe_camelyon_challenge_image.dcm", None, 0.25, 0.50),
            ("nuclei/TCGA-B0-5698-01Z-00-DX1.tif", 0.25, 0.99, 1.00),
            ("odd/kidney-48-5.tif", 16.0, 0.003, 0.02),
        ],
    )
    def test_fractions(self, data: Path, name: str, mpp: float | None, least: float, most: float) -> None:
        with open_slide(data / name, mpp=mpp) as slide:
            assert least <= tissue_of(slide).mask.mean() <= most

    def test_pens_are_not_seen_where_there_are_none(self, kidney: Path) -> None:
        for path in sorted(kidney.glob("*.svs"))[::8]:
            with open_slide(path) as slide:
                assert np.array_equal(tissue_of(slide).mask, tissue_of(slide, without_pen=False).mask)

    def test_fluorescence_gives_the_areas_of_signal(self, slides: Path) -> None:
        with open_slide(slides / "test3-DAPI-2-(387).ndpi") as slide:
            tissue = tissue_of(slide)
            picture = slide.read(tissue.frame.box, tissue.frame)
        bright = picture[..., 2] > 90
        assert (bright & tissue.mask).sum() > 0.98 * bright.sum()


class TestTissueMask:
    @settings(max_examples=60)
    @given(
        st.integers(0, 2**32 - 1),
        st.builds(Box, st.integers(-9, 50), st.integers(-9, 40), st.integers(1, 40), st.integers(1, 40)),
        st.sampled_from([1, 2, 3, 5]),
    )
    def test_fraction_is_the_counted_fraction(self, seed: int, box: Box, n: int) -> None:
        """Against counting, in a frame n times finer, where every mask pixel is n × n pixels."""
        mask = np.random.default_rng(seed).random((8, 11)) < 0.3
        tissue = TissueMask(mask, Frame(11, 8, 1.0 * n))
        fine = np.pad(np.kron(mask, np.ones((n, n), bool)), 60)
        expected = fine[box.shift(60, 60).slices].mean()
        assert tissue.fraction(box, Frame(11 * n, 8 * n, 1.0)) == pytest.approx(expected, abs=1e-12)
        assert (tissue.fraction(box, Frame(11 * n, 8 * n, 1.0)) > 0) == (expected > 0)

    def test_fraction_at_other_scales(self) -> None:
        mask = np.zeros((10, 10), bool)
        mask[4:6, 2:8] = True
        tissue = TissueMask(mask, Frame(10, 10, 8.0))
        assert tissue.area_um2 == 12 * 64
        assert tissue.fraction(Box(0, 0, 1, 1), Frame(1, 1, 80.0)) == pytest.approx(0.12)
        assert tissue.fraction(Box(24, 36, 1, 1), Frame(100, 100, 0.8)) == 0
        assert tissue.fraction(Box(24, 40, 1, 1), Frame(100, 100, 0.8)) == pytest.approx(1)
        assert tissue.fraction(Box(2, 4, 6, 2), Frame(10, 10, 8.0)) == 1
        assert tissue.fraction(Box(500, 500, 3, 3), Frame(10, 10, 8.0)) == 0
        assert tissue.fraction(Box(2, 4, 0, 5), Frame(10, 10, 8.0)) == 0

    def test_a_slide_coarser_than_the_mask_is_taken_as_it_is(self) -> None:
        picture, core = biopsy()
        tissue = tissue_of(memory_slide(picture, 10.0))
        assert tissue.frame == Frame(400, 300, 10.0)
        assert dice(tissue.mask, core) > 0.9

    def test_looked_for_at_8_um(self) -> None:
        picture, core = biopsy()
        tissue = tissue_of(memory_slide(np.repeat(np.repeat(picture, 4, 0), 4, 1), 2.0))
        assert tissue.frame == Frame(400, 300, 8.0)
        assert dice(tissue.mask, core) > 0.97


@pytest.mark.parametrize("picture", [biopsy()[0], marked(biopsy()[0], "blue")[0]], ids=["plain", "with pen"])
def test_bands_change_nothing(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, lights = [], []
    for band in (10_000, 512, 37):
        monkeypatch.setattr(tissue_module, "BAND", band)
        masks.append(find_tissue(picture, plane(picture)))
        lights.append(tissue_module.transmittance(picture, (8.0, 8.0)))
    assert all((mask == masks[0]).all() for mask in masks)
    assert all((light == lights[0]).all() for light in lights)
