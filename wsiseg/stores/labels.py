"""LabelMap: one label per pixel of a frame, as an OME-Zarr label image with a pyramid.

    LABELS.zarr/
      claim.json      the manifest: grid, slide, model, versions (also in the group's attributes)
      0, 1, …         (height, width) uint8 labels, each level half the one before; empty chunks are not stored
      score           (height, width) uint8, confidence × 255 where the label is not background, else 0
      parent.geojson  of a cascade: the objects of the parent model, inside which this map was made

Written from top to bottom in rows of the grid's keep boxes. Layout: OME-Zarr 0.5, multiscales and image-label
(https://ngff.openmicroscopy.org/0.5/).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from imagecodecs import ZstdError, zstd_decode, zstd_encode
from zarr.codecs import ZstdCodec

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.errors import StoreError
from wsiseg.geometry import Box, Frame
from wsiseg.grid import Grid
from wsiseg.stores.objects import objects_of
from wsiseg.stores.reservation import Manifest, read_claim
from wsiseg.stores.shard import DAMAGED, read_shard, readable, write_shard
from wsiseg.usage import Postprocessing, Usage

FORMAT = 1
SHARD_PIXELS = 1 << 24
PYRAMID_STOPS_AT = 512  # px of the longer side of the smallest level
LEVEL = 1  # of zstd
PROGRESS = "progress.json"
PARENT = "parent.geojson"


class LabelMap:
    """A finished label map, opened for reading. Cheap to pickle: it reopens by path.

    Attributes:
        path: its folder
        manifest: what it was made from, as JSON values
        grid: of the prediction; its frame is the plane of the labels
        level0: plane of the slide that it was made from
        classes: names and colours of the labels
        usage: how its model was used; None in a map that names no model
    """

    def __init__(self, path: Path) -> None:
        """Open a label map.

        Raises:
            StoreError: there is no finished label map at this path
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise StoreError(f"There is no label map at {path}: make one with `wsiseg predict --labels`.")
        self.manifest = read_claim(self.path)
        if self.manifest.get("kind") != "labels" or self.manifest.get("format") != FORMAT:
            raise StoreError(f"{path} is not a label map that this version can read: predict the slide again.")
        model = self.manifest.get("model")
        try:
            self.grid = Grid.from_json(self.manifest["grid"])
            self.level0 = Frame.from_json(self.manifest["level0"])
            self.classes = ClassMap.from_json(self.manifest["classes"])
            self.usage = None if model is None else Usage.from_json(model["usage"])
            group = zarr.open_group(self.path, mode="r")
            self._labels: Any = group["0"]
            self._score: Any = group["score"]
        except (LookupError, TypeError, ValueError, OverflowError, FileNotFoundError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
            raise StoreError(f"{path} is damaged ({said}): predict the slide again.") from error

    def __reduce__(self) -> tuple[type[LabelMap], tuple[Path]]:
        return LabelMap, (self.path,)

    @property
    def frame(self) -> Frame:
        """The plane of the labels."""
        return self.grid.frame

    @property
    def postprocessing(self) -> Postprocessing:
        """How the map's own model makes objects of it."""
        return Postprocessing() if self.usage is None else self.usage.postprocessing

    @property
    def parent(self) -> Path | None:
        """The file with the parent model's objects, where the map was made in a cascade."""
        file = self.path / PARENT
        return file if file.exists() else None

    def objects(self, postprocessing: Postprocessing | None = None) -> Iterator[LabelledPolygon]:
        """The objects of the map, found as its model was made for, or with other settings; see `objects_of`."""
        return objects_of(self, postprocessing)

    def read(self, box: Box) -> np.ndarray:
        """(box.h, box.w) uint8 labels of a box of the frame; background outside the frame."""
        return self._read(self._labels, box)

    def read_score(self, box: Box) -> np.ndarray:
        """(box.h, box.w) uint8, confidence × 255 of the label; 0 on background."""
        return self._read(self._score, box)

    def _read(self, array: Any, box: Box) -> np.ndarray:
        inside, out = box.overlap(self.frame.box), np.zeros(box.shape, np.uint8)
        if inside:
            with readable(self.path):
                out[inside.relative_to(box).slices] = array[inside.slices]
        return out

    def bands(self) -> Iterator[np.ndarray]:
        """The map from top to bottom, as (rows, width) uint8 arrays of one row of the grid each."""
        return map(self.row, range(self.grid.shape[0]))

    def row(self, row: int) -> np.ndarray:
        """(rows, width) uint8 labels of one row of the grid: `read` of its box, faster."""
        return self._row("0", row)

    def score_row(self, row: int) -> np.ndarray:
        """(rows, width) uint8 confidence of one row of the grid."""
        return self._row("score", row)

    def _row(self, name: str, row: int) -> np.ndarray:
        return _Rows(self.path / name, self.frame.width, self.grid.stride).get(row, self.grid.row_box(row).h)


class LabelWriter:
    """Fills a reserved folder with a LabelMap, row after row."""

    def __init__(self, folder: Path, grid: Grid, classes: ClassMap, manifest: Manifest) -> None:
        """Create the arrays, or find those of an interrupted run (`rows_done` says how far it got).

        Args:
            folder: reserved for the map, see `wsiseg.stores.reservation.reserve`
            grid: of the prediction; its frame becomes the plane of the labels
            classes: names and colours of the labels
            manifest: what the map is made from, with the grid and the classes, as JSON values
        """
        self.folder, self.grid, self.classes = folder, grid, classes
        self._progress = folder / PROGRESS
        if not self._progress.exists():
            group = zarr.open_group(folder, mode="a", attributes={"wsiseg": manifest})
            for name in ("0", "score"):
                _create(group, name, grid.frame.box.shape, grid.stride)
            self._mark(0)
        self.rows_done = int(json.loads(self._progress.read_text())["rows"])
        self._group = zarr.open_group(folder, mode="r+")

    def write_row(self, row: int, labels: np.ndarray, score: np.ndarray) -> None:
        """Store row `row` of keep boxes: labels and score, (rows, width) uint8 both. Rows come in order."""
        assert row == self.rows_done
        for name, pixels in (("0", labels), ("score", score)):
            _Rows(self.folder / name, labels.shape[1], self.grid.stride).put(row, pixels)
        self._mark(row + 1)

    def _mark(self, rows: int) -> None:
        fresh = self._progress.with_name("progress.json.partial")
        fresh.write_text(json.dumps({"rows": rows}))
        fresh.replace(self._progress)
        self.rows_done = rows

    def finish(self) -> None:
        """Add the pyramid and the OME metadata, and remove what only an unfinished map has."""
        shape, level, side = self.grid.frame.box.shape, 0, self.grid.stride
        while max(shape) > PYRAMID_STOPS_AT:
            finer = _Rows(self.folder / str(level), shape[1], side)
            heights = [min(side, shape[0] - top) for top in range(0, shape[0], side)]
            shape, level = (-(-shape[0] // 2), -(-shape[1] // 2)), level + 1
            _create(self._group, str(level), shape, side)
            coarser = _Rows(self.folder / str(level), shape[1], side)
            for row in range(0, len(heights), 2):
                rows = np.concatenate([finer.get(i, heights[i]) for i in range(row, min(row + 2, len(heights)))])
                # Nearest neighbour: the mean of two labels is no label.
                coarser.put(row // 2, rows[::2, ::2])
        self._group.attrs["ome"] = _ome(self.classes, self.grid.frame.mpp, level + 1)
        self._progress.unlink()


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of chunks of an array, read and written whole: its folder, its width and the side of a chunk in px."""

    folder: Path
    width: int
    side: int

    def put(self, row: int, pixels: np.ndarray) -> None:
        """Store a row, (side or fewer, width) uint8."""
        whole = np.zeros((self.side, -(-self.width // self.side) * self.side), np.uint8)
        whole[: len(pixels), : self.width] = pixels
        chunks = [whole[:, x : x + self.side] for x in range(0, whole.shape[1], self.side)]
        encoded = [bytes(zstd_encode(chunk.tobytes(), LEVEL)) if chunk.any() else None for chunk in chunks]
        places = _across(self.side)
        for shard, first in enumerate(range(0, len(encoded), places)):
            some = encoded[first : first + places]
            if any(some):
                write_shard(self._file(row, shard), some, places)

    def get(self, row: int, height: int) -> np.ndarray:
        """A row of this height, as `put` stored it; StoreError where its file is damaged."""
        out, places = np.zeros((height, self.width), np.uint8), _across(self.side)
        for shard, start in enumerate(range(0, self.width, places * self.side)):
            file = self._file(row, shard)
            for place, chunk in enumerate(read_shard(file, places)):
                if chunk is not None:
                    left = start + place * self.side
                    try:
                        whole = np.frombuffer(zstd_decode(chunk), np.uint8).reshape(self.side, self.side)
                    except (ZstdError, ValueError) as error:
                        raise StoreError(DAMAGED.format(file)) from error
                    out[:, left : left + self.side] = whole[:height, : self.width - left]
        return out

    def _file(self, row: int, shard: int) -> Path:
        return self.folder / "c" / str(row) / str(shard)


def _across(chunk: int) -> int:
    """Chunks in one shard, side by side."""
    return max(1, SHARD_PIXELS // (chunk * chunk))


def _create(group: zarr.Group, name: str, shape: tuple[int, int], chunk: int) -> Any:
    return group.create_array(
        name, shape=shape, chunks=(chunk, chunk), shards=(chunk, chunk * _across(chunk)), dtype="uint8",
        compressors=[ZstdCodec(level=LEVEL)], dimension_names=("y", "x"), overwrite=True,
    )  # fmt: skip


def _ome(classes: ClassMap, mpp: float, levels: int) -> dict[str, Any]:
    rows = [r for r in classes.to_json() if "color" in r]
    return {
        "version": "0.5",
        "image-label": {
            "version": "0.5",
            "colors": [{"label-value": r["index"], "rgba": [*r["color"], 255 if r["index"] else 0]} for r in rows],
            "properties": [{"label-value": r["index"], "class": r["name"]} for r in rows],
        },
        "multiscales": [{
            "name": "labels", "type": "nearest",
            "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in ("y", "x")],
            "datasets": [
                {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [mpp * 2**i] * 2}]}
                for i in range(levels)
            ],
        }],
    }  # fmt: skip
