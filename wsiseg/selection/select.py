"""Select the tiles of a slide to work on, and the pixels of them that count.

    Selection(tissue, exclude_artefacts, roi).apply(slide, grid) -> Selected(tiles, masks, identity)

Tiling, training and prediction all choose their tiles here, so that one selection means the same tiles everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely import box as rectangle

from wsiseg.annotations.formats import file_hash, read_annotations
from wsiseg.annotations.intake import on_slide
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import ANY, Rasteriser
from wsiseg.annotations.surround import buffer, outside
from wsiseg.classes import ClassMap
from wsiseg.errors import TissueError
from wsiseg.geometry import Box, Frame
from wsiseg.grid import Grid, Tile
from wsiseg.selection.artefacts import RULES as ARTEFACT_RULES
from wsiseg.selection.artefacts import find_artefacts
from wsiseg.selection.tissue import RULES as TISSUE_RULES
from wsiseg.selection.tissue import TissueMask, tissue_of
from wsiseg.slides.slide import Slide


@dataclass(frozen=True, slots=True)
class Roi:
    """The region of interest: the only places of a slide that are worked on.

    Attributes:
        polygons: in level-0 pixels, of any classes
        source: what they are, as JSON values, for manifests: the hash of their file, which classes were taken, …
        margin_um: µm around each polygon that count as inside
        may_be_empty: the polygons are what a model found, so that none of them is a result; otherwise it is a mistake
    """

    polygons: tuple[LabelledPolygon, ...]
    source: dict[str, Any]
    margin_um: float = 0.0
    may_be_empty: bool = False

    @classmethod
    def read(cls, path: Path, *, margin_um: float = 0.0) -> Roi:
        """All polygons of a file of annotations.

        Raises:
            AnnotationError: the file cannot be read
        """
        return cls(tuple(read_annotations(path).polygons), {"file": file_hash(path)}, margin_um)

    def to_json(self) -> dict[str, Any]:
        """What decides the result, for manifests."""
        return {**self.source, "margin_um": self.margin_um}


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a slide is worked on.

    Attributes:
        tissue: only tiles with tissue
        exclude_artefacts: nothing under blur, pen and bubbles (`wsiseg.selection.artefacts`)
        roi: only tiles that meet these polygons
        annotated: annotations in level-0 pixels whose tiles are taken even where no tissue was found: a person saw
            something there
    """

    tissue: bool = True
    exclude_artefacts: bool = False
    roi: Roi | None = None
    annotated: tuple[LabelledPolygon, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What decides the selection, as JSON values, for manifests. The annotations stand there by themselves."""
        return {
            "tissue": TISSUE_RULES if self.tissue else None,
            "artefacts": ARTEFACT_RULES if self.exclude_artefacts else None,
            "roi": None if self.roi is None else self.roi.to_json(),
        }

    def apply(self, slide: Slide, grid: Grid) -> Selected:
        """Choose the tiles of a slide.

        Args:
            slide: read as a whole at 8 µm/px where tissue or artefacts count
            grid: all tiles

        Raises:
            TissueError: no tile is left
            AnnotationError: the region of interest lies outside the slide
            SlideError: pixels cannot be read
        """
        roi = None
        if self.roi is not None:
            drawn, _ = on_slide("The region of interest", self.roi.polygons, slide)
            roi = tuple(buffer(drawn, self.roi.margin_um, slide.frame))
        if roi == () and self.roi is not None and self.roi.may_be_empty:
            return Selected((), grid, slide.frame, self.to_json(), roi)
        excluded: tuple[LabelledPolygon, ...] = ()
        mask: TissueMask | None = None
        if self.exclude_artefacts:
            artefacts = find_artefacts(slide)
            mask = artefacts.cut_from(artefacts.tissue.grown() if self.tissue else None)
            excluded = artefacts.excluded()
        elif self.tissue:
            mask = tissue_of(slide).grown()
        inside = None if roi is None else _touched(grid, roi, slide.frame)
        added = _touched(grid, self.annotated, slide.frame)
        tiles = tuple(
            tile
            for tile in grid
            if (inside is None or tile in inside)
            and (mask is None or tile in added or mask.fraction(tile.keep, grid.frame) > 0)
        )
        if not tiles:
            where = "inside the region of interest" if roi is not None else "on this slide"
            raise TissueError(
                f"No tissue was found {where}: check it with `wsiseg tissue`, or take all tiles with --no-tissue."
            )
        return Selected(tiles, grid, slide.frame, self.to_json(), roi, excluded)


@dataclass(frozen=True, slots=True)
class Selected:
    """The tiles of one slide.

    Attributes:
        tiles: in grid order
        grid: all tiles
        level0: the plane of the polygons
        identity: what decided the selection, for manifests
        roi: the region of interest with its margin, in level-0 pixels; None: everywhere
        excluded: artefacts, in level-0 pixels
    """

    tiles: tuple[Tile, ...]
    grid: Grid
    level0: Frame
    identity: dict[str, Any]
    roi: tuple[LabelledPolygon, ...] | None = None
    excluded: tuple[LabelledPolygon, ...] = ()

    def masks(self) -> Masks | None:
        """Which pixels of the grid's frame do not count; None where all do."""
        if self.roi is None and not self.excluded:
            return None
        return Masks(
            None if self.roi is None else self._rasteriser(self.roi),
            self._rasteriser(self.excluded) if self.excluded else None,
        )

    def unstated(self, classes: ClassMap, *, beyond_roi: bool = True) -> list[LabelledPolygon]:
        """What the label rasters state nothing about, as polygons of an ignored class.

        Args:
            classes: has the ignored class
            beyond_roi: what lies outside the region of interest too, not only what lies under artefacts
        """
        ignored = classes.ignore_names[0]
        beyond = [outside(self.roi, self.level0, classes)] if beyond_roi and self.roi is not None else []
        return beyond + [replace(polygon, label=ignored) for polygon in self.excluded]

    def _rasteriser(self, polygons: Sequence[LabelledPolygon]) -> Rasteriser:
        """1 inside the polygons, whatever they are called."""
        named = [replace(polygon, label=ANY.names[1]) for polygon in polygons]
        return Rasteriser(named, ANY, self.grid.frame, self.level0)


@dataclass(frozen=True, slots=True)
class Masks:
    """Pixels that do not count: those outside the region of interest, and those under artefacts.

    Attributes:
        inside: 1 inside the region of interest; None: everywhere
        excluded: 1 under artefacts; None: nowhere
    """

    inside: Rasteriser | None
    excluded: Rasteriser | None

    def blank(self, box: Box) -> NDArray[np.bool_]:
        """bool (box.h, box.w): the pixels of a box of the grid's frame that do not count."""
        blank = np.zeros(box.shape, np.bool_)
        if self.inside is not None:
            blank |= self.inside.read(box) == 0
        if self.excluded is not None:
            blank |= self.excluded.read(box) > 0
        return blank


def _touched(grid: Grid, polygons: Iterable[LabelledPolygon], level0: Frame) -> set[Tile]:
    """The tiles whose keep boxes meet one of the polygons."""
    found: set[Tile] = set()
    sx, sy = grid.frame.scale_to(level0)
    for polygon in polygons:
        left, top, right, bottom = polygon.polygon.bounds
        box = Box.from_bounds(int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom)))
        for tile in grid.cells(level0.map(box, to=grid.frame)):
            keep = rectangle(tile.keep.x * sx, tile.keep.y * sy, tile.keep.right * sx, tile.keep.bottom * sy)
            if tile not in found and polygon.polygon.intersects(keep):
                found.add(tile)
    return found
