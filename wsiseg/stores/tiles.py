"""TileStore: the tissue of one slide as tiles in Zarr v3, with labels if there are annotations.

    STORE.zarr/
      claim.json    the manifest: grid, slide, annotations, tissue, versions (also in the group's attributes)
      index         (n, 2) int32     row and column of each tile in the grid, in grid order
      image         (n, size, size, 3) uint8, RGB of the tile's read box; missing where `pixels` is "reference"
      label         (n, size, size) uint8, label of every pixel of the read box; only with annotations
      counts        (n, classes + 1) int64, pixels per label in the keep box, ignored ones in the last column

Every chunk is one tile; `SHARD_BYTES` worth of tiles make one file. The rows of `counts` that belong to a shard are
written last, so "is this shard done?" is "is that chunk there?".

How the pixels are kept stands in the manifest as `pixels`, and not at all for zstd:

    zstd        every pixel exactly
    jpeg        as JPEG: a tenth of the size, a grey level or two off
    slide       the slide's own JPEG files, neither decoded nor changed: the slide's pixels in the slide's size
    reference   nowhere: they are read from the slide when they are wanted; `slide.json` says where it lies
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import StoreError
from wsiseg.geometry import Box
from wsiseg.grid import Grid, Tile
from wsiseg.slides.slide import Slide
from wsiseg.stores.reference import referred
from wsiseg.stores.reservation import RESERVATION, Manifest, read_claim
from wsiseg.stores.shard import JpegCodec, compress, readable, write_shard

FORMAT = 1
ZSTD, JPEG, SLIDE, REFERENCE = PIXELS = ("zstd", "jpeg", "slide", "reference")
SHARD_BYTES = 48 << 20  # uncompressed image bytes in one file: what a writer holds in memory
WHITE = 255
CACHE_BYTES = 1 << 30  # decoded tiles that a process keeps, all its stores together
READY = "arrays.ready"  # all arrays exist; in unfinished stores only


class _Cache:
    """Read-only arrays of all stores of this process; the least recently used go first, from `CACHE_BYTES` on."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes, self._lock = 0, Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        made = make()
        made.flags.writeable = False
        with self._lock:
            if self._arrays.setdefault(key, made) is made:
                self._bytes += made.nbytes
            while self._bytes > CACHE_BYTES and len(self._arrays) > 1:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return made


_DECODED = _Cache()


class TileStore:
    """A finished store of tiles, opened for reading. Cheap to pickle: it reopens by path."""

    def __init__(self, path: Path) -> None:
        """Open a store.

        Raises:
            StoreError: there is no finished tile store at this path
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise StoreError(f"There is no tile store at {path}: make one with `wsiseg tile`.")
        self.manifest = read_claim(self.path)
        if self.manifest.get("kind") != "tiles" or self.manifest.get("format") != FORMAT:
            raise StoreError(f"{path} is not a tile store that this version can read: tile the slide again.")
        try:
            self.grid = Grid.from_json(self.manifest["grid"])
            classes = self.manifest["classes"]
            self.classes = ClassMap.from_json(classes) if classes is not None else None
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
            raise StoreError(f"{path} is damaged ({said}): tile the slide again.") from error
        self.pixels = str(self.manifest.get("pixels", ZSTD))
        self._token = object()  # not the path: the store there may be replaced while this process runs

    def __reduce__(self) -> tuple[type[TileStore], tuple[Path]]:
        return TileStore, (self.path,)

    @cached_property
    def _group(self) -> zarr.Group:
        try:
            return zarr.open_group(self.path, mode="r")
        except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{self.path} is damaged ({error}): tile the slide again.") from error

    def _array(self, name: str) -> zarr.Array[Any]:
        try:
            array = self._group[name]
        except KeyError:
            raise StoreError(f"{self.path} is damaged, its {name!r} is missing: tile the slide again.") from None
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self.path} is damaged ({error}): tile the slide again.") from error
        if not isinstance(array, zarr.Array):
            raise StoreError(f"{self.path} is damaged, its {name!r} is no array: tile the slide again.")
        return array

    @cached_property
    def index(self) -> np.ndarray:
        """(n, 2) int32: row and column of each tile."""
        with readable(self.path):
            return np.asarray(self._array("index")[:])

    @cached_property
    def counts(self) -> np.ndarray:
        """(n, classes + 1) int64: pixels per label in the keep box, ignored ones last; (n, 1) without labels."""
        with readable(self.path):
            return np.asarray(self._array("counts")[:])

    @cached_property
    def _position(self) -> dict[tuple[int, int], int]:
        return {(int(row), int(col)): i for i, (row, col) in enumerate(self.index)}

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, place: tuple[int, int]) -> bool:
        """Whether the tile at (row, column) of the grid was stored."""
        return place in self._position

    @property
    def labelled(self) -> bool:
        """Whether the store carries label rasters."""
        return self.classes is not None

    def tile(self, i: int) -> Tile:
        """The grid's tile at place i of the store."""
        row, col = self.index[i]
        return self.grid[int(row), int(col)]

    def image(self, i: int) -> np.ndarray:
        """(size, size, 3) uint8 RGB of tile i's read box; read-only, it is cached.

        Raises:
            SlideError, StoreError: the slide that a store refers to is not there, is another one or is damaged
        """
        return _DECODED.get((self._token, "image", i), lambda: self._image(i))

    def _image(self, i: int) -> np.ndarray:
        box = self.tile(i).read
        if self.pixels == REFERENCE:
            return self._slide.read(box, self.grid.frame)
        with readable(self.path):
            pixels = np.asarray(self._array("image")[i])
        if self.pixels == SLIDE:  # outside the slide, its own tile has what its encoder liked
            pixels = pixels.copy()
            inside = box.overlap(self.grid.frame.box).relative_to(box)
            pixels[inside.bottom :] = WHITE
            pixels[:, inside.right :] = WHITE
        return pixels

    @cached_property
    def _slide(self) -> Slide:
        return referred(self.path, self.manifest)

    def label(self, i: int) -> np.ndarray:
        """(size, size) uint8 labels of tile i's read box; read-only, it is cached."""
        if not self.labelled:
            raise StoreError(f"{self.path} has no labels: tile the slide with --annotations.")
        with readable(self.path):
            return _DECODED.get((self._token, "label", i), lambda: np.asarray(self._array("label")[i]))

    def read(self, box: Box) -> np.ndarray:
        """(box.h, box.w, 3) uint8 RGB of any box of the grid's frame; white where no tile was stored."""
        out = np.full((*box.shape, 3), WHITE, np.uint8)
        self._fill(out, box, self.image)
        return out

    def read_labels(self, box: Box) -> np.ndarray:
        """(box.h, box.w) uint8 labels of any box of the grid's frame; IGNORE where no tile was stored."""
        out = np.full(box.shape, IGNORE, np.uint8)
        self._fill(out, box, self.label)
        return out

    def _fill(self, out: np.ndarray, box: Box, get: Any) -> None:
        for tile in self.grid.cells(box):
            i = self._position.get((tile.row, tile.col))
            if i is not None:
                part = tile.keep.overlap(box)
                out[part.relative_to(box).slices] = get(i)[part.relative_to(tile.read).slices]


