"""Layers of objects over the slide: their classes, their colours, and the list of objects."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import PALETTE, Colour
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Box, Frame
from wsiseg.viewer.layer import Layer, painted_palette
from wsiseg.viewer.shapes import Shapes
from wsiseg.viewer.style import FILL_ALPHA, GREY, Style

MOST_CLASSES = 120
LINE = 128  # index of a class's outline, above that of its area
CASING = 255  # index of the light seam along outlines, so that thin lines are seen on dark nuclei
CASING_COLOUR = (255, 255, 255, 190)
MARGIN = 3  # px around a tile in which its rims and seams may begin
UNNAMED = "no class"
IGNORED = ("Ignore", "Ignore*")
STATES = ("unreviewed", "accepted", "rejected", "gone")  # what is gone is neither shown nor written
UNREVIEWED, ACCEPTED, REJECTED, GONE = range(4)


_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
# Where all px that have a neighbour on one of the four sides lie, and where these neighbours do
PAIRS = (
    ((_FIRST, _ALL), (_LAST, _ALL)), ((_LAST, _ALL), (_FIRST, _ALL)),
    ((_ALL, _FIRST), (_ALL, _LAST)), ((_ALL, _LAST), (_ALL, _FIRST)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """What some objects become.

    Attributes:
        numbers: int64 (k,), which objects
        state: int8 (k,), places in `STATES`
        label: int16 (k,), places in the names of the layer's classes
    """

    numbers: NDArray[np.int64]
    state: NDArray[np.int8]
    label: NDArray[np.int16]


class OutlineLayer(Layer):
    """The objects of one file (or of one comparison). Several threads may use it.

    Args:
        name: what people call it
        regions: in level-0 pixels
        level0: their plane
        given: class -> colour, where the file or another layer says it; the others take the colour-blind-safe palette
        more: classes that no object has yet, to choose from in a review
        kind: "outlines" or "agreement"

    Attributes:
        names, colours: of the classes, in the order of their numbers
        polygons: those of the file, then those that were drawn
        from_file: how many are from the file
        state: int8 (n,), a place in `STATES` for each object
        label: int16 (n,), the class of each object as a place in `names`

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
        self.name, self.kind, self.polygons, self.from_file, self.reviewed = (
            name,
            kind,
            list(regions),
            len(regions),
            False,
        )
        named = [region.label if region.label is not None else UNNAMED for region in regions]
        self.names = list(dict.fromkeys([*sorted(set(named) - {UNNAMED}), *more, *([UNNAMED] * (UNNAMED in named))]))
        if len(self.names) > MOST_CLASSES:
            raise AnnotationError(
                f"{name} has {len(self.names)} classes, and {MOST_CLASSES} can be shown: merge some of them."
            )
        self.colours = _colours(self.names, given or {})
        number = {n: i for i, n in enumerate(self.names)}
        self.label = np.fromiter((number[n] for n in named), np.int16, len(named))
        self.state = np.zeros(len(named), np.int8)
        self.shapes = Shapes([region.polygon for region in regions], level0)
        self._um2 = level0.mpp * level0.mpp_y  # of a px
        self._measured = sorted({key for region in regions for key in region.measurements})
        self._scored = any(region.score is not None for region in regions)
        self._lock = threading.RLock()
        self._lookup: tuple[int, Shapes, NDArray[np.int16], NDArray[np.int16]] | None = None
        self._orders: dict[tuple[str, bool], NDArray[np.int64]] = {}

    def describe(self) -> dict[str, Any]:
        """See `Layer.describe`; rejected objects are a class of their own."""
        with self._lock:
            counts = np.bincount(self._looked_up()[2], minlength=len(self.names) + 1).tolist()
            states = dict(zip(STATES, np.bincount(self.state, minlength=len(STATES)).tolist(), strict=True))
        rows = zip((*self.names, "Rejected"), (*self.colours, GREY), counts, strict=False)
        classes = [{"name": name, "colour": list(colour), "count": count} for name, colour, count in rows]
        return {
            "name": self.name, "kind": self.kind, "revision": self.revision,
            "objects": len(self.polygons) - states.pop(STATES[GONE]), "states": states, "reviewable": self.reviewed,
            "classes": classes if states["rejected"] else classes[:-1],
            "sorts": ["area", *(["score"] if self._scored else []), "place", *self._measured],
        }  # fmt: skip

    def add(self, drawn: Sequence[LabelledPolygon]) -> NDArray[np.int64]:
        """Append objects, which are gone until a change says otherwise; returns their numbers, int64 (k,)."""
        with self._lock:
            numbers = np.arange(len(self.polygons), len(self.polygons) + len(drawn))
            labels = [self.names.index(region.label or UNNAMED) for region in drawn]
            self.shapes = Shapes([region.polygon for region in drawn], self.shapes.level0, self.shapes)
            self.polygons += drawn
            self.label = np.concatenate([self.label, np.array(labels, np.int16)])
            self.state = np.concatenate([self.state, np.full(len(drawn), GONE, np.int8)])
            self.revision += 1
            self._orders.clear()
            return numbers

    def apply(self, change: Change) -> Change:
        """Make a change; returns the one that takes it back."""
        with self._lock:
            chosen = change.numbers
            before = Change(chosen, self.state[chosen], self.label[chosen])
            self.state[chosen], self.label[chosen] = change.state, change.label
            self.revision += 1
            return before

    def _looked_up(self) -> tuple[int, Shapes, NDArray[np.int16], NDArray[np.int16]]:
        """Revision, shapes, the class in whose colour each object is drawn, and that of every number that `Shapes.paint`
        gives; made again after a change. Rejected objects have a class of their own, and gone ones another."""
        with self._lock:
            if self._lookup is None or self._lookup[0] != self.revision:
                classes = np.where(self.state >= REJECTED, len(self.names) - REJECTED + self.state, self.label)
                classes = classes.astype(np.int16)
                by_rank = np.concatenate([np.zeros(1, np.int16), classes[self.shapes.ranked]])
                self._lookup = (self.revision, self.shapes, classes, by_rank)
            return self._lookup

    def tile(self, box: Box, frame: Frame, style: Style) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Layer.tile`: 1 + class inside an object, `LINE` + class on its rim (its outermost two pixels).

        Where areas are not filled, the rim has a light seam of one pixel on both sides.
        """
        _, shapes, classes, by_rank = self._looked_up()
        gone = len(self.names) + 1
        hidden = style.hidden | ({gone} if classes.max(initial=0) == gone else set())
        shown = ~np.isin(classes, list(hidden)) if hidden else None
        painted = shapes.paint(box.grow(MARGIN), frame, shown)
        rim, seam = _lines(painted)
        inner = painted[MARGIN:-MARGIN, MARGIN:-MARGIN]
        found = by_rank[inner]
        index = np.where(inner == 0, 0, np.where(rim, LINE + found, 1 + found)).astype(np.uint8)
        if not style.fill:
            index[seam] = CASING
        colours = (*self.colours, GREY)
        palette = painted_palette(colours, style, FILL_ALPHA if style.fill else 0)
        palette[LINE : LINE + len(colours)] = palette[1 : 1 + len(colours)]
        palette[LINE : LINE + len(colours), 3] = 255
        palette[CASING] = CASING_COLOUR
        return index, palette

    def at(self, x: float, y: float, below: int = GONE) -> int | None:
        """The number of the topmost object at a point in level-0 px whose state is below one; None if there is none."""
        with self._lock:
            return self.shapes.at(x, y, self.state < below)

    def listed(
        self, key: str, descending: bool, *, label: int | None = None, state: int | None = None
    ) -> NDArray[np.int64] | None:
        """The objects, sorted.

        Args:
            key: "area", "score", "place" (as in the file) or a measurement; objects without the value come last
            descending: the largest first
            label: only those of this class
            state: only those of this state of review

        Returns:
            int64 (k,); None for another key
        """
        with self._lock:
            if (key, descending) not in self._orders:
                values = self._values(key)
                if values is None:
                    return None
                # NaN goes to the end either way
                self._orders[key, descending] = np.argsort(-values if descending else values, kind="stable")
            order = self._orders[key, descending]
            keep = self.state[order] == state if state is not None else self.state[order] != GONE
            if label is not None:
                keep &= self.label[order] == label
            return order[keep]

    def _values(self, key: str) -> NDArray[np.float64] | None:
        if key == "area":
            return self.shapes.area_px
        if key == "place":
            return np.arange(len(self.polygons), dtype=np.float64)
        if key == "score" and self._scored:
            return np.array([np.nan if r.score is None else r.score for r in self.polygons], np.float64)
        if key in self._measured:
            return np.array([region.measurements.get(key, np.nan) for region in self.polygons], np.float64)
        return None

    def row(self, number: int) -> dict[str, Any]:
        """One object as JSON values: bounds in level-0 px, area in µm²."""
        region = self.polygons[number]
        return {
            "n": number,
            "label": self.names[self.label[number]],
            "area": round(float(self.shapes.area_px[number]) * self._um2, 3),
            "score": None if region.score is None else round(region.score, 4),
            "state": STATES[self.state[number]],
            "drawn": number >= self.from_file,
            "bounds": [round(float(v), 2) for v in self.shapes.bounds[number]],
            "measurements": dict(list(region.measurements.items())[:40]),
        }


def _colours(names: Sequence[str], given: dict[str, Colour]) -> list[Colour]:
    """The given colours; for other names those that everybody can distinguish and that no name has yet; grey for what
    is ignored or unnamed."""
    plain = [n for n in names if n not in given and n not in (*IGNORED, UNNAMED)]
    free = [colour for colour in PALETTE if colour not in given.values()] or PALETTE
    colours = {name: free[i % len(free)] for i, name in enumerate(plain)}
    return [given.get(n) or colours.get(n, GREY) for n in names]


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
    for own, side in PAIRS:
        outside[own] |= painted[own] < painted[side]
        edge[own] |= painted[own] > painted[side]
    rim = _grown(edge, painted)
    seam = (_grown(rim, painted) | outside) & ~rim
    middle = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return rim[middle], seam[middle]


def _grown(marked: NDArray[np.bool_], painted: NDArray[np.int32]) -> NDArray[np.bool_]:
    """The marked px and their neighbours of the same object."""
    found = marked.copy()
    for own, side in PAIRS:
        found[own] |= marked[side] & (painted[own] == painted[side])
    return found & (painted > 0)
