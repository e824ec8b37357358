"""Repair polygons that people draw and programs round.

The recipe is the one that QuPath 0.5 and 0.8 accept without exception: GEOS' `make_valid` with the method "structure"
(shells are united, holes are taken away, a hole wholly outside becomes a part; what has no area disappears), then, for
writing, snapping to a grid.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

Area: TypeAlias = Polygon | MultiPolygon


def only_areas(geometry: BaseGeometry) -> Area:
    """The polygons of a geometry: one as Polygon, several as MultiPolygon, none as an empty Polygon."""
    parts = shapely.get_parts(geometry)
    nested = shapely.get_type_id(parts) == shapely.GeometryType.GEOMETRYCOLLECTION
    if nested.any():
        return only_areas(MultiPolygon([p for part in parts for p in shapely.get_parts(only_areas(part))]))
    parts = shapely.get_parts(parts)
    keep = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    areas = parts[keep]
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
    mended = geometries.copy()
    valid = shapely.make_valid(geometries[bad], method="structure", keep_collapsed=False)
    mended[bad] = [only_areas(g) for g in valid]
    return mended, bad
