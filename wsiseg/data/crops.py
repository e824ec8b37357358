"""Random crops straight from tile stores.

A batch is a pure function of (seed, step): nothing has to be saved to resume, and any number of loading processes, in
any order, give the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsiseg.classes import IGNORE
from wsiseg.geometry import Box
from wsiseg.stores.tiles import TileStore


class CropDataset(Dataset[tuple[Tensor, Tensor]]):
    """Item `step` is a batch: images (n, side, side, 3) uint8 and labels (n, side, side) uint8.

    Crops are larger than what the network sees, so that they can be turned and scaled without empty corners.

    Args:
        stores: where crops come from; unlabelled ones give labels of IGNORE everywhere
        batch: n, crops per item
        side: px, see `side_for`
        seed: everything random follows from it, the step and the place in the batch
        object_share: share of crops centred (with jitter) on a pixel of a class other than background, each class
            alike; the others lie anywhere in the stored tissue
        jitter: px, how far a crop's centre may lie from the chosen pixel
        offset: place of the first crop in the batch of all processes together
    """

    def __init__(
        self, stores: Sequence[TileStore], *, batch: int, side: int, seed: int, object_share: float, jitter: int,
        offset: int = 0,
    ) -> None:  # fmt: skip
        self.stores, self.batch, self.side, self.seed = tuple(stores), batch, side, seed
        self.object_share, self.jitter, self.offset = object_share, jitter, offset

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        crops = [self._crop(np.random.default_rng((self.seed, step, self.offset + i))) for i in range(self.batch)]
        return torch.from_numpy(np.stack([c[0] for c in crops])), torch.from_numpy(np.stack([c[1] for c in crops]))

    @cached_property
    def _tiles(self) -> np.ndarray:
        """(tiles, 2): store and place in it of every tile."""
        return np.array([(s, i) for s, store in enumerate(self.stores) for i in range(len(store))])

    @cached_property
    def _by_class(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Class -> (tiles that hold it, chance of each), for all classes but background that occur."""
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        labelled = [store for store in self.stores if store.labelled]
        if len(labelled) == len(self.stores):
            counts = np.concatenate([store.counts[:, :-1] for store in self.stores])
            for label in range(1, counts.shape[1]):
                here = np.flatnonzero(counts[:, label])
                if here.size:
                    # The root keeps tiles with a sliver of the class from never being seen.
                    weight = np.sqrt(counts[here, label])
                    found[label] = (here, weight / weight.sum())
        return found

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        centred = bool(self._by_class) and rng.random() < self.object_share
        if centred:
            label = int(rng.choice(list(self._by_class)))
            tiles, chance = self._by_class[label]
            s, i = self._tiles[rng.choice(tiles, p=chance)]
            x, y = self._pixel_of(self.stores[s], int(i), label, rng)
            x, y = (int(v + rng.integers(-self.jitter, self.jitter + 1)) for v in (x, y))
        else:
            s, i = self._tiles[rng.integers(len(self._tiles))]
            keep = self.stores[s].tile(int(i)).keep
            x, y = keep.x + int(rng.integers(keep.w)), keep.y + int(rng.integers(keep.h))
        store = self.stores[s]
        box = Box(x - self.side // 2, y - self.side // 2, self.side, self.side)
        labels = store.read_labels(box) if store.labelled else np.full(box.shape, IGNORE, np.uint8)
        return store.read(box), labels

    @staticmethod
    def _pixel_of(store: TileStore, i: int, label: int, rng: np.random.Generator) -> tuple[int, int]:
        tile = store.tile(i)
        labels = store.label(i)[tile.keep.relative_to(tile.read).slices]
        row, col = divmod(int(rng.choice(np.flatnonzero(labels == label))), tile.keep.w)
        return tile.keep.x + col, tile.keep.y + row


def side_for(crop: int, scale: float, rotate: bool) -> int:
    """px to read so that a crop of `crop` px, shrunk by `scale` and turned, has no empty corner."""
    return math.ceil(crop * scale * (math.sqrt(2) if rotate else 1.0))


def batches(dataset: Dataset[Any], start: int, stop: int, loaders: int) -> DataLoader[Any]:
    """Items start, …, stop - 1 of a dataset in order, read ahead by `loaders` processes."""
    return DataLoader(
        dataset, batch_size=None, sampler=range(start, stop), num_workers=loaders,
        multiprocessing_context="spawn" if loaders else None,  # Zarr's own threads do not survive a fork
        prefetch_factor=4 if loaders else None,
    )  # fmt: skip
