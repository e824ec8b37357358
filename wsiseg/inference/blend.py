"""Blend overlapping tiles of class probabilities into rows of labels without seams.

Each tile weighs 1 in its middle and falls linearly to 0 over the overlap. A pixel's probabilities are the weighted sum
over its tiles divided by the sum of their weights, so that a constant stays that constant, also beside tiles that were
left out. Tiles must come in grid order: float sums depend on their order, and so no other order is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit

from wsiseg.geometry import Box
from wsiseg.grid import Grid, Tile


def tile_weights(grid: Grid) -> np.ndarray:
    """(size, size) float32 weight of every pixel of a read box; all above 0."""
    distance = np.minimum(np.arange(grid.size), np.arange(grid.size)[::-1]) + 0.5
    ramp = np.minimum(1.0, distance / max(grid.overlap, 1)).astype(np.float32)
    return np.outer(ramp, ramp)


def to_labels(scores: np.ndarray, foreground_threshold: float | None) -> np.ndarray:
    """(h, w) uint8 labels from (classes, h, w) scores, background first; scores need not add up to 1.

    Args:
        scores: of each class
        foreground_threshold: where the classes but background together have more than this fraction of the scores, the highest
            of them wins; None: the highest of all. 0.5 is right where the classes are kinds of one thing: a network
            that is sure of a glomerulus but not of which kind should not call it background. Less is right where it
            learnt from annotations of only a part c of the objects: it then gives c times the probability, and the place
            to cut is c / 2 (Elkan & Noto 2008).
    """
    return _decided(
        scores, np.ones(scores.shape[1:], np.float32), -1.0 if foreground_threshold is None else foreground_threshold
    )[0]


@njit(cache=True, nogil=True)
def _decided(sums, weights, foreground_threshold):  # type: ignore[no-untyped-def]
    """Labels as of `to_labels` (a negative `foreground_threshold` is None) and score; see `Blender.rows`."""
    classes, height, width = sums.shape
    labels, score = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    fraction, rest = np.float32(foreground_threshold), np.float32(1 - foreground_threshold)
    first = 0 if foreground_threshold < 0 else 1
    for y in range(height):
        for x in range(width):
            best, top, total = first, sums[first, y, x], sums[first, y, x]
            for index in range(first + 1, classes):
                total += sums[index, y, x]
                if sums[index, y, x] > top:
                    best, top = index, sums[index, y, x]
            if best > 0 and (first == 0 or total * rest > sums[0, y, x] * fraction):
                labels[y, x] = best
                score[y, x] = np.uint8(np.rint(top / weights[y, x] * np.float32(255)))
    return labels, score


@njit(cache=True, nogil=True)
def upsample(probabilities, factor):  # type: ignore[no-untyped-def]
    """(classes, h, w) float32 -> (classes, h · factor, w · factor), linear between the centres of pixels.

    Probabilities that add up to 1 still do, and a constant stays that constant. Beyond the outermost centres, values
    are those of the outermost pixels.
    """
    classes, height, width = probabilities.shape
    out = np.empty((classes, height * factor, width * factor), np.float32)
    line = np.empty(width, np.float32)
    for index in range(classes):
        for y in range(height * factor):
            place = (y + 0.5) / factor - 0.5
            top = min(max(int(np.floor(place)), 0), height - 1)
            down = np.float32(min(max(place - top, 0.0), 1.0))
            above, below = probabilities[index, top], probabilities[index, min(top + 1, height - 1)]
            for x in range(width):
                line[x] = above[x] + (below[x] - above[x]) * down
            row = out[index, y]
            for part in range(factor):
                place = (part + 0.5) / factor - 0.5
                right = np.float32(place - np.floor(place))
                first = int(np.floor(place))  # -1 or 0
                for x in range(width):
                    a, b = line[max(x + first, 0)], line[min(x + first + 1, width - 1)]
                    row[x * factor + part] = a + (b - a) * right
    return out


@njit(cache=True, nogil=True)
def _add_up(sums, weights, probabilities, tile_weights, top, left):  # type: ignore[no-untyped-def]
    """Add a part of a tile, that which begins at (top, left), to a block."""
    classes, height, width = sums.shape
    for y in range(height):
        weight = tile_weights[top + y, left : left + width]
        for x in range(width):
            weights[y, x] += weight[x]
        for index in range(classes):
            line, part = sums[index, y], probabilities[index, top + y, left : left + width]
            for x in range(width):
                line[x] += part[x] * weight[x]


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

    def __init__(
        self, grid: Grid, classes: int, first_row: int = 0, *, foreground_threshold: float | None = None
    ) -> None:
        """Start at a row of the grid; what tiles contribute to rows above it is left out. See `to_labels`."""
        self.grid, self.classes, self.next_row = grid, classes, first_row
        self._threshold = -1.0 if foreground_threshold is None else foreground_threshold
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
        probabilities = np.ascontiguousarray(probabilities)
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
        part = box.relative_to(tile.read)
        if block[0] % 2 and block[1] % 2:  # of this tile alone: its mean is what it says itself
            self._settle(box, probabilities[:, *part.slices], np.ones(box.shape, np.float32))
            return
        if block not in self._sums:
            self._sums[block] = np.zeros((self.classes, *box.shape), np.float32), np.zeros(box.shape, np.float32)
        _add_up(*self._sums[block], probabilities, self._weights, part.y, part.x)
        last = tuple(min(i // 2, n - 1) for i, n in zip(block, self.grid.shape, strict=True))
        if last == (tile.row, tile.col):
            self._settle(box, *self._sums.pop(block))

    def _settle(self, box: Box, sums: np.ndarray, weights: np.ndarray) -> None:
        """Labels and score of a block, from its sums."""
        best, score = _decided(sums, weights, self._threshold)
        stride = self.grid.stride
        for row in range(max(box.y // stride, self.next_row), -(-box.bottom // stride)):
            band = self.grid.row_box(row)
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
            band = self.grid.row_box(row).shape
            yield row, *self._bands.pop(row, (np.zeros(band, np.uint8), np.zeros(band, np.uint8)))
            self.next_row += 1
