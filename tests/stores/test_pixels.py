"""The four ways of keeping the pixels of a tile: all are read alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from simplejpeg import decode_jpeg

from wsiseg.classes import ClassMap
from wsiseg.errors import StoreError
from wsiseg.geometry import Box
from wsiseg.grid import Grid
from wsiseg.selection.tiling import tile_slide
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide
from wsiseg.stores.tiles import PIXELS, TileStore
from wsiseg.synthetic import SlideSpec, generate, write_slide

MADE = generate(SlideSpec(7, 1900, 1400, "pas", 1.0, ()))  # sides that are no multiple of a tile
CLASSES = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus"))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.svs"
    write_slide(MADE, path)
    return path


def tiled(path: Path, out: Path, pixels: str, size: int = 512, mpp: float = 1.0) -> TileStore:
    with open_slide(path) as slide:
        grid = Grid(slide.frame.at(mpp), size, 0)
        tiles = list(grid)
        return tile_slide(
            slide, grid, tiles, out, classes=CLASSES, regions=MADE.truth, pixels=pixels, workers=2,
        )  # fmt: skip


@pytest.mark.parametrize("mpp", [1.0, 4.0])
@pytest.mark.parametrize("pixels", PIXELS)
def test_all_ways_are_read_alike(slide: Path, tmp_path: Path, pixels: str, mpp: float) -> None:
    store = tiled(slide, tmp_path / "store.zarr", pixels, mpp=mpp)
    box = store.grid.frame.box.grow(70)
    with open_slide(slide) as opened:
        wanted = opened.read(box, store.grid.frame)
    read = store.read(box)
    if pixels == "jpeg":
        assert np.abs(read.astype(int) - wanted).mean() < 3
    else:
        assert (read == wanted).all()
    assert (store.counts.sum(0) > 0)[:2].all()
    assert (store.read_labels(store.grid.frame.box) == 1).any()
    again = TileStore(store.path)
    assert (again.read(box) == read).all()


def test_what_each_way_takes(slide: Path, tmp_path: Path) -> None:
    sizes = {}
    for pixels in PIXELS:
        store = tiled(slide, tmp_path / f"{pixels}.zarr", pixels)
        sizes[pixels] = sum(p.stat().st_size for p in (store.path / "image").rglob("*") if p.is_file())
    assert sizes["reference"] == 0
    assert sizes["slide"] < slide.stat().st_size
    assert max(sizes["slide"], sizes["jpeg"]) < 0.4 * sizes["zstd"]


def test_a_chunk_is_a_jpeg_file_that_any_decoder_reads(slide: Path, tmp_path: Path) -> None:
    store = tiled(slide, tmp_path / "store.zarr", "slide")
    file = next(p for p in (store.path / "image" / "c").rglob("0") if p.is_file())
    data = file.read_bytes()
    places = int(np.prod(zarr.open_group(store.path, mode="r")["image"].shards[:1]))  # type: ignore[union-attr]
    index = np.frombuffer(data[-16 * places - 4 : -4], "<u8").reshape(-1, 2)
    offset, length = (int(v) for v in index[1])
    assert (decode_jpeg(data[offset : offset + length]) == np.asarray(store._array("image")[1])).all()


@pytest.mark.parametrize(("size", "mpp"), [(256, 1.0), (512, 2.0), (512, 1.5)])
def test_the_slides_own_jpeg_takes_the_slides_own_grid(slide: Path, tmp_path: Path, size: int, mpp: float) -> None:
    with pytest.raises(StoreError, match="--size and the µm/px of one of its levels as --tile-mpp \\(1, 4, 16\\)"):
        tiled(slide, tmp_path / "store.zarr", "slide", size, mpp)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("pixels", "reader"), [("jpeg", "read"), ("slide", "jpeg")])
def test_a_stopped_store_goes_on_to_the_same_bytes(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: str, reader: str
) -> None:
    monkeypatch.setattr("wsiseg.stores.tiles.SHARD_BYTES", 3 * 512 * 512 * 3)
    whole = tiled(slide, tmp_path / "whole.zarr", pixels)
    real, calls = getattr(Slide, reader), []

    def stop(self: Slide, box: Box, frame: object) -> object:
        calls.append(box)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(self, box, frame)

    with monkeypatch.context() as patch:
        patch.setattr(Slide, reader, stop)
        with pytest.raises(KeyboardInterrupt):
            tiled(slide, tmp_path / "store.zarr", pixels)
    store = tiled(slide, tmp_path / "store.zarr", pixels)
    for file in sorted(p for p in whole.path.rglob("*") if p.is_file()):
        assert (store.path / file.relative_to(whole.path)).read_bytes() == file.read_bytes(), file


def test_a_reference_follows_its_slide_and_takes_no_other(slide: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    shutil.copy(slide, folder / "slide.svs")
    store = tiled(folder / "slide.svs", folder / "store.zarr", "reference")
    seen = store.image(3)
    folder.rename(tmp_path / "b")  # both moved together
    moved = TileStore(tmp_path / "b" / "store.zarr")
    assert (moved.image(3) == seen).all()
    (tmp_path / "b" / "slide.svs").rename(tmp_path / "b" / "other.svs")
    with pytest.raises(StoreError, match="put the slide back"):
        TileStore(tmp_path / "b" / "store.zarr").image(3)
    write_slide(generate(SlideSpec(8, 1900, 1400, "pas", 1.0, ())), tmp_path / "b" / "slide.svs")
    with pytest.raises(StoreError, match="not the slide"):
        TileStore(tmp_path / "b" / "store.zarr").image(3)
    note = tmp_path / "b" / "store.zarr" / "slide.json"
    note.write_text(json.dumps({"absolute": "x"}))
    with pytest.raises(StoreError, match="damaged"):
        TileStore(tmp_path / "b" / "store.zarr").image(3)