class TileWriter:
    """Fills a claimed folder with the arrays of a TileStore, shard by shard."""

    def __init__(self, folder: Path, manifest: Manifest, tiles: Sequence[Tile]) -> None:
        """Create the arrays, or find those of an interrupted run."""
        self.folder, self.tiles = folder, tiles
        size = int(manifest["grid"]["size"])
        classes = manifest["classes"]
        self.columns = 1 if classes is None else len(ClassMap.from_json(classes)) + 1
        self.per_shard = max(1, SHARD_BYTES // (size * size * 3))
        self.pixels = str(manifest.get("pixels", ZSTD))
        if not (folder / READY).exists():
            self._create(manifest, size)
            (folder / READY).touch()
        # A tile of the fill value is a tile all the same: without this Zarr would leave it out.
        with zarr.config.set({"array.write_empty_chunks": True}):
            group = zarr.open_group(folder, mode="r+")
            self._arrays: dict[str, Any] = {n: group[n] for n in ("image", "label", "counts") if n in group}

    def _create(self, manifest: Manifest, size: int) -> None:
        n, k = len(self.tiles), self.per_shard
        group = zarr.open_group(self.folder, mode="a", attributes={"wsiseg": manifest})
        index = np.array([(t.row, t.col) for t in self.tiles], np.int32)
        group.create_array("index", data=index, chunks=(n, 2), overwrite=True)

        def create(name: str, *shape: int, **how: Any) -> None:
            group.create_array(
                name, shape=(n, *shape), chunks=(1, *shape), shards=(k, *shape), dtype="uint8", overwrite=True, **how
            )

        zstd = [ZstdCodec(level=1)]
        if self.pixels == ZSTD:
            create("image", size, size, 3, compressors=zstd)
        elif self.pixels != REFERENCE:
            create("image", size, size, 3, serializer=JpegCodec(), compressors=None)
        if self.columns > 1:
            create("label", size, size, compressors=zstd)
        group.create_array("counts", shape=(n, self.columns), chunks=(k, self.columns), dtype="int64", overwrite=True)

    def shards(self) -> list[range]:
        """The tiles of each shard."""
        return [range(i, min(i + self.per_shard, len(self.tiles))) for i in range(0, len(self.tiles), self.per_shard)]

    def done(self, shard: range) -> bool:
        """Whether an earlier run finished this shard."""
        return (self.folder / "counts" / "c" / str(shard.start // self.per_shard) / "0").exists()

    def write(self, shard: range, images: Sequence[np.ndarray | bytes] | None, labels: np.ndarray | None) -> None:
        """Store the tiles of one shard.

        Args:
            shard: which tiles
            images: of each (size, size, 3) uint8, or its JPEG file; None for a store that refers to the slide
            labels: (k, size, size) uint8; None for a store without any
        """
        counts = np.zeros((len(shard), self.columns), np.int64)
        for row, i in enumerate(shard):
            keep = self.tiles[i].keep.relative_to(self.tiles[i].read)
            if labels is None:
                counts[row] = keep.area
            else:
                found = np.bincount(labels[row][keep.slices].ravel(), minlength=IGNORE + 1)
                counts[row] = [*found[: self.columns - 1], found[IGNORE]]
        where = slice(shard.start, shard.stop)
        if images is not None and self.pixels == ZSTD:
            self._arrays["image"][where] = np.stack(images)
        elif images is not None:
            streams = [i if isinstance(i, bytes) else compress(i) for i in images]
            file = self.folder / "image" / "c" / str(shard.start // self.per_shard) / "0" / "0" / "0"
            write_shard(file, streams, self.per_shard)
        if labels is not None:
            self._arrays["label"][where] = labels
        self._arrays["counts"][where] = counts

    def finish(self) -> None:
        """Remove what only an unfinished store has."""
        (self.folder / READY).unlink()


def describe(path: Path) -> str:
    """One line on a finished store, for people."""
    store = TileStore(path)
    labels = f", labels of {len(store.classes)} classes" if store.classes else ""
    files = sum(1 for p in path.rglob("*") if p.is_file() and p.name != RESERVATION)
    size = store.grid.size
    return f"{path}: {len(store)} tiles of {size} × {size} px at {store.grid.frame.mpp:g} µm/px{labels}, {files} files"
