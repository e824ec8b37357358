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
    return _decide(scores, object_above)[0]


def _decide(scores: np.ndarray, object_above: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Labels as of `decide`, and the scores of those labels that are not background."""
    if object_above is None:
        return _highest(scores)
    best, top = _highest(scores[1:])
    best += 1
    best[scores[1:].sum(0) * (1 - object_above) <= scores[0] * object_above] = 0
    return best, top


def _highest(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index uint8, value) of the highest along the first axis, the first one of equals.

    Plane by plane, for numpy's `argmax` along a short first axis is several times slower.
    """
    best, top = np.zeros(scores.shape[1:], np.uint8), scores[0].copy()
    for index in range(1, len(scores)):
        best[scores[index] > top] = index
        np.maximum(top, scores[index], out=top)
    return best, top


class Blender:
    """Adds tiles up and hands out finished rows of the grid.

    Along each axis the frame falls into stretches: those that two tiles share, `overlap` px round the border of two
    cells, and those of one tile alone between them. A block is a stretch of rows times one of columns:

        columns   0     1     2     3     4      even: shared by two tiles, odd: of one tile alone
                ├─────┼─────┼─────┼─────┼──      tile c has the columns 2c, 2c + 1 and 2c + 2

    Sums are kept only for blocks that another tile will still add to; a finished block is turned into labels at once.

    Memory: the shared blocks of one row of the grid, (classes + 1) × overlap × width float32, and labels and score of
    at most three rows of the grid.
    """

    def __init__(self, grid: Grid, classes: int, first_row: int = 0, *, object_above: float | None = None) -> None:
        """Start at a row of the grid; what tiles contribute to rows above it is left out. See `decide`."""
        self.grid, self.classes, self.next_row, self._object_above = grid, classes, first_row, object_above
        self._weights = tile_weights(grid)
        self._sums: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # of unfinished blocks
        self._bands: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # labels and score of rows that are begun
        self._last = (-1, -1)

    def add(self, tile: Tile, probabilities: np.ndarray) -> None:
        """Add a tile's (classes, size, size) float32 probabilities."""
        place = (tile.row, tile.col)
        if place <= self._last:
            raise ValueError(f"tile {place} after {self._last}: tiles must come in grid order")
        self._last = place
        for row in range(2 * tile.row, 2 * tile.row + 3):
            for col in range(2 * tile.col, 2 * tile.col + 3):
                box = self._block(row, col)
                if box and box.bottom > self.next_row * self.grid.stride:
                    self._add((row, col), box, tile, probabilities)

    def _block(self, row: int, col: int) -> Box:
        """The pixels of a block; none where the overlap or what is left beside it has no width."""
        (top, bottom), (left, right) = self._stretch(row), self._stretch(col)
        if top == bottom or left == right:
            return Box(0, 0, 0, 0)
        return Box.from_bounds(left, top, right, bottom).overlap(self.grid.frame.box)

    def _stretch(self, number: int) -> tuple[int, int]:
        """Where a stretch begins and ends, px along its axis."""
        border, margin = number // 2 * self.grid.stride, self.grid.margin
        return (
            (border + margin, border + self.grid.stride - margin) if number % 2 else (border - margin, border + margin)
        )

    def _add(self, block: tuple[int, int], box: Box, tile: Tile, probabilities: np.ndarray) -> None:
        where = box.relative_to(tile.read).slices
        part, weight = probabilities[(slice(None), *where)], self._weights[where]
        if block[0] % 2 and block[1] % 2:  # nobody else's: the sum divided by the weight is what it was
            self._settle(box, part, np.ones_like(weight))
            return
        if block in self._sums:
            sums, weights = self._sums.pop(block)
            sums += part * weight
            weights += weight
        else:
            sums, weights = part * weight, weight.copy()
        last = tuple(min(i // 2, n - 1) for i, n in zip(block, self.grid.shape, strict=True))
        if last == (tile.row, tile.col):
            self._settle(box, sums, weights)
        else:
            self._sums[block] = sums, weights

    def _settle(self, box: Box, sums: np.ndarray, weights: np.ndarray) -> None:
        """Labels and score of a block, from its sums."""
        best, top = _decide(sums, self._object_above)
        score = np.where(best > 0, np.rint(top / weights * 255), 0).astype(np.uint8)
        stride = self.grid.stride
        for row in range(max(box.y // stride, self.next_row), -(-box.bottom // stride)):
            band = row_box(self.grid, row)
            if row not in self._bands:
                self._bands[row] = np.zeros(band.shape, np.uint8), np.zeros(band.shape, np.uint8)
            inside = box.overlap(band)
            here, there = inside.relative_to(band).slices, inside.relative_to(box).slices
            self._bands[row][0][here], self._bands[row][1][here] = best[there], score[there]

    def rows(self, *, before: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Rows that can no longer change once every tile above row `before` has been added.

        Yields:
            (row, labels, score): labels (rows, width) uint8, score (rows, width) uint8 = confidence × 255 where the
            label is not 0
        """
        stop = self.grid.shape[0] if before >= self.grid.shape[0] else before - 1
        while self.next_row < stop:
            row = self.next_row
            # What waited for tiles that were left out.
            for block in [block for block in self._sums if block[0] <= 2 * (row + 1)]:
                self._settle(self._block(*block), *self._sums.pop(block))
            band = row_box(self.grid, row).shape
            yield row, *self._bands.pop(row, (np.zeros(band, np.uint8), np.zeros(band, np.uint8)))
            self.next_row += 1
