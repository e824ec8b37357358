"""Random crops from tile stores.

A batch is a pure function of the seed, the step and what the method has decided about the pool it comes from (which is
kept in the checkpoint): nothing else has to be saved to resume, and any number of loading processes, in any order,
give the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsiseg.classes import IGNORE
from wsiseg.geometry import Box
from wsiseg.stores.tiles import TileStore

Stream = Literal["labelled", "unlabelled", "held_out"]
STREAMS: tuple[Stream, ...] = ("labelled", "unlabelled", "held_out")
TENSORS = ("images", "labels", "covered", "slide", "position")  # of a Batch
CELLS = 4  # a tile is weighted in CELLS × CELLS parts


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops as they lie in the stores, not yet augmented.

    Attributes:
        images: (n, side, side, 3) uint8
        labels: (n, side, side) uint8, IGNORE for "no statement"
        covered: (n, side, side) bool, where a stored tile lies; elsewhere images are white, which says nothing
        slide: (n,) int64, which store of the pool each crop comes from
        position: (n, 2) int64, x and y of each crop's centre in px of that store
        tags: of each crop's slide, as the slide list has them
    """

    images: Tensor
    labels: Tensor
    covered: Tensor
    slide: Tensor
    position: Tensor
    tags: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device, **options: Any) -> Batch:
        """The same crops on another device; Fabric's loaders call it."""
        return replace(self, **{name: getattr(self, name).to(device, **options) for name in TENSORS})

    def part(self, crops: slice) -> Batch:
        """Some of the crops."""
        return Batch(**{name: getattr(self, name)[crops] for name in TENSORS}, tags=self.tags[crops])


@dataclass(frozen=True, slots=True)
class Drawing:
    """How crops are drawn.

    Attributes:
        batch: crops of one step
        side: px, see `side_for`
        seed: everything random follows from it, the stream, the step and the place in the batch
        object_fraction: fraction of the labelled crops centred (with jitter) on a pixel of a class other than background;
            the others lie anywhere in the stored tissue
        class_weights: "sqrt" draws the class of such a pixel by the square root of its area, "equal" draws each alike;
            numbers are the weights of all classes but background
        jitter: px, how far a crop's centre may lie from the chosen pixel
        offset: place of the first crop in the batch of all processes together
    """

    batch: int
    side: int
    seed: int
    object_fraction: float = 0.7
    class_weights: Literal["sqrt", "equal"] | tuple[float, ...] = "sqrt"
    jitter: int = 0
    offset: int = 0


