"""TileStore: what was read is what is there, killed or not."""

from pathlib import Path

import numpy as np
import pytest

from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import MismatchError, StoreError
from wsiseg.geometry import Box, Frame
from wsiseg.grid import Grid
from wsiseg.stores import tiles as module
from wsiseg.stores.reservation import reserve
from wsiseg.stores.tiles import TileStore, TileWriter

CLASSES = ClassMap(("Background", "A", "B"))
GRID = Grid(Frame(100, 70, 2.0), 32, 8)
CHOSEN = [t for t in GRID if (t.row + 2 * t.col) % 3]


def pixels(box: Box) -> np.ndarray:
    x, y = np.meshgrid(np.arange(box.x, box.right), np.arange(box.y, box.bottom))
    return np.stack([x % 251, y % 251, (x + y) % 251], -1).astype(np.uint8)


def labels(box: Box) -> np.ndarray:
    y = np.arange(box.y, box.bottom)[:, None] + np.zeros((1, box.w), int)
    return np.where(y % 7 == 0, IGNORE, y % 3).astype(np.uint8)


def manifest(classes: ClassMap | None = CLASSES) -> dict:
    listed = classes.to_json() if classes else None
    return {"kind": "tiles", "format": module.FORMAT, "grid": GRID.to_json(), "classes": listed}


def write(
    path: Path, *, classes: ClassMap | None = CLASSES, stop_after: int | None = None, seen: list | None = None
) -> None:
    with reserve(path, manifest(classes)) as folder:
        assert folder is not None
        writer = TileWriter(folder, manifest(classes), CHOSEN)
        for n, shard in enumerate(writer.shards()):
            if n == stop_after:
                raise KeyboardInterrupt
            if writer.done(shard):
                continue
            if seen is not None:
                seen.append(shard)
            boxes = [CHOSEN[i].read for i in shard]
            found = np.stack([labels(b) for b in boxes]) if classes else None
            writer.write(shard, np.stack([pixels(b) for b in boxes]), found)
        writer.finish()


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 3 * 32 * 32 * 3)


def test_tiles_come_back(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr")
    store = TileStore(tmp_path / "s.zarr")
    assert len(store) == len(CHOSEN)
    for i, tile in enumerate(CHOSEN):
        assert store.tile(i) == tile
        assert (store.image(i) == pixels(tile.read)).all()
        assert (store.label(i) == labels(tile.read)).all()
        inside = labels(tile.keep)
        want = [(inside == v).sum() for v in (0, 1, 2, IGNORE)]
        assert store.counts[i].tolist() == want


def test_any_box_is_put_together_from_keep_boxes(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr")
    store = TileStore(tmp_path / "s.zarr")
    box = Box(-10, 5, 100, 60)
    stored = np.zeros((80, 200), bool)
    for tile in CHOSEN:
        stored[tile.keep.shift(50, 0).slices] = True
    stored = stored[5:65, 40:140]
    assert (store.read(box) == np.where(stored[..., None], pixels(box), 255)).all()
    assert (store.read_labels(box) == np.where(stored, labels(box), IGNORE)).all()


def test_an_interrupted_store_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "whole.zarr")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s.zarr", stop_after=2)
    assert not (tmp_path / "s.zarr").exists()
    seen: list = []
    write(tmp_path / "s.zarr", seen=seen)
    assert seen[0].start == 2 * 3
    assert files(tmp_path / "s.zarr") == files(tmp_path / "whole.zarr")


def test_a_store_without_outlines_says_how_to_get_labels(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", classes=None)
    store = TileStore(tmp_path / "s.zarr")
    assert not store.labelled
    with pytest.raises(StoreError, match="--annotations"):
        store.label(0)


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr")
    with pytest.raises(MismatchError, match="classes"), reserve(tmp_path / "s.zarr", manifest(None)):
        pass


def test_what_is_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no tile store"):
        TileStore(tmp_path / "nothing.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="not made by wsiseg"):
        TileStore(tmp_path / "folder")


def test_the_cache_keeps_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "s.zarr")
    tile = 32 * 32 * 3
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * tile)
    cache = module._Cache()
    monkeypatch.setattr(module, "_DECODED", cache)
    store = TileStore(tmp_path / "s.zarr")
    first = store.image(0)
    assert store.image(0) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    for i in range(1, 5):
        assert (store.image(i) == pixels(CHOSEN[i].read)).all()
    assert cache._bytes == sum(a.nbytes for a in cache._arrays.values()) == 2 * tile
    assert store.image(0) is not first
