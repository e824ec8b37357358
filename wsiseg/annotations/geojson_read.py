"""Annotations out of GeoJSON, in every dialect that QuPath 0.2 to 0.8 has written.

Sources: RFC 7946 (GeoJSON), and what QuPath exports in practice. Beyond the RFC there are arrays of features, bare
geometries, `isEllipse`, classes in four spellings, bare NaN, nested `childObjects`. What cannot be understood raises;
what is no area (points, lines, collapsed shapes) is left out and counted; what is invalid is repaired and counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from wsiseg.annotations.gather import Gathering, closed, ellipse
from wsiseg.annotations.json_file import load_bytes, no_collection, parse_json
from wsiseg.annotations.polygon import Annotations
from wsiseg.annotations.validity import Area
from wsiseg.errors import AnnotationError

# The name under which `LabelledPolygon.score` travels among the measurements of a feature.
SCORE = "score"

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
NOT_FINITE = ("NaN", "Infinity", "-Infinity")

Json = Mapping[str, Any]


def read_geojson(path: Path) -> Annotations:
    """Read an outline file, plain or gzipped.

    Args:
        path: a FeatureCollection, an array of features, one feature or a bare geometry

    Returns:
        The outlines in level-0 pixels, in the file's order, an object before the objects nested in it.

    Raises:
        AnnotationError: the file is missing, cut short, no JSON, no GeoJSON, or has values of the wrong type.
    """
    reader = _Reader(path)
    with no_collection():
        tree = parse_json(path, load_bytes(path))
        reader.root(tree)
    origin = tree.get("properties") if isinstance(tree, dict) and tree.get("type") == "FeatureCollection" else None
    return reader.found.outlines(origin if isinstance(origin, dict) else {})


class _Reader:
    """Walks one tree and gathers polygons; holds what is needed to name the place of a fault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = Gathering()

    def fail(self, where: str, what: str) -> AnnotationError:
        return AnnotationError(f"{self.path}: {where} {what}; correct it there or export the outlines again.")

    def root(self, tree: Any) -> None:
        kind = tree.get("type") if isinstance(tree, dict) else None
        if isinstance(tree, list):
            features = tree
        elif kind == "FeatureCollection":
            features = tree.get("features")
            if not isinstance(features, list):
                raise self.fail("the FeatureCollection", "has no list of features")
        elif kind == "Feature":
            features = [tree]
        elif kind in ("Polygon", "MultiPolygon", "GeometryCollection", *NO_AREA):
            features = [{"type": "Feature", "geometry": tree}]
        elif isinstance(tree, dict) and "images" in tree and "annotations" in tree:
            raise AnnotationError(f"{self.path} is a COCO file, which is only written, never read: give it as GeoJSON.")
        else:
            raise AnnotationError(
                f"{self.path} is JSON but not GeoJSON: give a FeatureCollection as QuPath exports it."
            )
        for number, feature in enumerate(features, 1):
            self.feature(feature, f"feature {number}")

    def feature(self, feature: Any, where: str) -> None:
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise self.fail(where, "is not a GeoJSON Feature")
        properties = feature.get("properties")
        if properties is None:
            properties = {}
        if not isinstance(properties, dict):
            raise self.fail(where, "has properties that are no JSON object")
        if feature.get("geometry") is None:  # allowed by RFC 7946, and what the root of a hierarchy looks like
            self.found.skip("without geometry")
        else:
            shape, patched = self.geometry(feature["geometry"], where)
            if shape is not None:
                name = feature.get("id")
                uuid = name.lower() if isinstance(name, str) and UUID.fullmatch(name) else None
                label = self.label(properties.get("classification"), where)
                measured = self.measurements(properties.get("measurements"), where)
                score = measured.pop(SCORE) if 0 <= measured.get(SCORE, -1) <= 1 else None
                self.found.add(shape, label, score=score, uuid=uuid, measurements=measured, patched=patched)
        children = properties.get("childObjects", feature.get("childObjects")) or []
        if not isinstance(children, list):
            raise self.fail(where, "has childObjects that are no list")
        for number, child in enumerate(children, 1):
            self.feature(child, f"{where}, child {number}")

    def label(self, value: Any, where: str) -> str | None:
        """`"A: B"`, `{"name": …}`, `{"names": [A, B]}` or, up to 0.3, `{"name": B, "parentClass": {"name": A}}`."""
        if value is None:
            return None
        if isinstance(value, str):
            return value.strip() or None
        if not isinstance(value, dict):
            raise self.fail(where, "has a classification that is neither a name nor a JSON object")
        names = value["names"] if value.get("names") is not None else [value.get("name")]
        if not isinstance(names, list) or not all(n is None or isinstance(n, str) for n in names):
            raise self.fail(where, "has a classification whose name is no text")
        parts = [n.strip() for n in names if n is not None and n.strip()]
        parent = self.label(value.get("parentClass"), where)
        return ": ".join([parent, *parts] if parent else parts) or None

    def measurements(self, value: Any, where: str) -> dict[str, float]:
        """Finite numbers by name, from a map or a list of {name, value}."""
        if value is None:
            return {}
        if isinstance(value, dict):
            pairs = list(value.items())
        elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
            pairs = [(item.get("name"), item.get("value")) for item in value]
        else:
            raise self.fail(where, "has measurements that are neither a map nor a list of names and values")
        finite: dict[str, float] = {}
        for name, number in pairs:
            if not isinstance(name, str):
                raise self.fail(where, "has a measurement without a name")
            if number is None or number in NOT_FINITE:
                continue
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise self.fail(where, f"has the measurement {name!r}, which is no number")
            if math.isfinite(number):
                finite[name] = float(number)
        return finite

    def geometry(self, value: Any, where: str) -> tuple[Area | None, bool]:
        """The area of a geometry (None and a count if it has none), and whether a ring had to be patched."""
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in NO_AREA:
            self.found.skip(kind)
            return None, False
        parts: list[Polygon] = []
        patched = False
        for rings in self.polygons(value, where):
            polygon, changed = self.polygon(rings, where)
            patched |= changed
            if polygon is not None:
                parts.append(polygon)
        if not parts:
            if kind != "GeometryCollection":
                self.found.skip("collapsed" if value["coordinates"] else "empty")
            return None, False
        area = parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
        return (ellipse(*area.bounds) if value.get("isEllipse") is True else area), patched

    def polygons(self, value: Any, where: str) -> Iterator[Any]:
        """The ring lists of all polygons of a geometry; what else a collection holds is counted."""
        kind = value.get("type") if isinstance(value, dict) else None
        field = "geometries" if kind == "GeometryCollection" else "coordinates"
        if kind not in ("Polygon", "MultiPolygon", "GeometryCollection", *NO_AREA):
            raise self.fail(where, f"has a geometry of the unknown type {kind!r}")
        if not isinstance(value.get(field), list):
            raise self.fail(where, f"has a {kind} without {field}")
        if kind == "GeometryCollection":
            for member in value[field]:
                yield from self.polygons(member, where)
        elif kind == "MultiPolygon":
            yield from value[field]
        elif kind == "Polygon":
            if value[field]:
                yield value[field]
        else:
            self.found.skip(kind)

    def polygon(self, rings: Any, where: str) -> tuple[Polygon | None, bool]:
        """A polygon, not yet known to be valid, of a shell and holes; None if the shell has under three corners."""
        if not isinstance(rings, list):
            raise self.fail(where, "has a polygon that is no list of rings")
        patched, lines = False, []
        for number, ring in enumerate(rings):
            given = self.ring(ring, where)
            points = closed(given)
            patched |= len(points) != len(given)
            if len(points) >= 4:
                lines.append(shapely.linearrings(points))
            elif number == 0:
                return None, False
            else:
                patched = True  # a hole without area
        return (shapely.polygons(lines[0], holes=lines[1:] or None) if lines else None), patched

    def ring(self, ring: Any, where: str) -> NDArray[np.float64]:
        """(n, 2) finite x, y of one ring; heights (a third number) are left out."""
        try:
            points = np.array(ring)
        except ValueError:  # some points have two numbers and others three
            points = np.array([p[:2] if isinstance(p, list) else p for p in ring], dtype=object)
            points = points.astype(float) if _all_numbers(points) else points
        if points.size == 0:
            return np.empty((0, 2))
        if points.ndim != 2 or points.shape[1] < 2 or points.dtype.kind not in "iuf":
            raise self.fail(where, "has a ring that is no list of [x, y]")
        points = points[:, :2].astype(np.float64)
        if not np.isfinite(points).all():
            raise self.fail(where, "has a coordinate that is no finite number")
        return points


def _all_numbers(points: NDArray[Any]) -> bool:
    return points.ndim == 2 and all(isinstance(v, int | float) for v in points.flat)
