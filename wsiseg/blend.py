"""Overlapping tiles of class probabilities, blended into rows of labels without a seam.

Each tile weighs 1 in its middle and falls linearly to 0 over the overlap. A pixel's probabilities are the weighted sum
over its tiles divided by the sum of their weights, so that a constant stays that constant, also beside tiles that were
left out. Tiles must come in grid order: float sums depend on their order, and so no other order is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wsiseg.geometry import Box
from wsiseg.grid import Grid, Tile
from wsiseg.stores.labels import row_box


def tile_weights(grid: Grid) -> np.ndarray:
    """(size, size) float32 weight of every pixel of a read box; all above 0."""
    distance = np.minimum(np.arange(grid.size), np.arange(grid.size)[::-1]) + 0.5
    ramp = np.minimum(1.0, distance / max(grid.overlap, 1)).astype(np.float32)
    return np.outer(ramp, ramp)


def decide(scores: np.ndarray, object_above: float | None) -> np.ndarray:
    """(h, w) uint8 labels from (classes, h, w) scores, background first; scores need not add up to 1.

    Args:
        scores: of each class
        object_above: where the classes but background together have more than this share of the scores, the highest
            of them wins; None: the highest of all. 0.5 is right where the classes are kinds of one thing: a network
            that is sure of a glomerulus but not of which kind should not call it background. Less is right where it
            learnt from outlines of only a part c of the objects: it then gives c times the probability, and the place
            to cut is c / 2 (Elkan & Noto 2008).
    """
    if object_above is None:
        return scores.argmax(0).astype(np.uint8)
    best = (scores[1:].argmax(0) + 1).astype(np.uint8)
    objects = scores[1:].sum(0)
    best[objects * (1 - object_above) <= scores[0] * object_above] = 0
    return best


class Blender:
    """Adds tiles up and hands out finished rows of the grid.

    Memory: the cells of at most three rows of the grid that hold any tile, each (classes + 1) × stride² float32.
    """

    def __init__(self, grid: Grid, classes: int, first_row: int = 0, *, object_above: float | None = None) -> None:
        """Start at a row of the grid; what tiles contribute to rows above it is left out. See `decide`."""
        self.grid, self.classes, self.next_row, self._object_above = grid, classes, first_row, object_above
        self._weights = tile_weights(grid)
        self._cells: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._last = (-1, -1)

    def add(self, tile: Tile, probabilities: np.ndarray) -> None:
        """Add a tile's (classes, size, size) float32 probabilities."""
        place = (tile.row, tile.col)
        if place <= self._last:
            raise ValueError(f"tile {place} after {self._last}: tiles must come in grid order")
        self._last = place
        for cell in self.grid.cells(tile.read):
            if cell.row >= self.next_row:
                self._add(cell, tile, probabilities)

    def _add(self, cell: Tile, tile: Tile, probabilities: np.ndarray) -> None:
        sums, weights = self._cells.setdefault(
            (cell.row, cell.col),
            (np.zeros((self.classes, *cell.keep.shape), np.float32), np.zeros(cell.keep.shape, np.float32)),
        )
        part = cell.keep.overlap(tile.read)
        here, there = part.relative_to(cell.keep).slices, part.relative_to(tile.read).slices
        weight = self._weights[there]
        sums[(slice(None), *here)] += probabilities[(slice(None), *there)] * weight
        weights[here] += weight

    def rows(self, *, before: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Rows that can no longer change once every tile above row `before` has been added.

        Yields:
            (row, labels, score): labels (rows, width) uint8, score (rows, width) uint8 = confidence × 255 where the
            label is not 0
        """
        stop = self.grid.shape[0] if before >= self.grid.shape[0] else before - 1
        while self.next_row < stop:
            yield self.next_row, *self._row(self.next_row)
            self.next_row += 1

    def _row(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        band: Box = row_box(self.grid, row)
        labels, score = np.zeros(band.shape, np.uint8), np.zeros(band.shape, np.uint8)
        for place in [p for p in self._cells if p[0] == row]:
            sums, weights = self._cells.pop(place)
            where = self.grid[place].keep.relative_to(band).slices
            best = decide(sums, self._object_above)
            chosen = np.take_along_axis(sums, best[None].astype(np.intp), 0)[0]
            sure = np.divide(chosen, weights, out=np.zeros_like(weights), where=weights > 0)
            labels[where] = best
            score[where] = np.where(best > 0, np.rint(sure * 255), 0)
        return labels, score
