"""The tiling of a frame, used for cutting tiles and for stitching them.

stride = size - overlap, margin = overlap / 2

┌─────────────┐  read box of a tile: size × size, what the network sees; it may reach beyond the frame
│   ┌─────┐   │
│   │keep │   │  keep box: the stride × stride cell in its middle, cut at the frame's edge;
│   └─────┘   │  all keep boxes together cover every pixel of the frame exactly once
└─────────────┘
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wsiseg.errors import GeometryError
from wsiseg.geometry import Box, Frame


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One cell of a grid: which pixels to read and which of them to keep (boxes of the grid's frame)."""

    row: int
    col: int
    read: Box
    keep: Box


@dataclass(frozen=True, slots=True)
class Grid:
    """Square tiles over a frame.

    Attributes:
        frame: the plane that is tiled
        size: width and height of every read box, in px of the frame
        overlap: px that two neighbouring read boxes share; even, and at most half of `size`, so that a pixel is
            read by no more than four tiles
    """

    frame: Frame
    size: int
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise GeometryError(f"A tile cannot be {self.size} px wide: give a size of 1 or more.")
        if self.overlap < 0 or self.overlap % 2 or 2 * self.overlap > self.size:
            raise GeometryError(
                f"An overlap of {self.overlap} px does not fit tiles of {self.size} px: "
                f"give an even number from 0 to {self.size // 4 * 2}."
            )

    @property
    def stride(self) -> int:
        """px from one tile to the next, and the width of a keep box."""
        return self.size - self.overlap

    @property
    def margin(self) -> int:
        """px by which a read box reaches beyond its keep box on each side."""
        return self.overlap // 2

    def finer(self, factor: int) -> Grid:
        """The same tiles in pixels that are `factor` times smaller; its frame covers the same area."""
        f = self.frame
        return Grid(
            Frame(f.width * factor, f.height * factor, f.mpp / factor), self.size * factor, self.overlap * factor
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of tiles."""
        return -(-self.frame.height // self.stride), -(-self.frame.width // self.stride)

    def __len__(self) -> int:
        rows, cols = self.shape
        return rows * cols

    def __getitem__(self, index: tuple[int, int]) -> Tile:
        row, col = index
        rows, cols = self.shape
        if not (0 <= row < rows and 0 <= col < cols):
            raise IndexError(f"tile ({row}, {col}) is outside a grid of {rows} × {cols}")
        cell = Box(col * self.stride, row * self.stride, self.stride, self.stride)
        return Tile(row, col, cell.grow(self.margin), cell.overlap(self.frame.box))

    def __iter__(self) -> Iterator[Tile]:
        rows, cols = self.shape
        return (self[row, col] for row in range(rows) for col in range(cols))

    def row_box(self, row: int) -> Box:
        """The pixels of one row of keep boxes, over the frame's whole width."""
        return Box(0, row * self.stride, self.frame.width, self.stride).overlap(self.frame.box)

    def cells(self, box: Box) -> Iterator[Tile]:
        """The tiles whose keep boxes overlap the box, in grid order."""
        return self._between(box)

    def touching(self, box: Box) -> Iterator[Tile]:
        """The tiles whose read boxes overlap the box, in grid order."""
        return self._between(box.grow(self.margin) if box else box)

    def _between(self, box: Box) -> Iterator[Tile]:
        # Read boxes reach beyond the frame, so a box just outside the frame can still meet the outermost of them.
        if not box:
            return
        rows, cols = self.shape
        for row in range(max(0, box.y // self.stride), min(rows, -(-box.bottom // self.stride))):
            for col in range(max(0, box.x // self.stride), min(cols, -(-box.right // self.stride))):
                yield self[row, col]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"frame": self.frame.to_json(), "size": self.size, "overlap": self.overlap}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Grid:
        """The inverse of `to_json`."""
        return cls(Frame.from_json(value["frame"]), int(value["size"]), int(value["overlap"]))
