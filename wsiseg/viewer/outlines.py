"""Layers of objects over the slide: their classes, their colours, and the list of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import PALETTE, Colour
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Box, Frame
from wsiseg.viewer.shapes import Shapes
from wsiseg.viewer.style import FILL_ALPHA, GREY, Style

MOST_CLASSES = 120
LINE = 128  # index of a class's outline, above that of its area
CASING = 255  # index of the light seam along outlines, so that thin lines are seen on dark nuclei
CASING_COLOUR = (255, 255, 255, 190)
MARGIN = 3  # px around a tile in which its rims and seams may begin
UNNAMED = "no class"
IGNORED = ("Ignore", "Ignore*")
STATES = ("unreviewed", "accepted", "rejected")


@dataclass(frozen=True, slots=True)
class Palette:
    """Names and colours of a layer's classes, in the order of their numbers."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...]

    @classmethod
    def of(cls, names: Sequence[str], given: dict[str, Colour] | None = None) -> Palette:
        """Colours that everybody can distinguish, and that no name has yet, for all names that have none; grey for what
        is ignored or unnamed."""
        grey, given = {*IGNORED, UNNAMED}, given or {}
        plain = [n for n in names if n not in grey and n not in given]
        free = [colour for colour in PALETTE if colour not in given.values()] or PALETTE
        colours = {name: free[i % len(free)] for i, name in enumerate(plain)}
        return cls(tuple(names), tuple(given.get(n) or colours.get(n, GREY) for n in names))


