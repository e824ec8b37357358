"""Layers of pixels: label maps, their scores, the tissue and the tile grid."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.classes import IGNORE
from wsiseg.geometry import Box, Frame
from wsiseg.grid import Grid
from wsiseg.selection.tissue import tissue_of
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.viewer.layer import Layer
from wsiseg.viewer.style import FILL_ALPHA, GREY, Style

Read = Callable[[Box], NDArray[np.uint8]]
SMALL_SIDE = 4096  # px of the longer side of what is kept in memory for looking from afar
BAND = 1024  # rows read at once for it


class Sampler:
    """The nearest pixel of a plane that is only read at its own µm/px, for any other plane.

    A coarse tile would read far more than it shows, so a small copy (every n-th pixel) is made when one is first asked
    for.

    Args:
        read: a box of `frame` -> uint8 (h, w), 0 outside it
        frame: the plane
    """

    def __init__(self, read: Read, frame: Frame) -> None:
        self._read, self._frame = read, frame
        self._step = max(1, math.ceil(max(frame.width, frame.height) / SMALL_SIDE))
        self._small: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()

    def __call__(self, box: Box, frame: Frame) -> NDArray[np.uint8]:
        """uint8 (box.h, box.w): the value under the middle of each pixel of a box of `frame`."""
        sx, sy = frame.scale_to(self._frame)
        columns = np.floor((np.arange(box.x, box.right) + 0.5) * sx).astype(np.int64)
        rows = np.floor((np.arange(box.y, box.bottom) + 0.5) * sy).astype(np.int64)
        if self._step > 1 and min(sx, sy) >= self._step:
            return _taken(self._overview(), rows // self._step, columns // self._step)
        region = Box.from_bounds(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        inside = region.overlap(self._frame.box)
        if not inside:
            return np.zeros(box.shape, np.uint8)
        return _taken(self._read(inside), rows - inside.y, columns - inside.x)

    def _overview(self) -> NDArray[np.uint8]:
        with self._lock:
            if self._small is None:
                n, full = self._step, self._frame
                rows = BAND // n * n or n
                bands = (Box(0, top, full.width, rows).overlap(full.box) for top in range(0, full.height, rows))
                self._small = np.concatenate([self._read(band)[::n, ::n] for band in bands])
            return self._small


def _taken(array: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.uint8]:
    """array[rows, columns] of all combinations, 0 outside the array."""
    down, across = (rows >= 0) & (rows < array.shape[0]), (columns >= 0) & (columns < array.shape[1])
    out = np.zeros((len(rows), len(columns)), np.uint8)
    out[np.ix_(down, across)] = array[np.ix_(rows[down], columns[across])]
    return out


class LabelLayer(Layer):
    """A label map in the colours of its classes; background is clear, and class 0 of the page is label 1."""

    kind = "labels"

    def __init__(self, name: str, labels: LabelMap) -> None:
        self.name, self.labels = name, labels
        self.classes = list(zip(labels.classes.names, labels.classes.colours, strict=True))[1:]
        self._sample = Sampler(labels.read, labels.frame)

    def tile(self, box: Box, frame: Frame, style: Style) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Layer.tile`: the labels themselves."""
        palette = self.palette(style)
        palette[IGNORE] = (*GREY, FILL_ALPHA)
        return self._sample(box, frame), palette


class ScoreLayer(Layer):
    """The confidence of a label map as a heatmap; background is clear."""

    kind = "score"

    def __init__(self, name: str, labels: LabelMap) -> None:
        from matplotlib import colormaps

        self.name = name
        self._sample = Sampler(labels.read_score, labels.frame)
        # cividis reads the same with any kind of colour vision (Nuñez, Anderton and Renslow, PLOS ONE 2018)
        self._heat = np.round(255 * colormaps["cividis"](np.arange(256))[:, :3]).astype(np.uint8)

    def describe(self) -> dict[str, Any]:
        """See `Layer.describe`; `legend` has eleven colours from 0 to 1."""
        return super().describe() | {"legend": [self._heat[round(255 * i / 10)].tolist() for i in range(11)]}

    def tile(self, box: Box, frame: Frame, style: Style) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Layer.tile`: confidence × 255."""
        palette = np.full((256, 4), 200, np.uint8)
        palette[:, :3] = self._heat
        palette[0, 3] = 0
        return self._sample(box, frame), palette


class TissueLayer(Layer):
    """Where `wsiseg tissue` finds tissue; looked for when it is first shown."""

    kind, name, classes = "tissue", "Tissue", (("Tissue", (0, 158, 115)),)

    def __init__(self, slide: Slide) -> None:
        self._slide = slide
        self._sample: Sampler | None = None
        self._lock = threading.Lock()

    def tile(self, box: Box, frame: Frame, style: Style) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Layer.tile`: 1 on tissue."""
        with self._lock:
            if self._sample is None:
                found = tissue_of(self._slide)
                mask = found.mask.astype(np.uint8)
                self._sample = Sampler(lambda part: mask[part.slices], found.frame)
        return self._sample(box, frame), self.palette(style)


class GridLayer(Layer):
    """The borders between the tiles' keep boxes."""

    kind, classes = "grid", (("Border", (0, 0, 0)),)
    NARROWEST = 6  # px between two lines; closer ones would be a grey veil

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.name = f"Tiles of {grid.stride} px at {grid.frame.mpp:g} µm/px"

    def tile(self, box: Box, frame: Frame, style: Style) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Layer.tile`: 1 on the first row and the first column of px of every keep box."""
        sx, sy = frame.scale_to(self.grid.frame)
        out = np.zeros(box.shape, np.uint8)
        if self.grid.stride / max(sx, sy) >= self.NARROWEST:
            out[:, self._first(box.x, box.right, sx)] = 1
            out[self._first(box.y, box.bottom, sy), :] = 1
        return out, self.palette(style, 255)

    def _first(self, start: int, stop: int, scale: float) -> NDArray[np.bool_]:
        cell = np.floor((np.arange(start - 1, stop) + 0.5) * scale / self.grid.stride)
        return np.diff(cell) > 0
