"""Small tile stores with something to learn: dark discs are A, dark squares are B."""

from pathlib import Path

import numpy as np
import pytest

from wsiseg.classes import ClassMap
from wsiseg.geometry import Frame
from wsiseg.grid import Grid
from wsiseg.stores.reservation import reserve
from wsiseg.stores.tiles import FORMAT, TileStore, TileWriter


def write_store(path: Path, seed: int, *, labelled: bool = True) -> TileStore:
    rng = np.random.default_rng(seed)
    image = rng.normal((215, 170, 200), 6, (256, 384, 3))
    labels = np.zeros((256, 384), np.uint8)
    y, x = np.mgrid[:256, :384]
    for k in range(12):
        cy, cx, r = rng.integers(20, 236), rng.integers(20, 364), rng.integers(8, 18)
        if k % 2:
            labels[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = 1
        else:
            labels[(abs(y - cy) < r) & (abs(x - cx) < r)] = 2
    image[labels == 1] -= (90, 100, 40)
    image[labels == 2] -= (20, 110, 110)
    image = image.clip(0, 255).astype(np.uint8)
    grid = Grid(Frame(384, 256, 2.0), 128)
    classes = ClassMap(("Background", "A", "B")).to_json() if labelled else None
    manifest = {"kind": "tiles", "format": FORMAT, "grid": grid.to_json(), "classes": classes}
    with reserve(path, manifest) as folder:
        assert folder is not None
        writer = TileWriter(folder, manifest, list(grid))
        for shard in writer.shards():
            boxes = [writer.tiles[i].read.slices for i in shard]
            found = np.stack([labels[b] for b in boxes]) if labelled else None
            writer.write(shard, np.stack([image[b] for b in boxes]), found)
        writer.finish()
    return TileStore(path)


@pytest.fixture(scope="session")
def labelled_stores(tmp_path_factory: pytest.TempPathFactory) -> list[TileStore]:
    folder = tmp_path_factory.mktemp("stores")
    return [write_store(folder / f"{seed}.zarr", seed) for seed in range(2)]


@pytest.fixture(scope="session")
def unlabelled_stores(tmp_path_factory: pytest.TempPathFactory) -> list[TileStore]:
    folder = tmp_path_factory.mktemp("bare")
    return [write_store(folder / f"{seed}.zarr", seed, labelled=False) for seed in (7, 8)]