class OutlineLayer:
    """The objects of one file (or of one comparison).

    Args:
        name: what people call it
        regions: in level-0 pixels
        level0: their plane
        given: class -> colour, where the file or another layer says it; the others take the colour-blind-safe palette
        more: classes that no object has yet, to choose from in a review
        kind: "outlines" or "agreement"

    Attributes:
        state: int8 (n,), a place in `STATES` for each object
        label: int16 (n,), the class of each object as a place in `palette.names`

    Raises:
        AnnotationError: more classes than a picture has colours for
    """

    def __init__(
        self,
        name: str,
        regions: Sequence[LabelledPolygon],
        level0: Frame,
        *,
        given: dict[str, Colour] | None = None,
        more: Sequence[str] = (),
        kind: str = "outlines",
    ) -> None:
        self.name, self.kind, self.revision, self.polygons = name, kind, 0, regions
        named = [region.label if region.label is not None else UNNAMED for region in regions]
        names = list(dict.fromkeys([*sorted(set(named) - {UNNAMED}), *more, *([UNNAMED] * (UNNAMED in named))]))
        if len(names) > MOST_CLASSES:
            raise AnnotationError(
                f"{name} has {len(names)} classes, and {MOST_CLASSES} can be shown: merge some of them."
            )
        self.palette = Palette.of(names, given)
        self.reviewed = False
        number = {n: i for i, n in enumerate(names)}
        self.label = np.fromiter((number[n] for n in named), np.int16, len(named))
        self.state = np.zeros(len(named), np.int8)
        self.shapes = Shapes(regions, level0)
        self.area_um2 = self.shapes.area_px * (level0.mpp * level0.mpp_y)
        self.score = np.array([np.nan if r.score is None else r.score for r in regions], np.float64)
        self.measured = sorted({key for region in regions for key in region.measurements})
        self._lookup: tuple[int, NDArray[np.int16], NDArray[np.int16]] | None = None
        self._orders: dict[tuple[str, int], NDArray[np.int64]] = {}

    def describe(self) -> dict[str, Any]:
        """See `Layer.describe`."""
        counts = np.bincount(self.drawn_class(), minlength=len(self.palette.names) + 1)
        rows = zip((*self.palette.names, "Rejected"), (*self.palette.colours, GREY), counts.tolist(), strict=True)
        classes = [{"name": name, "colour": list(colour), "count": count} for name, colour, count in rows]
        states = dict(zip(STATES, np.bincount(self.state, minlength=3).tolist(), strict=True))
        return {
            "name": self.name, "kind": self.kind, "revision": self.revision, "objects": len(self.polygons),
            "classes": classes if states["rejected"] else classes[:-1], "states": states, "reviewable": self.reviewed,
            "sorts": ["area", *(["score"] if np.isfinite(self.score).any() else []), "place", *self.measured],
        }  # fmt: skip

    def drawn_class(self) -> NDArray[np.int16]:
        """int16 (n,): the class in whose colour each object is drawn; rejected objects have one of their own."""
        return np.where(self.state == STATES.index("rejected"), len(self.palette.names), self.label).astype(np.int16)

    def _looked_up(self) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """`drawn_class`, and the class of every number that `Shapes.paint` gives; made again after a decision."""
        kept = self._lookup
        if kept is None or kept[0] != self.revision:
            revision, classes = self.revision, self.drawn_class()
            by_rank = np.concatenate([np.zeros(1, np.int16), classes[self.shapes.ranked]])
            kept = self._lookup = (revision, classes, by_rank)
        return kept[1], kept[2]

    def tile(self, box: Box, frame: Frame, style: Style) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Layer.tile`: 1 + class inside an object, `LINE` + class on its rim (its outermost two pixels).

        Where areas are not filled, the rim has a light seam of one pixel on both sides.
        """
        classes, by_rank = self._looked_up()
        shown = ~np.isin(classes, list(style.hidden)) if style.hidden else None
        painted = self.shapes.paint(box.grow(MARGIN), frame, shown)
        rim, seam = _lines(painted)
        inner = painted[MARGIN:-MARGIN, MARGIN:-MARGIN]
        found = by_rank[inner]
        index = np.where(inner == 0, 0, np.where(rim, LINE + found, 1 + found)).astype(np.uint8)
        if not style.fill:
            index[seam] = CASING
        palette = np.zeros((256, 4), np.uint8)
        palette[CASING] = CASING_COLOUR
        for number, own in enumerate((*self.palette.colours, GREY)):
            colour = style.colours.get(number, own)
            palette[1 + number] = (*colour, FILL_ALPHA if style.fill else 0)
            palette[LINE + number] = (*colour, 255)
        return index, palette

    def order(self, key: str, descending: bool) -> NDArray[np.int64] | None:
        """All objects sorted by "area", "score", "place" (as in the file) or a measurement; None for another key.

        Objects without the value come last either way.
        """
        if key not in self.describe()["sorts"]:
            return None
        if (key, descending) not in self._orders:
            value = self._values(key)
            value = -value if descending else value
            self._orders[key, descending] = np.argsort(value, kind="stable")  # NaN goes to the end
        return self._orders[key, descending]

    def _values(self, key: str) -> NDArray[np.float64]:
        if key == "area":
            return self.area_um2
        if key == "score":
            return self.score
        if key == "place":
            return np.arange(len(self.polygons), dtype=np.float64)
        return np.array([region.measurements.get(key, np.nan) for region in self.polygons], np.float64)

    def listed(
        self, key: str, descending: bool, *, label: int | None = None, state: int | None = None
    ) -> NDArray[np.int64] | None:
        """As `order`, only objects of one class and one state of review."""
        order = self.order(key, descending)
        if order is None:
            return None
        keep = np.ones(len(order), np.bool_)
        if label is not None:
            keep &= self.label[order] == label
        if state is not None:
            keep &= self.state[order] == state
        return order[keep]

    def row(self, number: int) -> dict[str, Any]:
        """One object as JSON values: bounds in level-0 px, area in µm²."""
        region = self.polygons[number]
        return {
            "n": number,
            "label": self.palette.names[self.label[number]],
            "area": round(float(self.area_um2[number]), 3),
            "score": None if region.score is None else round(region.score, 4),
            "state": STATES[self.state[number]],
            "bounds": [round(float(v), 2) for v in self.shapes.bounds[number]],
            "measurements": dict(list(region.measurements.items())[:40]),
        }


def _lines(painted: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The rims of painted objects and the seams along them.

    A rim is what lies within two px of an object's edge. Where two objects meet, the rim is that of the upper one
    alone. A seam is the next px inside it, and the px outside it, unless that one is the rim of another object.

    Args:
        painted: (h + 2 * MARGIN, w + 2 * MARGIN) from `Shapes.paint`

    Returns:
        two bool (h, w)
    """
    outside, edge = np.zeros(painted.shape, np.bool_), np.zeros(painted.shape, np.bool_)
    for own, side in _pairs(painted):
        outside[own] |= painted[own] < painted[side]
        edge[own] |= painted[own] > painted[side]
    rim = _grown(edge, painted)
    seam = (_grown(rim, painted) | outside) & ~rim
    middle = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return rim[middle], seam[middle]


def _pairs(array: NDArray[Any]) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Where all px that have a neighbour on one of the four sides lie, and where these neighbours do."""
    whole, first, last = slice(None), slice(None, -1), slice(1, None)
    yield (first, whole), (last, whole)
    yield (last, whole), (first, whole)
    yield (whole, first), (whole, last)
    yield (whole, last), (whole, first)


def _grown(marked: NDArray[np.bool_], painted: NDArray[np.int32]) -> NDArray[np.bool_]:
    """The marked px and their neighbours of the same object."""
    found = marked.copy()
    for own, side in _pairs(painted):
        found[own] |= marked[side] & (painted[own] == painted[side])
    return found & (painted > 0)
