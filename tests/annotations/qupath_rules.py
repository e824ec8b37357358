"""Every rule that a GeoJSON file must keep so that QuPath 0.4 to 0.8 opens it, as a check that stops at a breach.

Independent of the writer on purpose: it parses the text with the standard library and looks at each feature alone.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import shapely
from shapely.geometry import shape

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def check_file(path: Path, *, legacy: bool = False, mixed: bool = False) -> list[dict[str, Any]]:
    """AssertionError at the first broken rule; otherwise the features. `mixed` allows annotations beside detections."""
    assert path.name.endswith(SUFFIXES), "QuPath goes by these suffixes"
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    tree = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    assert tree["type"] == "FeatureCollection"
    assert set(tree) <= {"type", "properties", "features"}
    colours: dict[str, list[int]] = {}
    for number, feature in enumerate(tree["features"], 1):
        try:
            check_feature(feature, legacy=legacy)
        except AssertionError as error:
            raise AssertionError(f"feature {number}: {error}") from error
        named = feature["properties"].get("classification")
        if named:
            assert colours.setdefault(named["name"], named["color"]) == named["color"], "one colour a class"
    ids = [feature["id"] for feature in tree["features"]]
    assert len(set(ids)) == len(ids), "an id occurs twice"
    kinds = {feature["properties"]["objectType"] for feature in tree["features"]}
    assert mixed or len(kinds) <= 1, "one kind of object in a file"
    _check_numbers(text)
    assert geojson.loads(text).is_valid, "the geojson package finds errors"
    return tree["features"]


def check_feature(feature: dict[str, Any], *, legacy: bool = False) -> None:
    assert set(feature) == {"type", "id", "geometry", "properties"}
    assert feature["type"] == "Feature"
    assert not _has_null(feature), "a null is refused"
    assert UUID.fullmatch(feature["id"]), "anything but a UUID is replaced at random"
    properties = feature["properties"]
    allowed = {"objectType", "classification", "measurements"} | ({"object_type"} if legacy else set())
    assert set(properties) <= allowed
    assert properties["objectType"] in ("annotation", "detection")
    if legacy:
        assert properties["object_type"] == properties["objectType"]
    if "classification" in properties:
        check_class(properties["classification"], legacy=legacy)
    if "measurements" in properties:
        check_measurements(properties["measurements"], legacy=legacy)
    check_geometry(feature["geometry"])


def check_class(named: dict[str, Any], *, legacy: bool) -> None:
    assert set(named) == {"name", "color"} | ({"colorRGB"} if legacy else set()), "a name needs a colour"
    assert isinstance(named["name"], str)
    assert all(part.strip() for part in named["name"].split(":")), "blank names are refused"
    assert "\n" not in named["name"]
    assert isinstance(named["color"], list)
    red, green, blue = named["color"]
    assert all(type(c) is int and 0 <= c <= 255 for c in (red, green, blue))
    if legacy:
        assert -(2**31) <= named["colorRGB"] < 0, "opaque, in a signed 32-bit integer"
        assert named["colorRGB"] & 0xFFFFFF == red << 16 | green << 8 | blue


def check_measurements(measured: Any, *, legacy: bool) -> None:
    if legacy:
        assert isinstance(measured, list)
        assert all(set(item) == {"name", "value"} for item in measured)
        pairs = [(item["name"], item["value"]) for item in measured]
    else:
        assert isinstance(measured, dict)
        pairs = list(measured.items())
    assert pairs, "left out when empty"
    for name, value in pairs:
        assert isinstance(name, str)
        assert type(value) in (int, float), "a word for a number is refused"
        assert math.isfinite(value)


def check_geometry(geometry: dict[str, Any]) -> None:
    assert set(geometry) == {"type", "coordinates"}, "unknown keys of a plane crash the reader"
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    assert geometry["type"] == "Polygon" or len(polygons) > 1
    for rings in polygons:
        assert rings, "a polygon without rings"
        for ring in rings:
            assert len(ring) >= 4
            assert ring[0] == ring[-1], "unclosed rings fail in every version"
            assert all(len(point) == 2 for point in ring)
            assert all(type(v) in (int, float) and math.isfinite(v) for point in ring for v in point)
            points = np.array(ring, dtype=float)
            assert (np.rint(points * 100) / 100 == points).all(), "not on the grid of 0.01 px"
    area = shape(geometry)
    assert area.is_valid, shapely.is_valid_reason(area)
    assert area.area > 0
    snapped = shapely.set_precision(area, 0.01)  # QuPath does this on reading, since 0.6
    assert not snapped.is_empty, "it would collapse"
    assert snapped.is_valid
    assert abs(snapped.area - area.area) <= 0.01 * area.length


def _check_numbers(text: str) -> None:
    for coordinates in re.findall(r'"coordinates":([-\[\]0-9.,eE+]*)', text):
        assert "e" not in coordinates.lower()
        assert not re.search(r"\.\d*0[,\]]|\.\d{3}|-0[,\]]", coordinates), "digits for nothing"


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_null(item) for item in value.values())
    return any(_has_null(item) for item in value) if isinstance(value, list) else value is None


def _refuse(constant: str) -> None:
    raise AssertionError(f"a bare {constant} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), f"a key written twice: {keys}"
    return dict(pairs)
