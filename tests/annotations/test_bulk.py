"""Coordinates taken out of the text beforehand: the same polygons as by way of Python's lists, for any file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsiseg.annotations import geojson_read
from wsiseg.annotations.bulk import lift
from wsiseg.annotations.geojson_read import read_geojson
from wsiseg.annotations.polygon import Annotations
from wsiseg.errors import AnnotationError

NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6),
    st.decimals(-(10**5), 10**5, places=2).map(float),
    st.floats(-1e9, 1e9),
    st.sampled_from([0, -0.0, 1e-7, 2.0**27, 2.0**27 + 1, 1e300, 123456789.123456789]),
)
POINTS = st.lists(NUMBERS, min_size=2, max_size=2)
RINGS = st.one_of(
    st.lists(POINTS, min_size=3, max_size=6).map(lambda ring: [*ring, ring[0]]),
    st.lists(st.lists(NUMBERS, min_size=1, max_size=3), max_size=5),
)
POLYGONS = st.lists(RINGS, min_size=1, max_size=3).map(lambda rings: {"type": "Polygon", "coordinates": rings})
OTHERS = st.one_of(
    st.lists(POLYGONS, max_size=2).map(
        lambda p: {"type": "MultiPolygon", "coordinates": [q["coordinates"] for q in p]}
    ),
    st.lists(POLYGONS, max_size=2).map(lambda p: {"type": "GeometryCollection", "geometries": p}),
    POLYGONS.map(lambda p: {**p, "type": "MultiLineString"}),
    POLYGONS.map(lambda p: {**p, "isEllipse": True}),
)
FEATURES = st.builds(
    lambda geometry, extra: {"type": "Feature", "geometry": geometry, "properties": extra},
    st.one_of(POLYGONS, POLYGONS, OTHERS),
    st.sampled_from([{}, {}, {"coordinates": [[[0, 0], [0, 9], [9, 9], [0, 0]]]}, {"name": 'a "coordinates":[ b'}]),
)


def both_ways(path: Path) -> tuple[Any, Any]:
    found = []
    for size in (0, 2**40):
        geojson_read.LIFTED_FROM, before = size, geojson_read.LIFTED_FROM
        try:
            found.append(read_geojson(path))
        except AnnotationError as error:
            found.append(str(error))
        finally:
            geojson_read.LIFTED_FROM = before
    return found[0], found[1]


def content(found: Annotations | str) -> Any:
    if isinstance(found, str):
        return found
    shapes = [(p.polygon.wkb, p.label, p.id, p.details.other) for p in found.polygons]
    return shapes, found.skipped, found.repaired, found.properties


@given(st.lists(FEATURES, max_size=4), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_any_file_reads_the_same(tmp_path_factory: pytest.TempPathFactory, features: list[Any], marks: Any) -> None:
    path = tmp_path_factory.mktemp("bulk") / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}, separators=marks))
    one, other = both_ways(path)
    assert content(one) == content(other)


@pytest.mark.parametrize(
    "ring",
    ["[[0,0],[0,9],[9,9],[0,0]", "[[0,0],[0,09],[9,9],[0,0]]", "[[0,0],[0,9.],[9,9],[0,0]]", "[[0,0],[0,-],[9,9],[0,0]]",
     "[[0,0],[0,1e1],[9,9],[0,0]]", "[[0,0],[0,NaN],[9,9],[0,0]]", "[[0,0],[0,9],[9,9],[0,0]]"],
)  # fmt: skip
@pytest.mark.parametrize("end", ["]}", "]", ""])
def test_what_is_no_json_is_told_the_same_way(tmp_path: Path, ring: str, end: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(f'{{"type":"Polygon","coordinates":[{ring}{end}')
    one, other = both_ways(path)
    assert content(one) == content(other)


def test_it_takes_simple_polygons_and_leaves_the_rest() -> None:
    simple = '{"type":"Polygon","coordinates":[[[0,0],[0,9.5],[-9,9],[0,0]]]}'
    found = lift(f'[{simple},{{"type":"Polygon","coordinates":[[[0,0],[1,1]]]}}]'.encode())
    tree = json.loads(bytes(found.text))
    assert tree[1]["coordinates"] == [[[0, 0], [1, 1]]]
    assert found.take(tree[1]["coordinates"]) is None
    assert not found.all_taken
    polygon = found.take(tree[0]["coordinates"])
    assert polygon is not None
    assert polygon.wkt == "POLYGON ((0 0, 0 9.5, -9 9, 0 0))"
    assert found.all_taken