class CropDataset(Dataset[Batch]):
    """Item `step` is a batch.

    Crops are larger than what the network sees, so that they can be turned and scaled without empty corners.

    Args:
        stream: which of the streams, for the random numbers; unlabelled crops have labels of IGNORE everywhere
        stores: where crops come from
        drawing: how many, how large, and how they are drawn
        tags: of each store's slide
        tiles: (tiles,) bool, in the order of the stores: crops are centred in these alone, and state nothing about the
            labels of the others; None: all
        weights: (tiles, CELLS, CELLS) chance, in any unit, that a crop is centred in that part of a tile; None: anywhere
    """

    def __init__(
        self, stream: Stream, stores: Sequence[TileStore], drawing: Drawing, *, tags: Sequence[tuple[str, ...]] = (),
        tiles: Tensor | None = None, weights: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.stream, self.stores, self.drawing = stream, tuple(stores), drawing
        self.tags = tuple(tags) or ((),) * len(self.stores)
        self.tiles, self.weights = tiles, weights

    def __getitem__(self, step: int) -> Batch:
        d = self.drawing
        stream = STREAMS.index(self.stream)
        crops = [self._crop(np.random.default_rng((d.seed, stream, step, d.offset + i))) for i in range(d.batch)]
        *pixels, places = zip(*crops, strict=True)
        images, labels, covered = (torch.from_numpy(np.stack(part)) for part in pixels)
        where = torch.tensor(places)
        return Batch(images, labels, covered, where[:, 0], where[:, 1:], tuple(self.tags[s] for s, _, _ in places))

    @cached_property
    def places(self) -> np.ndarray:
        """(tiles, 2): store and place in it of every tile."""
        return np.array([(s, i) for s, store in enumerate(self.stores) for i in range(len(store))])

    @cached_property
    def _allowed(self) -> np.ndarray:
        """Numbers of the tiles in which crops may be centred."""
        return np.arange(len(self.places)) if self.tiles is None else np.flatnonzero(self.tiles.numpy())

    @cached_property
    def _left_out(self) -> list[set[tuple[int, int]]]:
        """Of each store, row and column of the tiles whose labels are not stated."""
        found: list[set[tuple[int, int]]] = [set() for _ in self.stores]
        if self.tiles is not None:
            for number in np.flatnonzero(~self.tiles.numpy()):
                s, i = self.places[number]
                tile = self.stores[s].tile(int(i))
                found[s].add((tile.row, tile.col))
        return found

    @cached_property
    def counts(self) -> np.ndarray:
        """(tiles, classes) int64, pixels of each class; only for labelled stores."""
        return np.concatenate([store.counts[:, :-1] for store in self.stores])

    @cached_property
    def _by_class(self) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Chance of each class but background that occurs, and of each the tiles that hold it with their chances."""
        if self.stream == "unlabelled" or not all(store.labelled for store in self.stores):
            return np.zeros(0), []
        counts = self.counts[self._allowed]
        weights, tiles = [], []
        for label in range(1, counts.shape[1]):
            here = np.flatnonzero(counts[:, label])
            if not here.size:
                continue
            asked = self.drawing.class_weights
            area = counts[:, label].sum()
            weights.append(
                {"sqrt": math.sqrt(area), "equal": 1.0}[asked] if isinstance(asked, str) else asked[label - 1]
            )
            # The root keeps tiles with a sliver of the class from never being seen.
            chance = np.sqrt(counts[here, label])
            tiles.append((np.stack([self._allowed[here], np.full(here.size, label)], 1), chance / chance.sum()))
        total = sum(weights)
        return (np.array(weights) / total, tiles) if total else (np.zeros(0), [])

    @cached_property
    def _cumulative(self) -> np.ndarray:
        assert self.weights is not None
        weights = self.weights.double().numpy().copy()
        if self.tiles is not None:
            weights[~self.tiles.numpy()] = 0
        return np.cumsum(weights.ravel())

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int]]:
        chances, by_class = self._by_class
        side = self.drawing.side
        if by_class and rng.random() < self.drawing.object_fraction:
            tiles, chance = by_class[rng.choice(len(by_class), p=chances)]
            number, label = tiles[rng.choice(len(tiles), p=chance)]
            s, i = self.places[number]
            x, y = self._pixel_of(self.stores[s], int(i), int(label), rng)
            jitter = self.drawing.jitter
            x, y = (int(v + rng.integers(-jitter, jitter + 1)) for v in (x, y))
        else:
            s, box = self._place(rng)
            x, y = box.x + int(rng.integers(box.w)), box.y + int(rng.integers(box.h))
        box = Box(x - side // 2, y - side // 2, side, side)
        return self.stores[s].read(box), self._labels(int(s), box), self._covered(int(s), box), (int(s), x, y)

    def _place(self, rng: np.random.Generator) -> tuple[int, Box]:
        """A store, and a part of one of its tiles to centre a crop in."""
        if self.weights is None:
            s, i = self.places[self._allowed[rng.integers(len(self._allowed))]]
            return int(s), self.stores[s].tile(int(i)).keep
        drawn = rng.random() * self._cumulative[-1]
        number = min(int(np.searchsorted(self._cumulative, drawn, side="right")), len(self._cumulative) - 1)
        tile, cell = divmod(number, CELLS * CELLS)
        s, i = self.places[tile]
        return int(s), cell_of(self.stores[s].tile(int(i)).keep, *divmod(cell, CELLS))

    def _covered(self, s: int, box: Box) -> np.ndarray:
        store, found = self.stores[s], np.zeros(box.shape, bool)
        for tile in store.grid.cells(box):
            if (tile.row, tile.col) in store:
                found[tile.keep.overlap(box).relative_to(box).slices] = True
        return found

    def _labels(self, s: int, box: Box) -> np.ndarray:
        store = self.stores[s]
        if self.stream == "unlabelled" or not store.labelled:
            return np.full(box.shape, IGNORE, np.uint8)
        labels = store.read_labels(box)
        if self._left_out[s]:
            for tile in store.grid.cells(box):
                if (tile.row, tile.col) in self._left_out[s]:
                    labels[tile.keep.overlap(box).relative_to(box).slices] = IGNORE
        return labels

    @staticmethod
    def _pixel_of(store: TileStore, i: int, label: int, rng: np.random.Generator) -> tuple[int, int]:
        tile = store.tile(i)
        labels = store.label(i)[tile.keep.relative_to(tile.read).slices]
        row, col = divmod(int(rng.choice(np.flatnonzero(labels == label))), tile.keep.w)
        return tile.keep.x + col, tile.keep.y + row


def cell_of(keep: Box, row: int, col: int) -> Box:
    """One of the CELLS × CELLS parts of a box; never empty, also where the box is narrower than CELLS."""
    x, y = (keep.x + col * keep.w // CELLS, keep.y + row * keep.h // CELLS)
    right, bottom = (keep.x + (col + 1) * keep.w // CELLS, keep.y + (row + 1) * keep.h // CELLS)
    return Box(x, y, max(1, right - x), max(1, bottom - y))


class Pools:
    """Where crops come from, by stream, and what the method decides about it.

    The Trainer keeps the decisions in the checkpoint. When `version` changes it draws all later batches again.

    Args:
        labelled, unlabelled: stores; `held_out` comes from the labelled ones
        drawing: how crops are drawn
        tags: slide tags of each store, by stream
    """

    def __init__(
        self, labelled: Sequence[TileStore], unlabelled: Sequence[TileStore], drawing: Drawing, *,
        tags: Mapping[Stream, Sequence[tuple[str, ...]]] | None = None,
    ) -> None:  # fmt: skip
        self.stores: dict[Stream, tuple[TileStore, ...]] = {"labelled": tuple(labelled)}
        if unlabelled:
            self.stores["unlabelled"] = tuple(unlabelled)
        self.drawing, self.tags = drawing, dict(tags or {})
        self.tiles: dict[Stream, Tensor] = {}
        self.weights: dict[Stream, Tensor] = {}
        self.class_weights: tuple[float, ...] | None = None
        self.version = 0

    def dataset(self, stream: Stream) -> CropDataset | None:
        """The crops of a stream under the present decisions; None where it has no stores."""
        if stream not in self.stores:
            return None
        drawing = self.drawing
        if self.class_weights is not None:
            drawing = replace(drawing, class_weights=self.class_weights)
        return CropDataset(
            stream, self.stores[stream], drawing, tags=self.tags.get(stream, ()), tiles=self.tiles.get(stream),
            weights=self.weights.get(stream),
        )  # fmt: skip

    def hold_out(self, fraction: float) -> None:
        """Keep a fraction of the labelled tiles from `labelled` and give them to `held_out`.

        Tiles with an object and tiles without are drawn apart. Each side has one tile or more with an object where there
        are two. Labels in the other side's tiles are IGNORE, so that no label teaches on both sides.
        """
        labelled = self.dataset("labelled")
        assert labelled is not None
        rng = np.random.default_rng((self.drawing.seed, len(STREAMS)))
        held = torch.zeros(len(labelled.places), dtype=torch.bool)
        objects = labelled.counts[:, 1:].sum(1) > 0
        for group in (np.flatnonzero(objects), np.flatnonzero(~objects)):
            least = 1 if group.size > 1 else 0
            held[rng.permutation(group)[: max(least, round(fraction * group.size))]] = True
        if not bool(held.any()) or bool(held.all()):
            return
        self.stores["held_out"] = self.stores["labelled"]
        self.tags["held_out"] = self.tags.get("labelled", ())
        self.tiles |= {"labelled": ~held, "held_out": held}
        self.version += 1

    def weigh(self, stream: Stream, weights: Tensor) -> None:
        """From the next step on, centre the crops of a stream by these weights, (tiles, CELLS, CELLS)."""
        self.weights[stream] = weights.float().cpu()
        self.version += 1

    def favour(self, weights: Tensor) -> None:
        """From the next step on, draw the class that a labelled crop is centred on by these, (classes - 1,)."""
        self.class_weights = tuple(weights.tolist())
        self.version += 1

    def state_dict(self) -> dict[str, Any]:
        """The decisions."""
        return {"tiles": dict(self.tiles), "weights": dict(self.weights), "class_weights": self.class_weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.tiles, self.weights = dict(state["tiles"]), dict(state["weights"])
        favoured = state.get("class_weights")  # missing in checkpoints of earlier versions
        self.class_weights = None if favoured is None else tuple(favoured)
        if "held_out" in self.tiles:
            self.stores["held_out"] = self.stores["labelled"]
            self.tags["held_out"] = self.tags.get("labelled", ())
        self.version += 1


def side_for(crop: int, scale: float, rotate: bool) -> int:
    """px to read so that a crop of `crop` px, shrunk by `scale` and turned, has no empty corner."""
    return math.ceil(crop * scale * (math.sqrt(2) if rotate else 1.0))


def loader(dataset: Dataset[Any], start: int, stop: int, processes: int) -> DataLoader[Any]:
    """Items start, …, stop - 1 of a dataset in order, read ahead by some processes (0: by this one)."""
    return DataLoader(
        dataset, batch_size=None, sampler=range(start, stop), num_workers=processes,
        multiprocessing_context="spawn" if processes else None,  # Zarr's own threads do not survive a fork
        prefetch_factor=4 if processes else None,
    )  # fmt: skip
