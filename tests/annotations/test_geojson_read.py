"""Every dialect of QuPath comes in, and every bad file is refused in one sentence."""

from __future__ import annotations

import gc
import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from shapely import MultiPolygon, Polygon, box

from tests.annotations.qupath_rules import check_file
from wsiseg.annotations.geojson_read import read_geojson
from wsiseg.annotations.geojson_write import write_geojson
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError

SQUARE = [[[0, 0], [0, 10], [10, 10], [10, 0], [0, 0]]]
BOW_TIE = [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]
SHAPE = {"type": "Polygon", "coordinates": SQUARE}

# What real files hold: outlines, repaired, skipped, labels.
VARIANTS: dict[str, tuple[int, dict[str, int], set[str | None]]] = {
    "qupath-brush.json": (1, {}, {None}),
    "qupath-ellipse.json": (1, {}, {None}),
    "qupath-line.json": (0, {"LineString": 1}, set()),
    "qupath-multipoint.json": (0, {"MultiPoint": 1}, set()),
    "qupath-point.json": (0, {"Point": 1}, set()),
    "qupath-polygon-cell-classified.json": (4, {}, {"Cell", "Nucleus"}),
    "qupath-polygon.json": (1, {}, {None}),
    "qupath-polyline.json": (0, {"LineString": 1}, set()),
    "qupath-rectangle.json": (1, {}, {None}),
    "qupath-wand.json": (1, {}, {None}),
    "qupath05.geojson": (3, {}, {None}),
}


def read(tmp_path: Path, content: Any, name: str = "a.geojson") -> Annotations:
    path = tmp_path / name
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_geojson(path)


