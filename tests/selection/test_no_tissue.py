"""A picture without anything that looks like tissue: no command passes over that in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.slides.make import texture, write_tiff
from wsiseg.cli import wsiseg
from wsiseg.errors import TissueError


def test_a_crop_that_is_one_pale_colour(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "crop.tif", [np.full((600, 700, 3), (205, 215, 220), np.uint8)], mpp=1.0)
    done = CliRunner().invoke(wsiseg, ["tissue", str(slide), "--out", str(tmp_path / "t.png")])
    assert done.exit_code == 0
    assert "0.0% of the slide" in done.stdout
    assert "crop.tif: no tissue was found." in done.stderr
    assert "--no-tissue" in done.stderr
    for command, out in (("tile", "s.zarr"), ("predict", "o.geojson")):
        words = [command, str(slide), "--out", str(tmp_path / out), "-q"]
        with pytest.raises(TissueError, match="No tissue was found"):
            CliRunner().invoke(wsiseg, words, catch_exceptions=False, standalone_mode=False)
        assert not (tmp_path / out).exists()


def test_a_slide_with_tissue_is_not_talked_about(tmp_path: Path) -> None:
    picture = np.full((600, 700, 3), 244, np.uint8)
    picture[100:400, 100:500] = texture(400, 300) // 2 + np.array([110, 40, 90], np.uint8)
    slide = write_tiff(tmp_path / "slide.tif", [picture], mpp=1.0)
    done = CliRunner().invoke(wsiseg, ["tissue", str(slide), "--out", str(tmp_path / "t.png")])
    assert done.exit_code == 0
    assert not done.stderr
