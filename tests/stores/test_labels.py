"""LabelMap: rows in, boxes out, and an OME-Zarr that others read."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from wsiseg.classes import ClassMap
from wsiseg.errors import StoreError
from wsiseg.geometry import Box, Frame
from wsiseg.grid import Grid
from wsiseg.stores import labels as module
from wsiseg.stores.labels import LabelMap, LabelWriter
from wsiseg.stores.objects import RowReader
from wsiseg.stores.reservation import reserve

GRID = Grid(Frame(1200, 900, 2.0), 256, 64)
LEVEL0 = Frame(2400, 1800, 1.0)


def manifest() -> dict:
    return {
        "kind": "labels",
        "format": module.FORMAT,
        "grid": GRID.to_json(),
        "level0": LEVEL0.to_json(),
        "classes": ClassMap(("Background", "A", "B")).to_json(),
    }


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    blocks = (rng.random((9, 12)) * 4).astype(np.uint8) % 3
    return np.kron(blocks, np.ones((100, 100), np.uint8))


def write(path: Path, picture: np.ndarray, stop_before: int = 99) -> None:
    with reserve(path, manifest()) as folder:
        assert folder is not None
        writer = LabelWriter(folder, GRID, ClassMap(("Background", "A", "B")), manifest())
        for row in range(writer.rows_done, GRID.shape[0]):
            if row == stop_before:
                raise KeyboardInterrupt
            part = picture[GRID.row_box(row).slices]
            writer.write_row(row, part, part * 100)
        writer.finish()


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_any_box_comes_back(tmp_path: Path, picture: np.ndarray) -> None:
    write(tmp_path / "l.zarr", picture)
    found = LabelMap(tmp_path / "l.zarr")
    assert (found.frame, found.level0) == (GRID.frame, LEVEL0)
    assert (found.read(found.frame.box) == picture).all()
    assert (np.concatenate(list(found.bands())) == picture).all()
    assert (found.read_score(Box(5, 6, 50, 60)) == 100 * picture[6:66, 5:55]).all()
    beyond = found.read(Box(-10, 890, 30, 30))
    assert (beyond[:10, 10:] == picture[890:, :20]).all()
    assert not beyond[10:].any()
    assert not beyond[:, :10].any()


def test_rows_that_are_kept_give_the_same_boxes() -> None:
    rng = np.random.default_rng(0)
    grid = Grid(Frame(101, 230, 1.0), 16, 4)
    whole = rng.integers(0, 255, (230, 101)).astype(np.uint8)
    asked: list[int] = []

    def read(row: int) -> np.ndarray:
        asked.append(row)
        return whole[grid.row_box(row).slices]

    rows = RowReader(read, grid)
    for y in np.sort(rng.integers(-9, 240, 200)):
        box = Box(int(rng.integers(-9, 110)), int(y), int(rng.integers(1, 60)), int(rng.integers(1, 30)))
        inside, expected = box.overlap(grid.frame.box), np.zeros(box.shape, np.uint8)
        if inside:
            expected[inside.relative_to(box).slices] = whole[inside.slices]
        assert (rows.read(box) == expected).all()
    assert len(asked) == grid.shape[0], "from top to bottom each row is read once"
    assert (rows.read(grid.frame.box) == whole).all(), "also what spans more rows than are kept"


def test_an_interrupted_map_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, picture: np.ndarray) -> None:
    write(tmp_path / "whole.zarr", picture)
    for stop in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "l.zarr", picture, stop)
    write(tmp_path / "l.zarr", picture)
    assert files(tmp_path / "l.zarr") == files(tmp_path / "whole.zarr")


@pytest.mark.parametrize("shard_px", [1, 2 * 192 * 192, module.SHARD_PIXELS])
def test_rows_are_what_zarr_reads_and_writes(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, shard_px: int
) -> None:
    """Rows of chunks go past Zarr in both directions, in one shard and in several."""
    monkeypatch.setattr(module, "SHARD_PIXELS", shard_px)
    picture[:, :500] = 0  # some shards are empty
    write(tmp_path / "l.zarr", picture)
    arrays = zarr.open_group(tmp_path / "l.zarr", mode="r+")
    assert (arrays["0"][:] == picture).all()
    assert (arrays["1"][:] == picture[::2, ::2]).all()
    other = picture[::-1, ::-1]
    arrays["0"][:], arrays["score"][:] = other, 50 * other
    found = LabelMap(tmp_path / "l.zarr")
    assert (np.concatenate(list(found.bands())) == other).all()
    assert (np.concatenate([found.score_row(row) for row in range(GRID.shape[0])]) == 50 * other).all()


@pytest.mark.parametrize("change", ["short", "index", "chunk"])
def test_a_damaged_file_is_named(tmp_path: Path, picture: np.ndarray, change: str) -> None:
    write(tmp_path / "l.zarr", picture)
    file = tmp_path / "l.zarr" / "0" / "c" / "1" / "0"
    data = file.read_bytes()
    spoilt = {"short": data[:100], "index": data[:-9] + b"?" + data[-8:], "chunk": b"????" + data[4:]}
    file.write_bytes(spoilt[change])
    with pytest.raises(StoreError, match="0/c/1/0 is damaged"):
        LabelMap(tmp_path / "l.zarr").row(1)


def test_background_takes_no_room(tmp_path: Path, picture: np.ndarray) -> None:
    write(tmp_path / "l.zarr", np.zeros_like(picture))
    assert not [name for name in files(tmp_path / "l.zarr") if "/c/" in name]


def test_the_pyramid_is_ome_zarr(tmp_path: Path, picture: np.ndarray) -> None:
    write(tmp_path / "l.zarr", picture)
    group = zarr.open_group(tmp_path / "l.zarr", mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    assert [c["label-value"] for c in ome["image-label"]["colors"]] == [0, 1, 2]
    (scales,) = ome["multiscales"]
    assert [a["name"] for a in scales["axes"]] == ["y", "x"]
    for i, dataset in enumerate(scales["datasets"]):
        level = group[dataset["path"]]
        assert dataset["coordinateTransformations"][0]["scale"] == [2.0 * 2**i] * 2
        assert (level[:] == picture[:: 2**i, :: 2**i]).all()
        assert list(level.metadata.dimension_names) == ["y", "x"]
    assert max(level.shape) <= 512


def test_what_is_no_label_map_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no label map"):
        LabelMap(tmp_path / "nothing.zarr")
