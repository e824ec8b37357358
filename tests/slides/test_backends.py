"""Every backend under the one contract, on generated slides and on real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.slides.contract import SlideContract
from tests.slides.coordinates import decode_coordinates
from tests.slides.make import coordinates, pyramid, texture, write_ome_tiff, write_ome_zarr, write_tiff
from wsiseg.geometry import Box
from wsiseg.slides.memory import MemoryBackend
from wsiseg.slides.open import open_slide
from wsiseg.slides.openslide import CELL
from wsiseg.slides.slide import Slide

WIDTH, HEIGHT = 1111, 778


class CoordinateContract:
    """Pixels land where they belong: a colour says which pixel of which level it is."""

    downsamples: tuple[int, ...] = (2, 4)
    width, height = WIDTH, HEIGHT

    @pytest.mark.parametrize("place", [(0, 0), (1, 3), (17, 101), (255, 256), (400, 333), (1001, 613)])
    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_every_pixel_is_where_it_belongs(self, located: Slide, n: int, place: tuple[int, int]) -> None:
        if n != 1 and n not in self.downsamples:
            pytest.skip("a format of one level")
        x0, y0 = place[0] // n, place[1] // n
        box = Box(x0, y0, 40, 30).overlap(Box(0, 0, self.width // n, self.height // n))
        x, y = decode_coordinates(located.read(box, located.frame.at(located.frame.mpp * n)))
        assert np.array_equal(x, np.broadcast_to(np.arange(box.x, box.right), box.shape))
        assert np.array_equal(y, np.broadcast_to(np.arange(box.y, box.bottom)[:, None], box.shape))


class TestMemory(SlideContract, CoordinateContract):
    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls) -> Slide:
        return Slide(MemoryBackend(texture(WIDTH, HEIGHT), 0.5, (2, 4)))

    @pytest.fixture(scope="class")
    @classmethod
    def located(cls) -> Slide:
        levels = dict(zip((1, 2, 4), coordinates(WIDTH, HEIGHT, (2, 4)), strict=True))
        return Slide(MemoryBackend(levels[1], 0.5, (2, 4), shrink=levels.__getitem__))


class TestOpenSlideTiff(SlideContract, CoordinateContract):
    # OpenSlide cannot address the pixels of a level whose size ratio is not whole: see TestFractionalLevels.
    width, height = 1112, 776

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
        path = write_tiff(tmp_path_factory.mktemp("s") / "s.tif", pyramid(texture(cls.width, cls.height), (2, 4)))
        with open_slide(path, backend="openslide") as slide:
            assert slide.backend_name == "openslide"
            assert slide.notes == ()
            yield slide

    @pytest.fixture(scope="class")
    @classmethod
    def located(cls, tmp_path_factory: pytest.TempPathFactory) -> Slide:
        folder = tmp_path_factory.mktemp("located")
        return open_slide(write_tiff(folder / "c.tif", coordinates(cls.width, cls.height, (2, 4))), backend="openslide")


class TestFractionalLevels(SlideContract):
    """2221 of 4443 px: OpenSlide interpolates between the level's pixels, but always in the same way."""

    level_error = 2.5

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
        path = write_tiff(tmp_path_factory.mktemp("s") / "s.tif", pyramid(texture(2221, 1783), (2, 4)))
        with open_slide(path, backend="openslide") as slide:
            assert slide.downsamples == ((1.0, 1.0), (2.0, 2.0), (4.0, 4.0))
            yield slide

    def test_seams_between_cells_are_invisible(self, slide: Slide) -> None:
        frame = slide.frame.at(slide.frame.mpp * 2)
        left = slide.read(Box(CELL - 20, CELL - 20, 20, 40), frame)
        right = slide.read(Box(CELL, CELL - 20, 20, 40), frame)
        both = slide.read(Box(CELL - 20, CELL - 20, 40, 40), frame)
        assert np.array_equal(np.hstack([left, right]), both)

    def test_off_by_less_than_a_third_of_a_pixel(self, tmp_path: Path) -> None:
        slide = open_slide(write_tiff(tmp_path / "c.tif", coordinates(2221, 1783, (2,))), backend="openslide")
        frame = slide.frame.at(slide.frame.mpp * 2)
        for x0, y0 in ((0, 0), (300, 610), (780, 300), (1060, 840)):  # none holds a step of the 256-px code
            x, y = decode_coordinates(slide.read(Box(x0, y0, 30, 30), frame))
            assert np.abs(x - np.arange(x0, x0 + 30)).max() <= 1
            assert np.abs(y - np.arange(y0, y0 + 30)[:, None]).max() <= 1


class TestTiffSlideTiff(SlideContract, CoordinateContract):
    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
        path = write_tiff(
            tmp_path_factory.mktemp("s") / "s.tif", pyramid(texture(WIDTH, HEIGHT), (2, 4)), compression="zstd"
        )
        with open_slide(path, backend="tiffslide") as slide:
            yield slide

    @pytest.fixture(scope="class")
    @classmethod
    def located(cls, tmp_path_factory: pytest.TempPathFactory) -> Slide:
        folder = tmp_path_factory.mktemp("located")
        return open_slide(write_tiff(folder / "c.tif", coordinates(WIDTH, HEIGHT, (2, 4))), backend="tiffslide")


class TestOmeTiff(SlideContract, CoordinateContract):
    backend = "tiffslide"

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
        path = write_ome_tiff(tmp_path_factory.mktemp("s") / "s.ome.tif", pyramid(texture(WIDTH, HEIGHT), (2, 4)))
        with open_slide(path, backend=cls.backend) as slide:
            assert (slide.frame.mpp, slide.frame.mpp_y) == (0.5, 0.5)
            assert len(slide.levels) == 3
            yield slide

    @pytest.fixture(scope="class")
    @classmethod
    def located(cls, tmp_path_factory: pytest.TempPathFactory) -> Slide:
        folder = tmp_path_factory.mktemp("located")
        return open_slide(write_ome_tiff(folder / "c.ome.tif", coordinates(WIDTH, HEIGHT, (2, 4))), backend=cls.backend)


