"""Collect the shapes that a reader finds, whatever the format, and repair those that are invalid.

The repair is one that QuPath 0.5 and 0.8 accept without exception: GEOS' `make_valid` with the method "structure"
(shells are united, holes are taken away, a hole wholly outside becomes a part; what has no area disappears), then, for
writing, snapping to a grid.
"""

from __future__ import annotations

import contextlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.classes import Colour
from wsiseg.errors import AnnotationError

Area: TypeAlias = Polygon | MultiPolygon

# An ellipse becomes a polygon that is nowhere further than this from the curve.
ELLIPSE_ERROR_PX = 0.02
MOST_CORNERS = 4096  # of an ellipse; one wider than 130,000 px is less exact

# A coordinate beyond this, in px, is a mistake: no slide is 6 m long at 0.05 µm/px. Up to it, 0.01 px is far above the
# precision of a double.
FARTHEST = float(2**27)


class Gathering:
    """Shapes as they are read, made valid together at the end, which is much faster than one by one."""

    def __init__(self) -> None:
        self._found: list[LabelledPolygon] = []
        self._patched: list[bool] = []
        self._skipped: Counter[str] = Counter()
        self._colours: dict[str, Colour] = {}

    def add(self, found: LabelledPolygon, patched: bool = False) -> None:
        """Take a polygon, valid or not; `patched` if it had to be changed before it was a polygon at all."""
        self._found.append(found)
        self._patched.append(patched)

    def skip(self, kind: str) -> None:
        """Count something that is not an area."""
        self._skipped[kind] += 1

    def colour(self, label: str, colour: Colour) -> None:
        """Note the colour of a class; the first one counts."""
        self._colours.setdefault(label, colour)

    def annotations(self, properties: Mapping[str, Any] | None = None) -> Annotations:
        """All shapes, valid and in order; those without an area are counted instead."""
        valid, changed = make_valid(np.array([p.polygon for p in self._found], dtype=object))
        for i in np.flatnonzero(changed):
            self._found[i] = replace(self._found[i], polygon=valid[i])
        empty = shapely.is_empty(valid)
        skipped = self._skipped + Counter(collapsed=int(empty.sum()))
        repaired = (changed | np.array(self._patched, dtype=bool)) & ~empty
        found = tuple(p for p, none in zip(self._found, empty.tolist(), strict=True) if not none)
        return Annotations(found, dict(skipped), int(repaired.sum()), properties or {}, self._colours)


def only_areas(geometry: BaseGeometry) -> Area:
    """The polygons of a geometry: one as Polygon, several as MultiPolygon, none as an empty Polygon."""
    parts = shapely.get_parts(geometry)
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():  # collections in collections
        parts = shapely.get_parts(parts)
    areas = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)]
    return areas[0] if len(areas) == 1 else shapely.multipolygons(areas) if len(areas) else Polygon()


def make_valid(geometries: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Make every polygon valid.

    Args:
        geometries: (n,) array of polygons and multipolygons, any of them invalid

    Returns:
        (n,) array of valid polygons and multipolygons, empty where nothing with an area was left; and (n,) whether
        each of them had to be changed
    """
    bad = ~shapely.is_valid(geometries)
    if not bad.any():
        return geometries, bad
    valid = geometries.copy()
    valid[bad] = [_repaired(geometry) for geometry in geometries[bad]]
    return valid, bad


def _repaired(area: Area) -> Area:
    # Where edges all but coincide, GEOS may fail or return what is still invalid. Corners rounded to a millionth of a px
    # nearly always help; the other method always works, but makes holes of what two parts of an object share.
    for given in (area, shapely.transform(area, partial(np.round, decimals=6))):
        with contextlib.suppress(shapely.errors.GEOSException):
            found = shapely.make_valid(given, method="structure", keep_collapsed=False)
            if found.is_valid:
                return only_areas(found)
    return only_areas(shapely.make_valid(area))


def check_near(points: NDArray[np.float64], path: Path, where: str) -> None:
    """AnnotationError if a coordinate is not finite or farther away than any slide is large."""
    if not np.abs(points).max(initial=0) <= FARTHEST:  # NaN too
        what = "is farther away than any slide is large" if np.isfinite(points).all() else "is not a finite number"
        raise AnnotationError(f"{path}: {where} has a coordinate that {what}; correct it there or export it again.")


def is_plain(text: str) -> bool:
    """Whether a text has no control character and no half of one, which no file of another format can hold."""
    return text.isprintable() or not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)


def check_text(text: str, what: str) -> None:
    """AnnotationError for a text that is not plain."""
    if not is_plain(text):
        raise AnnotationError(f"{what} is called {text[:40]!r}, which is not plain text: rename it there.")


def hex_colour(text: str) -> Colour | None:
    """The colour that "#rrggbb" means; None for any other text."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        return None
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def closed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) corners of a ring, the first one repeated at the end if it was not."""
    if len(points) and (points[0] != points[-1]).any():
        return np.concatenate([points, points[:1]])
    return points


def ellipse(left: float, top: float, right: float, bottom: float) -> Polygon:
    """The ellipse inside a box, as a polygon that is within `ELLIPSE_ERROR_PX` of it."""
    a, b = (right - left) / 2, (bottom - top) / 2
    # A chord over the angle t stays within r·(1 - cos(t/2)) of its circle.
    step = 2 * math.acos(max(0.5, 1 - ELLIPSE_ERROR_PX / max(a, b, ELLIPSE_ERROR_PX)))
    corners = min(MOST_CORNERS, 4 * math.ceil(2 * math.pi / step / 4))
    angle = 2 * np.pi * np.arange(corners) / corners
    return Polygon(np.stack([left + a + a * np.cos(angle), top + b + b * np.sin(angle)], axis=1))