def feature(geometry: Any = SHAPE, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def only(found: Annotations) -> LabelledPolygon:
    (region,) = found.polygons
    return region


# Real files


def test_there_is_a_line_for_every_variant(annotations: Path) -> None:
    assert {path.name for path in (annotations / "qupath-variants").iterdir()} == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant(annotations: Path, name: str) -> None:
    found = read_geojson(annotations / "qupath-variants" / name)
    assert (len(found.polygons), dict(found.skipped), {r.label for r in found.polygons}) == VARIANTS[name]
    assert found.repaired == 0
    assert all(r.polygon.is_valid and r.polygon.area > 0 for r in found.polygons)


def test_variants_are_where_their_files_say(annotations: Path) -> None:
    folder = annotations / "qupath-variants"
    assert only(read_geojson(folder / "qupath-rectangle.json")).polygon.equals(box(26268, 15298, 26478, 15474))
    with_ids = read_geojson(folder / "qupath05.geojson").polygons
    assert with_ids[0].id == "6423a977-ffff-48db-affc-cd11632010f0"
    assert only(read_geojson(folder / "qupath-brush.json")).id is None, "PathAnnotationObject is no UUID"


def test_kidney_exports(annotations: Path) -> None:
    found = [read_geojson(path) for path in sorted((annotations / "qupath-kidney").glob("*.geojson"))]
    assert [len(f.polygons) for f in found] == [17, 20, 42, 37, 39, 79, 77]
    assert {r.label for f in found for r in f.polygons} == {"Normal", "Sclerotic", None}
    assert sum(f.repaired for f in found) == 0


def test_kidney_slides_come_back_byte_by_byte(kidney: Path, tmp_path: Path) -> None:
    classes = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus"))
    first, second = tmp_path / "1.geojson", tmp_path / "2.geojson"
    found = [r for path in sorted(kidney.glob("*.geojson")) for r in read_geojson(path).polygons]
    assert len(found) == 691
    write_geojson(first, found, classes=classes)
    back = read_geojson(first).polygons
    assert back == tuple(found)
    write_geojson(second, back, classes=classes)
    assert first.read_bytes() == second.read_bytes()
    check_file(first)


# Roots and files


@pytest.mark.parametrize(
    "root",
    [
        collection(feature()),
        [feature()],
        feature(),
        SHAPE,
        {**collection(feature()), "crs": None, "bbox": [0, 0, 1, 1]},
        {"type": "GeometryCollection", "geometries": [SHAPE]},
    ],
)
@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.geojson.gz", "a.json.gz"])
def test_roots_and_suffixes(tmp_path: Path, root: Any, name: str) -> None:
    assert only(read(tmp_path, root, name)).polygon.equals(box(0, 0, 10, 10))


def test_empty_files_of_the_right_kind(tmp_path: Path) -> None:
    assert read(tmp_path, collection()).polygons == ()
    assert read(tmp_path, []).polygons == ()


def test_a_byte_order_mark(tmp_path: Path) -> None:
    assert len(read(tmp_path, "\ufeff" + json.dumps(SHAPE)).polygons) == 1
    assert len(read(tmp_path, "\ufeff" + json.dumps(feature(measurements={"a": math.nan}))).polygons) == 1


def test_origin_is_kept(tmp_path: Path) -> None:
    assert read(tmp_path, {**collection(), "properties": {"slide": "a.svs"}}).properties == {"slide": "a.svs"}
    assert read(tmp_path, feature(name="no origin of the file")).properties == {}


def test_the_garbage_collector_works_afterwards(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError):
        read(tmp_path, "{")
    assert gc.isenabled()


# Classes


@pytest.mark.parametrize(
    ("classification", "label"),
    [
        (None, None),
        ("Tumor", "Tumor"),
        ("Tumor: Positive", "Tumor: Positive"),
        ("", None),
        ({"name": "Tumor", "color": [200, 0, 0]}, "Tumor"),
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor"),
        ({"names": ["Tumor", "Positive"], "color": [200, 0, 0]}, "Tumor: Positive"),
        ({"names": ["Tumor"]}, "Tumor"),
        ({"names": []}, None),
        ({"name": "Positive", "colorRGB": -1, "parentClass": {"name": "Tumor", "colorRGB": -1}}, "Tumor: Positive"),
        ({"name": "C", "parentClass": {"name": "B", "parentClass": {"name": "A"}}}, "A: B: C"),
        ({"name": None}, None),
        ({}, None),
    ],
)
def test_classes_in_every_spelling(tmp_path: Path, classification: Any, label: str | None) -> None:
    assert only(read(tmp_path, feature(classification=classification))).label == label


def test_no_class_at_all(tmp_path: Path) -> None:
    assert only(read(tmp_path, {"type": "Feature", "geometry": SHAPE})).label is None
    assert only(read(tmp_path, {"type": "Feature", "geometry": SHAPE, "properties": None})).label is None


# Exports by version


def test_version_0_2(tmp_path: Path) -> None:
    text = """[{"type": "Feature", "id": "PathDetectionObject", "geometry": %s, "properties": {
        "classification": {"name": "Positive", "colorRGB": -377282, "parentClass": {"name": "Tumor", "colorRGB": -1}},
        "isLocked": false, "measurements": [{"name": "Area", "value": 12.5}, {"name": "Odd", "value": NaN},
        {"name": "Ratio", "value": -Infinity}]}}]"""
    region = only(read(tmp_path, text % json.dumps(SHAPE)))
    assert (region.label, region.id, region.measurements) == ("Tumor: Positive", None, {"Area": 12.5})


def test_version_0_8(tmp_path: Path) -> None:
    text = """{"type": "FeatureCollection", "features": [{"type": "Feature",
        "id": "6423A977-FFFF-48DB-AFFC-CD11632010F0", "geometry": %s,
        "nucleusGeometry": {"type": "Polygon", "coordinates": [[[4,4],[4,6],[6,6],[4,4]]]},
        "properties": {"objectType": "cell", "classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]},
        "metadata": {"a": "1"}, "metadata": {"a": "1"}, "name": "one",
        "measurements": {"Area": 12, "Odd": "NaN", "Ratio": "Infinity", "score": 0.25}}}]}"""
    region = only(read(tmp_path, text % json.dumps({**SHAPE, "plane": {"c": -1, "z": 0, "t": 0}})))
    assert (region.label, region.score, region.measurements) == ("Tumor: Positive", 0.25, {"Area": 12.0})
    assert region.id == "6423a977-ffff-48db-affc-cd11632010f0"
    assert region.polygon.area == 100


def test_a_score_of_another_scale_stays_a_measurement(tmp_path: Path) -> None:
    region = only(read(tmp_path, feature(measurements={"score": 7})))
    assert (region.score, region.measurements) == (None, {"score": 7.0})


def test_children_follow_their_parents(tmp_path: Path) -> None:
    grandchild = feature(classification="C")
    child = feature(classification="B", childObjects=[grandchild])
    root = {"type": "Feature", "properties": {"objectType": "root", "childObjects": [child]}}
    found = read(tmp_path, collection(feature(classification="A"), root, feature(classification="D")))
    assert [r.label for r in found.polygons] == ["A", "B", "C", "D"]
    assert found.skipped == {"without geometry": 1}


# Shapes


def test_holes_and_parts(tmp_path: Path) -> None:
    hole = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
    far = [[[20, 0], [20, 1], [21, 1], [21, 0], [20, 0]]]
    one = only(read(tmp_path, {"type": "Polygon", "coordinates": [*SQUARE, hole]}))
    assert isinstance(one.polygon, Polygon)
    assert (one.polygon.area, len(one.polygon.interiors)) == (96, 1)
    several = only(read(tmp_path, {"type": "MultiPolygon", "coordinates": [[*SQUARE, hole], far]}))
    assert isinstance(several.polygon, MultiPolygon)
    assert (several.polygon.area, len(several.polygon.geoms)) == (97, 2)
    assert isinstance(only(read(tmp_path, {"type": "MultiPolygon", "coordinates": [far]})).polygon, Polygon)


def test_the_third_number_of_a_point_is_its_height(tmp_path: Path) -> None:
    rings = [[[0, 0, 5], [0, 10], [10, 10, 5], [10, 0], [0, 0]]]
    assert only(read(tmp_path, {"type": "Polygon", "coordinates": rings})).polygon.equals(box(0, 0, 10, 10))


@pytest.mark.parametrize(("width", "height"), [(10, 10), (3000, 5), (40000, 30000), (0.5, 0.25)])
def test_an_ellipse_fills_its_box(tmp_path: Path, width: float, height: float) -> None:
    corners = [[5, 7], [5 + width, 7], [5 + width, 7 + height], [5, 7 + height], [5, 7]]
    found = read(tmp_path, {"type": "Polygon", "coordinates": [corners], "isEllipse": True})
    polygon = only(found).polygon
    assert polygon.bounds == pytest.approx((5, 7, 5 + width, 7 + height))
    assert found.repaired == 0
    lost = math.pi * width * height / 4 - polygon.area
    assert 0 < lost < 0.02 * polygon.length
    assert len(polygon.exterior.coords) < 3000
    plain = only(read(tmp_path, {"type": "Polygon", "coordinates": [corners], "isEllipse": False}))
    assert plain.polygon.area == pytest.approx(width * height)


@pytest.mark.parametrize(
    ("geometry", "area"),
    [
        ({"type": "Polygon", "coordinates": BOW_TIE}, 50),
        ({"type": "Polygon", "coordinates": [SQUARE[0][:-1]]}, 100),  # not closed
        ({"type": "MultiPolygon", "coordinates": [SQUARE, SQUARE]}, 100),
        ({"type": "MultiPolygon", "coordinates": [SQUARE, [[[5, 0], [5, 10], [15, 10], [15, 0], [5, 0]]]]}, 150),
        # GEOS takes a hole that lies wholly outside for a part of its own.
        ({"type": "Polygon", "coordinates": [*SQUARE, [[20, 0], [21, 0], [21, 1], [20, 0]]]}, 100.5),
        ({"type": "Polygon", "coordinates": [*SQUARE, [[0, 2], [5, 2], [5, 4], [0, 4], [0, 2]]]}, 90),  # on the edge
        ({"type": "Polygon", "coordinates": [*SQUARE, [[1, 1], [2, 2]]]}, 100),  # a hole without area
        ({"type": "Polygon", "coordinates": [[[0, 0], [0, 10], [10, 10], [10, 0], [10, -9], [10, 0], [0, 0]]]}, 100),
    ],
)
def test_the_invalid_is_repaired_and_counted(tmp_path: Path, geometry: Any, area: float) -> None:
    found = read(tmp_path, collection(feature(geometry), feature()))
    assert (len(found.polygons), found.repaired, found.skipped) == (2, 1, {})
    assert found.polygons[0].polygon.is_valid
    assert found.polygons[0].polygon.area == pytest.approx(area)


@pytest.mark.parametrize(
    ("geometry", "skipped"),
    [
        (None, {"without geometry": 1}),
        ({"type": "Point", "coordinates": [1, 2]}, {"Point": 1}),
        ({"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4]]]}, {"MultiLineString": 1}),
        ({"type": "Polygon", "coordinates": []}, {"empty": 1}),
        ({"type": "MultiPolygon", "coordinates": []}, {"empty": 1}),
        ({"type": "Polygon", "coordinates": [[]]}, {"collapsed": 1}),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, {"collapsed": 1}),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}, {"collapsed": 1}),
        ({"type": "Polygon", "coordinates": [[[5, 5], [5, 5], [5, 5], [5, 5]]]}, {"collapsed": 1}),
        ({"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]}, {"Point": 1}),
    ],
)
def test_what_is_no_area_is_skipped_and_counted(tmp_path: Path, geometry: Any, skipped: dict[str, int]) -> None:
    found = read(tmp_path, collection(feature(), feature(geometry)))
    assert (len(found.polygons), found.skipped, found.repaired) == (1, skipped, 0)


def test_the_polygons_of_a_collection_are_one_object(tmp_path: Path) -> None:
    far = {"type": "Polygon", "coordinates": [[[20, 0], [20, 1], [21, 1], [21, 0], [20, 0]]]}
    inner = {"type": "GeometryCollection", "geometries": [far, {"type": "Point", "coordinates": [0, 0]}]}
    found = read(tmp_path, feature({"type": "GeometryCollection", "geometries": [SHAPE, inner]}))
    assert only(found).polygon.area == 101
    assert found.skipped == {"Point": 1}


# Bad input


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("\x89PNG", "is not valid JSON"),
        ('{"type": "FeatureCollection", "features": [{"type": "Fea', "ends too early"),
        (json.dumps(collection(feature()))[:-1], "ends too early"),
        (json.dumps(collection(feature())).replace("},", "} ", 1), "is not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("7", "JSON but not GeoJSON"),
        ({"a": 1}, "JSON but not GeoJSON"),
        ({"type": "Topology"}, "JSON but not GeoJSON"),
        ({"images": [], "annotations": [], "categories": []}, "COCO"),
        ({"type": "FeatureCollection"}, "no list of features"),
        (collection(feature(), 7), "feature 2 is not a GeoJSON Feature"),
        (collection({"type": "Feature", "geometry": SHAPE, "properties": []}), "feature 1 has properties"),
        (collection(feature({"type": "Circle", "coordinates": []})), "unknown type 'Circle'"),
        (collection(feature("Polygon")), "unknown type None"),
        (collection(feature({"type": "Polygon"})), "a Polygon without coordinates"),
        (collection(feature({"type": "Polygon", "coordinates": [7]})), "a ring that is not a list"),
        (collection(feature({"type": "Polygon", "coordinates": [[1, 2, 3, 4]]})), "a ring that is not a list"),
        (collection(feature({"type": "Polygon", "coordinates": [[["1", "2"]] * 4]})), "a ring that is not a list"),
        (collection(feature({"type": "Polygon", "coordinates": [[[1, None]] * 4]})), "a ring that is not a list"),
        (collection(feature({"type": "Polygon", "coordinates": [[[1]] * 4]})), "a ring that is not a list"),
        (collection(feature({"type": "Polygon", "coordinates": [[[1, 2], [3], [4, "x"], [1, 2]]]})), "not a list of"),
        (collection(feature({"type": "Polygon", "coordinates": [[[1, [2]], [1, 3], [4, 5], 7]]})), "not a list of"),
        (collection(feature({"type": "MultiPolygon", "coordinates": SQUARE[0]})), "feature 1 has"),
        (
            collection(feature({"type": "Polygon", "coordinates": [[[1, 2], [math.nan, 1], [3, 3]]]})),
            "not a finite number",
        ),
        (collection(feature(classification=[7])), "whose name is not text"),
        (collection(feature(classification={"name": {}})), "whose name is not text"),
        (collection(feature(classification={"names": "Tumor"})), "whose names are no list"),
        (collection(feature(classification={"name": "a\0b"})), "not plain text"),
        (collection(feature(measurements=7)), "neither a map nor a list"),
        (collection(feature(measurements=[7])), "neither a map nor a list"),
        (collection(feature(measurements=[{"value": 7}])), "without a name"),
        (collection(feature(measurements={"Area": "large"})), "'Area', which is not a number"),
        (collection(feature(measurements={"Area": [1]})), "'Area', which is not a number"),
        (collection(feature(measurements={"Area": True})), "'Area', which is not a number"),
        (collection(feature(), feature(childObjects=[feature(classification=[7])])), "feature 2, child 1 has a class"),
        (collection(feature(childObjects="none")), "childObjects that are no list"),
    ],
)
def test_bad_files_are_told_apart(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(AnnotationError, match=says) as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert "a.geojson" in text
    assert text.endswith(".")
    assert "\n" not in text


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="does not exist"):
        read_geojson(tmp_path / "a.geojson")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_geojson(tmp_path)
    (tmp_path / "b.geojson").write_bytes("ä".encode("latin-1"))
    with pytest.raises(AnnotationError, match="UTF-8"):
        read_geojson(tmp_path / "b.geojson")
    packed = gzip.compress(json.dumps(collection(*[feature()] * 50)).encode())
    for damaged in (packed[:-20], packed[:20] + bytes(20) + packed[40:], b"\x1f\x8b\x00"):
        (tmp_path / "c.geojson.gz").write_bytes(damaged)
        with pytest.raises(AnnotationError, match="damaged gzip"):
            read_geojson(tmp_path / "c.geojson.gz")
