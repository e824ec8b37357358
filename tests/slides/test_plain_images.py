"""PNG, JPEG and flat TIFF: channels, bits, resolution, limits."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.slides.make import texture
from wsiseg.errors import ResolutionError, SlideError
from wsiseg.slides.open import open_slide


class TestImages:
    def test_transparent_is_white(self, tmp_path: Path) -> None:
        pixels = np.zeros((20, 30, 4), np.uint8)
        pixels[:, 10:20, 3] = 128
        pixels[:, 20:, 3] = 255
        Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
        with open_slide(tmp_path / "a.png", mpp=1) as slide:
            row = slide.read(slide.frame.box, slide.frame)[0, :, 0]
        assert row[[0, 15, 25]].tolist() == [255, 127, 0]

    @pytest.mark.parametrize(("top", "bits"), [(255, 8), (4095, 12), (40000, 16)])
    def test_sixteen_bits(self, tmp_path: Path, top: int, bits: int) -> None:
        ramp = np.linspace(0, top, 64 * 64).astype(np.uint16).reshape(64, 64)
        Image.fromarray(ramp).save(tmp_path / "a.png")
        tifffile.imwrite(tmp_path / "a.tif", ramp)
        tifffile.imwrite(tmp_path / "t.tif", ramp, tile=(16, 16))
        for name in ("a.png", "a.tif", "t.tif"):
            with open_slide(tmp_path / name, mpp=1) as slide:
                grey = slide.read(slide.frame.box, slide.frame)[..., 1].astype(float)
            assert np.abs(grey - ramp.astype(float) * 255 / (2**bits - 1)).max() <= 0.5 + 1e-9

    def test_white_is_zero(self, tmp_path: Path) -> None:
        ramp = np.arange(256, dtype=np.uint8).repeat(16).reshape(64, 64)
        tifffile.imwrite(tmp_path / "a.tif", ramp, photometric="miniswhite")
        tifffile.imwrite(tmp_path / "t.tif", ramp, photometric="miniswhite", tile=(16, 16))
        for name, backend in (("a.tif", "image"), ("t.tif", "tiffslide")):
            with open_slide(tmp_path / name, mpp=1, backend=backend) as slide:
                assert np.array_equal(slide.read(slide.frame.box, slide.frame)[..., 0], 255 - ramp)

    @pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
    def test_unknown_ranges_are_refused(self, tmp_path: Path, dtype: type) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((30, 30), dtype))
        with pytest.raises(SlideError, match=np.dtype(dtype).name):
            open_slide(tmp_path / "a.tif", mpp=1)

    def test_a_stack_is_refused(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 30, 30), np.uint8), photometric="minisblack")
        with pytest.raises(SlideError, match="stack of 5"):
            open_slide(tmp_path / "a.tif", mpp=1)

    def test_a_huge_flat_image_is_refused_undecoded(self, tmp_path: Path) -> None:
        Image.new("1", (20_000, 20_000)).save(tmp_path / "a.png")
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((20_000, 20_000), np.uint8), compression="zlib", rowsperstrip=500)
        for name in ("a.png", "a.tif"):
            begin = time.perf_counter()
            with pytest.raises(SlideError, match="pyramid"):
                open_slide(tmp_path / name, mpp=1, backend="image")
            assert time.perf_counter() - begin < 2

    def test_resolution(self, tmp_path: Path) -> None:
        pixels = texture(40, 30)
        for dpi, expected in ((50_800, 0.5), (300, None), (72, None)):
            Image.fromarray(pixels).save(tmp_path / "a.png", dpi=(dpi, dpi))
            Image.fromarray(pixels).save(tmp_path / "a.jpg", dpi=(dpi, dpi))
            tifffile.imwrite(tmp_path / "a.tif", pixels, resolution=(dpi, dpi), resolutionunit="INCH")
            for name in ("a.png", "a.jpg", "a.tif"):
                if expected is None:
                    with pytest.raises(ResolutionError, match=f"{dpi} dpi"):
                        open_slide(tmp_path / name)
                else:
                    assert open_slide(tmp_path / name).frame.mpp == pytest.approx(expected, rel=1e-3)

    def test_imagej_resolution(self, tmp_path: Path) -> None:
        about = {"unit": "micron"}
        tifffile.imwrite(tmp_path / "a.tif", texture(40, 30), imagej=True, resolution=(4, 2), metadata=about)
        frame = open_slide(tmp_path / "a.tif").frame
        assert (frame.mpp, frame.mpp_y) == (0.25, 0.5)

    def test_exif_orientation_is_left_alone(self, tmp_path: Path) -> None:
        image = Image.fromarray(texture(40, 30))
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "a.jpg", exif=exif)
        assert open_slide(tmp_path / "a.jpg", mpp=1).levels == ((40, 30),)
