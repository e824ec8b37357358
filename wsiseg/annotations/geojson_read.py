"""Read annotations from GeoJSON, in every dialect that QuPath 0.2 to 0.8 has written.

Sources: RFC 7946 (GeoJSON), and what QuPath exports in practice. Beyond the RFC there are arrays of features or
geometries, bare geometries, features without a type, `isEllipse`, classes in four spellings, bare NaN, nested
`childObjects`, ZIP archives. What cannot be understood raises; what is not an area (points, lines, collapsed shapes) is
left out and counted; what is invalid is repaired and counted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from wsiseg.annotations.bulk import Lifted, lift
from wsiseg.annotations.gather import Area, Gathering, check_near, check_text, closed, ellipse, hex_colour, make_valid
from wsiseg.annotations.json_file import load_texts, no_collection, parse_json
from wsiseg.annotations.polygon import FLAT, Annotations, Details, LabelledPolygon
from wsiseg.classes import Colour, canonical_name
from wsiseg.errors import AnnotationError

# The name under which `LabelledPolygon.score` travels among the measurements of a feature.
SCORE = "score"

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
GEOMETRIES = ("Polygon", "MultiPolygon", "GeometryCollection", *NO_AREA)
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
LIFTED_FROM = 2**20  # bytes of a text whose coordinates are read apart
DEEPEST = 100  # parents of a class, and children of an object

# How QuPath says what an object is: since 0.4 as `objectType`, in 0.3 as `object_type`, before in place of the id.
KINDS = {
    "annotation": "annotation", "detection": "detection", "cell": "cell", "tile": "tile", "tmacore": "tmaCore",
    "root": "root",
    "pathannotationobject": "annotation", "pathdetectionobject": "detection", "pathcellobject": "cell",
    "pathtileobject": "tile", "tmacoreobject": "tmaCore", "pathrootobject": "root",
}  # fmt: skip

SIMPLE = frozenset({"name", "color", "colorRGB"})  # members of a classification without parents

# Properties that mean something here; all others are handed on as they are.
USUAL = frozenset({"objectType", "object_type", "classification", "measurements"})
KNOWN = USUAL | {"name", "color", "colorRGB", "isLocked", "metadata", "childObjects"}

Json = Mapping[str, Any]


def read_geojson(path: Path) -> Annotations:
    """Read an annotation file, plain, gzipped or in a ZIP archive.

    Args:
        path: a FeatureCollection, an array of features, one feature or a bare geometry; of an archive all such files

    Returns:
        Polygons in level-0 pixels, in the file's order, an object before the objects nested in it.

    Raises:
        AnnotationError: the file is missing, cut short, no JSON, no GeoJSON, or has values of the wrong type.
    """
    texts = load_texts(path)
    with no_collection():
        found = _read(path, texts, LIFTED_FROM)
        if found is None:  # the usual way, which also says what is wrong
            found = _read(path, texts, None)
    assert found is not None
    found.check_origin(path)
    return found


def _read(path: Path, texts: Sequence[bytes], lifted_from: int | None) -> Annotations | None:
    """What is in the JSON texts of a file.

    Args:
        path: for messages
        texts: as they are in the file
        lifted_from: bytes from which on the coordinates of a text are taken out of it first; None: they never are

    Returns:
        None where coordinates were taken out and the rest cannot be understood without them.
    """
    reader = FeatureReader(path)
    origin: Any = None
    for raw in texts:
        reader.lifted = lift(raw) if lifted_from is not None and len(raw) >= lifted_from else None
        try:
            tree = parse_json(path, raw) if reader.lifted is None else orjson.loads(reader.lifted.text)
            reader.root(tree)
        except RecursionError:
            if reader.lifted is None:
                raise AnnotationError(f"{path} is nested too deeply to be GeoJSON: give another file.") from None
            return None
        except (AnnotationError, orjson.JSONDecodeError):
            if reader.lifted is None:
                raise
            return None
        if reader.lifted is not None and not reader.lifted.all_taken:  # they were no outlines, but a property
            return None
        origin = origin or (tree.get("properties") if isinstance(tree, dict) and "features" in tree else None)
    return reader.found.annotations(origin if isinstance(origin, dict) else {})


class FeatureReader:
    """Walks trees and gathers polygons; holds what is needed to name the place of a fault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = Gathering()
        self.labels: dict[str, str | None] = {}
        self.plain: dict[str | None, Details] = {}
        self.lifted: Lifted | None = None

    def fail(self, where: str, what: str) -> AnnotationError:
        return AnnotationError(f"{self.path}: {where} {what}; correct it there or export the annotations again.")

    def root(self, tree: Any) -> None:
        head = tree if isinstance(tree, dict) else {}
        kind = head.get("type")
        if "features" in head or kind == "FeatureCollection":
            tree = head.get("features")
            if not isinstance(tree, list):
                raise self.fail("the FeatureCollection", "has no list of features")
        elif kind == "Feature" or "geometry" in head or kind in GEOMETRIES:
            tree = [head]
        elif "images" in head and "annotations" in head:
            raise AnnotationError(f"{self.path} is a COCO file, which is only written, never read: give it as GeoJSON.")
        elif not isinstance(tree, list):
            raise AnnotationError(
                f"{self.path} is JSON but not GeoJSON: give a FeatureCollection as QuPath exports it."
            )
        for number, feature in enumerate(tree, 1):
            self.feature(feature, f"feature {number}")

    def feature(self, feature: Any, where: str, depth: int = 0) -> None:
        """Take a feature, with or without its type, or a bare geometry, and the objects nested in it."""
        if isinstance(feature, dict) and feature.get("type") in GEOMETRIES:
            feature = {"geometry": feature}
        if not isinstance(feature, dict) or not (feature.get("type") == "Feature" or "geometry" in feature):
            raise self.fail(where, "is not a GeoJSON Feature")
        if depth > DEEPEST:
            raise self.fail(where[:80] + "…", "is nested too deeply")
        properties = {} if feature.get("properties") is None else feature["properties"]
        if not isinstance(properties, dict):
            raise self.fail(where, "has properties that are no JSON object")
        kind = self.kind(feature, properties)
        if feature.get("geometry") is None:  # allowed by RFC 7946, and what the root of a hierarchy looks like
            self.found.skip("without geometry")
        elif kind == "root":
            self.found.skip("root of the hierarchy")
        else:
            shape, patched = self.geometry(feature["geometry"], where)
            if shape is not None:
                name = feature.get("id")
                uuid = name.lower() if isinstance(name, str) and UUID.fullmatch(name) else None
                label = self.label(properties.get("classification"), where)
                measured = self.measurements(properties.get("measurements"), where)
                score = measured.pop(SCORE) if 0 <= measured.get(SCORE, -1) <= 1 else None
                details = self.details(feature, properties, kind, where)
                self.found.add(LabelledPolygon(shape, label, score, uuid, measured, details), patched)
        children = properties.get("childObjects", feature.get("childObjects")) or []
        if not isinstance(children, list):
            raise self.fail(where, "has childObjects that are no list")
        for number, child in enumerate(children, 1):
            self.feature(child, f"{where}, child {number}", depth + 1)

    def kind(self, feature: Json, properties: Json) -> str | None:
        """The type of the object in the words of QuPath 0.4; None if the file does not say."""
        for said in (properties.get("objectType"), properties.get("object_type"), feature.get("id")):
            if isinstance(said, str) and (kind := KINDS.get(said) or KINDS.get(said.lower())):
                return kind
        return None

    def details(self, feature: Json, properties: Json, kind: str | None, where: str) -> Details:
        plane = feature["geometry"].get("plane")
        if plane is None and properties.keys() <= USUAL and "nucleusGeometry" not in feature:
            if kind not in self.plain:
                self.plain[kind] = Details(kind)
            return self.plain[kind]
        metadata = properties.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise self.fail(where, "has metadata that are no JSON object")
        return Details(
            kind,
            _text(properties.get("name")),
            properties.get("isLocked") is True,
            self.colour(properties.get("color", properties.get("colorRGB"))),
            self.plane(plane, where),
            self.nucleus(feature.get("nucleusGeometry"), where),
            {key: text for key, value in (metadata or {}).items() if (text := _text(value)) is not None},
            {key: value for key, value in properties.items() if key not in KNOWN and value is not None},
        )

    def plane(self, value: Any, where: str) -> tuple[int, int, int]:
        if value is None:
            return FLAT
        if not isinstance(value, dict):
            raise self.fail(where, "has a plane that is not a JSON object")
        place = [value.get(axis, usual) for axis, usual in zip("czt", FLAT, strict=True)]
        if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 2**31 for n in place):
            raise self.fail(where, "has a plane whose c, z or t is not a whole number")
        channel, z, t = map(int, place)
        return channel, max(z, 0), max(t, 0)

    def nucleus(self, value: Any, where: str) -> Area | None:
        if value is None:
            return None
        shape, _ = self.geometry(value, f"{where}, its nucleus,")
        valid: Area | None = shape and make_valid(np.array([shape], dtype=object))[0][0]
        return valid or None  # an empty polygon is false

    def colour(self, value: Any) -> Colour | None:
        """[r, g, b], or the packed integer of QuPath up to 0.3, or #rrggbb; anything else is counted."""
        if value is None:
            return None
        if isinstance(value, list) and len(value) in (3, 4) and all(type(c) is int and 0 <= c <= 255 for c in value):
            return value[0], value[1], value[2]
        if type(value) is int and -(1 << 31) <= value < 1 << 32:
            return value >> 16 & 255, value >> 8 & 255, value & 255
        if isinstance(value, str) and (colour := hex_colour(value)):
            return colour
        self.found.skip("unreadable colour")
        return None

    def label(self, value: Any, where: str) -> str | None:
        """`"A: B"`, `{"name": …}`, `{"names": [A, B]}` or, up to 0.3, `{"name": B, "parentClass": {"name": A}}`."""
        if value is None:
            return None
        if not isinstance(value, dict):
            value = {"name": value}
        if value.keys() <= SIMPLE and type(value.get("name")) is str and value["name"] in self.labels:  # nearly always
            return self.labels[value["name"]]
        parts: list[str] = []
        level: Any = value
        for _ in range(DEEPEST):
            names = level["names"] if level.get("names") is not None else [level.get("name")]
            if not isinstance(names, list):
                raise self.fail(where, "has a classification whose names are no list")
            if any(isinstance(name, dict | list) for name in names):
                raise self.fail(where, "has a classification whose name is not text")
            parts[:0] = [text for name in names if (text := _text(name))]
            level = level.get("parentClass")
            if level is None:
                break
            if not isinstance(level, dict):
                level = {"name": level}
        else:
            raise self.fail(where, f"has a class with more than {DEEPEST} parents")
        given = ":".join(parts)
        if given not in self.labels:
            label = canonical_name(given) or None
            check_text(label or "", f"{self.path}: the class of {where}")
            self.labels[given] = label
            if label and (colour := self.colour(value.get("color", value.get("colorRGB")))):
                self.found.colour(label, colour)
        return self.labels[given]

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
                raise self.fail(where, f"has the measurement {repr(name)[:40]}, which is not a number")
            if math.isfinite(number):
                finite[name] = float(number)
        return finite

    def geometry(self, value: Any, where: str) -> tuple[Area | None, bool]:
        """The area of a geometry (None and a count if it has none), and whether a ring had to be patched."""
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in NO_AREA:
            self.found.skip(kind)
            return None, False
        if self.lifted and kind == "Polygon" and (known := self.lifted.take(value.get("coordinates"))) is not None:
            return (ellipse(*known.bounds) if value.get("isEllipse") is True else known), False
        found = [self.polygon(rings, where) for rings in self.polygons(value, where)]
        parts = [polygon for polygon, _ in found if polygon is not None]
        if not parts:
            if kind != "GeometryCollection":
                self.found.skip("collapsed" if value["coordinates"] else "empty")
            return None, False
        area = parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
        whole = ellipse(*area.bounds) if value.get("isEllipse") is True else area
        return whole, any(patched for _, patched in found)

    def polygons(self, value: Any, where: str) -> Iterator[Any]:
        """The ring lists of all polygons of a geometry; what else a collection holds is counted."""
        kind = value.get("type") if isinstance(value, dict) else None
        field = "geometries" if kind == "GeometryCollection" else "coordinates"
        if self.lifted and kind == "Polygon" and (known := self.lifted.take(value.get(field))) is not None:
            yield known
            return
        if kind not in GEOMETRIES:
            raise self.fail(where, f"has a geometry of the unknown type {repr(kind)[:40]}")
        if not isinstance(value.get(field), list):
            raise self.fail(where, f"has a {kind} without {field}")
        if kind == "GeometryCollection":
            for member in value[field]:
                yield from self.polygons(member, where)
        elif kind == "MultiPolygon":
            yield from value[field]
        elif kind == "Polygon":
            yield from [value[field]] if value[field] else ()
        else:
            self.found.skip(kind)

    def polygon(self, rings: Any, where: str) -> tuple[Polygon | None, bool]:
        """A polygon, not yet known to be valid, of a shell and holes; None if the shell has under three corners.

        The second value says whether a ring had to be closed or a hole without area left out.
        """
        if isinstance(rings, Polygon):
            return rings, False
        if not isinstance(rings, list):
            raise self.fail(where, "has a polygon that is not a list of rings")
        patched, lines = False, []
        for ring in rings:
            points = given = self.ring(ring, where)
            if not len(given) or ring[0] != ring[-1]:  # lists compare much faster than arrays
                points = closed(given)
            if len(points) >= 4:
                lines.append(shapely.linearrings(points))
            elif not lines:
                return None, False
            patched |= len(points) != len(given) or len(points) < 4
        return (shapely.polygons(lines[0], holes=lines[1:] or None) if lines else None), patched

    def ring(self, ring: Any, where: str) -> NDArray[np.float64]:
        """(n, 2) finite x, y of one ring; heights (a third number) are left out."""
        points = _array(ring)
        if points is None:  # some points have two numbers and others three
            points = _array([p[:2] if isinstance(p, list) else p for p in ring])
        if points is not None and points.size == 0:
            return np.empty((0, 2))
        if points is None or points.ndim != 2 or points.shape[1] < 2 or points.dtype.kind not in "iuf":
            raise self.fail(where, "has a ring that is not a list of [x, y]")
        points = points[:, :2].astype(np.float64)
        check_near(points, self.path, where)
        return points


def _text(value: Any) -> str | None:
    """A JSON value as text, as QuPath understands it; None for null."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _array(ring: Any) -> NDArray[Any] | None:
    """A JSON value as an array; None if its lists have different lengths."""
    try:
        return np.array(ring)
    except ValueError:
        return None
