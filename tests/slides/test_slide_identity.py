"""Which slide it is."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.slides.make import pyramid, texture, write_ome_zarr, write_tiff
from wsiseg.errors import SlideError
from wsiseg.slides.backend import identity_of


def test_identity_of_a_large_file_is_quick(tmp_path: Path) -> None:
    path = tmp_path / "large.svs"
    with path.open("wb") as file:
        file.truncate(40 * 2**30)  # sparse
    begin = time.perf_counter()
    first = identity_of(path)
    assert time.perf_counter() - begin < 2
    assert first["size"] == 40 * 2**30
    with path.open("r+b") as file:
        file.truncate(40 * 2**30 - 1)
    assert identity_of(path)["hash"] != first["hash"]


def test_identity_follows_the_content(tmp_path: Path) -> None:
    a, b, c = tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif"
    write_tiff(a, pyramid(texture(700, 500), (2,)))
    shutil.copyfile(a, b)
    write_tiff(c, pyramid(texture(700, 501), (2,)))
    assert identity_of(a)["hash"] == identity_of(b)["hash"] != identity_of(c)["hash"]
    z = write_ome_zarr(tmp_path / "z.zarr", pyramid(texture(300, 200), (2,)))
    before = identity_of(z)
    chunk = next(p for p in z.rglob("*") if p.is_file() and p.suffix != ".json")
    chunk.write_bytes(chunk.read_bytes() + b"x")
    assert identity_of(z)["hash"] != before["hash"]
    with pytest.raises(SlideError, match="cannot be read"):
        identity_of(tmp_path / "nothing")
