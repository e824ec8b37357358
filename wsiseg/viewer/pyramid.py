"""The zoom levels of the browser.

Level k has 2^k level-0 px per px, along x and along y. The plane is padded to whole pixels of the coarsest level, so
that every level is exactly half the one before: a tile of any level lands on the screen without a fraction of a pixel.

    k = 0   level 0, padded on the right and at the bottom by less than 2^levels px
    k = …
    k = levels - 1   fits into one tile
"""

from __future__ import annotations

from dataclasses import dataclass

from wsiseg.geometry import Box, Frame

TILE = 512  # px of each side: a screen of 1920 × 1080 px needs 12 to 20 of them
# px that a tile reaches into each neighbour: without them OpenSeadragon stretches tiles by a pixel to hide the seams
OVERLAP = 1


@dataclass(frozen=True, slots=True)
class Pyramid:
    """All levels over a slide.

    Attributes:
        level0: the slide's own plane, not padded
    """

    level0: Frame

    @property
    def levels(self) -> int:
        """How many there are; the last one is no larger than a tile."""
        return 1 + (-(-max(self.level0.width, self.level0.height) // TILE) - 1).bit_length()

    def frame(self, level: int) -> Frame:
        """The plane of a level, padded."""
        coarsest, n = 2 ** (self.levels - 1), 2**level
        width, height = (-(-side // coarsest) * coarsest // n for side in (self.level0.width, self.level0.height))
        return Frame(width, height, self.level0.mpp * n, self.level0.mpp_y * n)

    def tile(self, level: int, column: int, row: int) -> Box | None:
        """The pixels of a tile and of its overlap in `frame(level)`, cut at its edge; None for no such tile."""
        if not (0 <= level < self.levels and column >= 0 and row >= 0):
            return None
        cell, plane = Box(column * TILE, row * TILE, TILE, TILE), self.frame(level).box
        return cell.grow(OVERLAP).overlap(plane) if cell.overlap(plane) else None