class TestOmeTiffThroughTiff(TestOmeTiff):
    backend = "tiff"


class TestOmeZarr05(SlideContract, CoordinateContract):
    version, axes = "0.5", "cyx"

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
        levels = pyramid(texture(WIDTH, HEIGHT), (2, 4))
        path = write_ome_zarr(tmp_path_factory.mktemp("s") / "s.ome.zarr", levels, version=cls.version, axes=cls.axes)
        with open_slide(path) as slide:
            yield slide

    @pytest.fixture(scope="class")
    @classmethod
    def located(cls, tmp_path_factory: pytest.TempPathFactory) -> Slide:
        folder = tmp_path_factory.mktemp("located")
        levels = coordinates(WIDTH, HEIGHT, (2, 4))
        return open_slide(write_ome_zarr(folder / "c.zarr", levels, version=cls.version, axes=cls.axes))


class TestOmeZarr04(TestOmeZarr05):
    version, axes = "0.4", "tczyx"


class TestImagePng(SlideContract, CoordinateContract):
    downsamples = ()

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls, tmp_path_factory: pytest.TempPathFactory) -> Slide:
        path = tmp_path_factory.mktemp("s") / "s.png"
        Image.fromarray(texture(WIDTH, HEIGHT)).save(path)
        return open_slide(path, mpp=0.5)

    @pytest.fixture(scope="class")
    @classmethod
    def located(cls, tmp_path_factory: pytest.TempPathFactory) -> Slide:
        folder = tmp_path_factory.mktemp("located")
        Image.fromarray(coordinates(WIDTH, HEIGHT, ())[0]).save(folder / "c.png")
        return open_slide(folder / "c.png", mpp=0.5)


class TestAnisotropic(SlideContract):
    """0.5 µm along x, 0.25 µm along y: every other frame has square pixels."""

    @pytest.fixture(scope="class")
    @classmethod
    def slide(cls) -> Slide:
        return Slide(MemoryBackend(texture(WIDTH, HEIGHT), (0.5, 0.25), (2,)))

    def test_a_circle_on_the_glass_is_a_circle_in_the_frame(self) -> None:
        y, x = np.mgrid[:800, :400]
        disc = ((x + 0.5) * 0.5 - 100) ** 2 + ((y + 0.5) * 0.25 - 100) ** 2 < 50**2  # µm
        slide = Slide(MemoryBackend(np.repeat(np.where(disc, 0, 255).astype(np.uint8)[..., None], 3, 2), (0.5, 0.25)))
        frame = slide.frame.at(1.0)
        assert (frame.width, frame.height) == (200, 200)
        dark = slide.read(frame.box, frame)[..., 0] < 128
        assert np.flatnonzero(dark.any(0))[[0, -1]].tolist() == [50, 149]
        assert np.flatnonzero(dark.any(1))[[0, -1]].tolist() == [50, 149]


REAL = {
    "aperio": ("slides/CMU-1-Small-Region.svs", None),
    "aperio-jpeg2000": ("slides/tcga-cr-7395-01a-01-ts1.svs", 0.5),
    "dicom-jpeg": ("slides/multiframe_camelyon_challenge_image.dcm", None),
    "dicom-jpeg2000": ("slides/multi_frame_jpeg2000_camelyon_challenge_image.dcm", None),
    "dicom-tiny": ("slides/boxes_0.dcm", None),
    "ndpi": ("slides/test3-DAPI-2-(387).ndpi", None),
    "zstd": ("slides/yb10kx5k.zstd.tiff", 0.5),
    "boxes": ("slides/boxes.tiff", 0.5),
    "kidney": ("kidney/kidney-097.svs", None),
    "flat-tiff": ("nuclei/TCGA-B0-5698-01Z-00-DX1.tif", 0.25),
    "smiley": ("odd/😐.svs", None),
}


class TestReal(SlideContract):
    level_error = 8.0  # scanners sharpen their levels, and JPEG differs between them
    down = 0.85

    @pytest.fixture(scope="class", params=REAL)
    @classmethod
    def slide(cls, data: Path, request: pytest.FixtureRequest) -> Iterator[Slide]:
        name, mpp = REAL[request.param]
        with open_slide(data / name, mpp=mpp) as slide:
            yield slide


class TestRealThroughTiffSlide(SlideContract):
    level_error = 8.0
    down = 0.85

    @pytest.fixture(scope="class", params=["aperio", "aperio-jpeg2000", "boxes", "kidney"])
    @classmethod
    def slide(cls, data: Path, request: pytest.FixtureRequest) -> Iterator[Slide]:
        name, mpp = REAL[request.param]
        with open_slide(data / name, mpp=mpp, backend="tiffslide") as slide:
            yield slide

    def test_pixels_are_those_of_openslide(self, slide: Slide) -> None:
        """JPEG decoders round differently; JPEG 2000 and deflate do not round at all."""
        with open_slide(slide.path, mpp=slide.frame.mpp, backend="openslide") as other:
            assert other.levels == slide.levels
            box = Box(slide.frame.width // 3, slide.frame.height // 3, 150, 150).overlap(slide.frame.box)
            difference = np.abs(slide.read(box, slide.frame).astype(int) - other.read(box, other.frame))
            assert difference.max() <= 3
            assert difference.mean() < 0.1
