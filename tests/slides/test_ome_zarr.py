"""OME-Zarr: versions, axes, units, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.slides.make import pyramid, texture, write_ome_zarr
from wsiseg.errors import ResolutionError, SlideError
from wsiseg.slides.open import open_slide


class TestOmeZarr:
    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    @pytest.mark.parametrize("axes", ["yx", "cyx", "czyx", "tczyx"])
    def test_axes(self, tmp_path: Path, version: str, axes: str) -> None:
        levels = pyramid(texture(301, 203), (2,))
        levels = levels if "c" in axes else [level[..., 0] for level in levels]
        path = write_ome_zarr(tmp_path / "a.zarr", levels, (0.25, 0.5), version, axes)
        with open_slide(path) as slide:
            assert (slide.frame.mpp, slide.frame.mpp_y) == (0.25, 0.5)
            assert slide.levels == ((301, 203), (150, 101))
            expected = levels[0] if "c" in axes else np.repeat(levels[0][..., None], 3, 2)
            assert np.array_equal(slide.read(slide.frame.box, slide.frame), expected)

    @pytest.mark.parametrize(
        ("unit", "size", "mpp"), [("nanometer", 250, 0.25), ("millimeter", 0.004, 4.0), ("micrometer", 0.5, 0.5)]
    )
    def test_units(self, tmp_path: Path, unit: str, size: float, mpp: float) -> None:
        path = write_ome_zarr(tmp_path / "a.zarr", [texture(30, 20)], unit=unit, mpp=(size, size))
        assert open_slide(path).frame.mpp == pytest.approx(mpp)

    @pytest.mark.parametrize("unit", [None, "parsec"])
    def test_without_unit(self, tmp_path: Path, unit: str | None) -> None:
        path = write_ome_zarr(tmp_path / "a.zarr", [texture(30, 20)], unit=unit)
        with pytest.raises(ResolutionError, match="unit"):
            open_slide(path)
        assert open_slide(path, mpp=2).frame.mpp == 2

    def test_wrapped(self, tmp_path: Path) -> None:
        root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        root.attrs["bioformats2raw.layout"] = 3
        write_ome_zarr(tmp_path / "a.zarr" / "0", [texture(30, 20)], version="0.4")
        assert open_slide(tmp_path / "a.zarr").levels == ((30, 20),)

    def test_other_zarr(self, tmp_path: Path) -> None:
        zarr.open_group(tmp_path / "g.zarr", mode="w")
        with pytest.raises(SlideError, match="multiscales"):
            open_slide(tmp_path / "g.zarr", mpp=1)
        (tmp_path / "empty.zarr").mkdir()
        with pytest.raises(SlideError, match="OME-Zarr"):
            open_slide(tmp_path / "empty.zarr", mpp=1)
        write_ome_zarr(tmp_path / "five.zarr", [np.zeros((20, 20, 5), np.uint8)])
        with pytest.raises(SlideError, match="5 channels"):
            open_slide(tmp_path / "five.zarr", mpp=1)

    def test_the_largest_of_several_images(self, tmp_path: Path) -> None:
        root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        root.attrs["bioformats2raw.layout"] = 3
        for i, size in enumerate(((30, 20), (90, 70), (40, 60))):
            write_ome_zarr(tmp_path / "a.zarr" / str(i), [texture(*size)], version="0.4")
        with open_slide(tmp_path / "a.zarr") as slide:
            assert (slide.levels, slide.series) == (((90, 70),), 1)
            assert "the largest, 1, is read" in slide.cautions[0]
        with open_slide(tmp_path / "a.zarr", series=2) as slide:
            assert (slide.levels, slide.cautions) == (((40, 60),), ())
        with pytest.raises(SlideError, match="no image 3"):
            open_slide(tmp_path / "a.zarr", series=3)

    def test_a_stack_is_refused(self, tmp_path: Path) -> None:
        path = write_ome_zarr(tmp_path / "a.zarr", [texture(30, 20)])
        for axes, said in (("zyx", "3 z planes"), ("tyx", "3 time points")):
            group = zarr.open_group(path)
            about = group.attrs["ome"]
            for axis, name in zip(about["multiscales"][0]["axes"], axes, strict=True):
                axis["name"] = name
            group.attrs["ome"] = about
            with pytest.raises(SlideError, match=said):
                open_slide(path, mpp=1)
