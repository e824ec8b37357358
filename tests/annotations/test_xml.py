"""ImageScope in and out, ASAP in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from shapely import MultiPolygon, Polygon, box, normalize

from tests.annotations.nasty import CLASSES, regions
from tests.annotations.sample import HOLED, ISLAND, SAMPLE, areas, areas_in
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.imagescope import colorref
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Frame


def test_imagescope_back_again(tmp_path: Path) -> None:
    path, again = tmp_path / "a.xml", tmp_path / "b.xml"
    found = [*SAMPLE, LabelledPolygon(box(1, 1, 2, 2), None), LabelledPolygon(box(1, 3, 2, 4), "Ignore*")]
    write_annotations(path, found, classes=CLASSES, frame=Frame(400, 300, 0.25))
    back = read_annotations(path)
    assert back.properties == {"mpp": 0.25}
    assert (back.repaired, back.skipped) == (0, {})
    assert [r.label for r in back.polygons] == [
        "Glomerulus", "Glomerulus", "Sclerotic glomerulus", "Sclerotic glomerulus", "Immune: CD3", "Ignore*", None,
    ]  # fmt: skip
    assert back.polygons[0].polygon.equals(HOLED), "the hole is in the ring, not in the island inside it"
    assert back.polygons[1].polygon.equals(ISLAND)
    write_annotations(again, back.polygons, classes=CLASSES, frame=Frame(400, 300, 0.25))
    assert path.read_bytes() == again.read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(region=regions)
def test_any_outline_survives_imagescope(tmp_path: Path, region: LabelledPolygon) -> None:
    write_annotations(tmp_path / "a.geojson", [region], classes=CLASSES)
    write_annotations(tmp_path / "a.xml", [region], classes=CLASSES)
    wanted = [part for r in read_annotations(tmp_path / "a.geojson").polygons for part in _parts(r.polygon)]
    back = read_annotations(tmp_path / "a.xml")
    assert [normalize(r.polygon) for r in back.polygons] == [normalize(part) for part in wanted]
    assert back.repaired == 0


def _parts(area: Polygon | MultiPolygon) -> list[Polygon]:
    return list(area.geoms) if isinstance(area, MultiPolygon) else [area]


def test_colours_are_blue_green_red() -> None:
    red, green, yellow, blue = (255, 0, 0), (0, 255, 0), (255, 255, 0), (0, 0, 255)
    assert [colorref(c) for c in (red, green, yellow, blue)] == [255, 65280, 65535, 16711680]


def layer(*regions: str) -> str:
    return f'<Annotations><Annotation Id="1" Name="G"><Regions>{"".join(regions)}</Regions></Annotation></Annotations>'


def region(*corners: tuple[float, float], **attributes: Any) -> str:
    named = "".join(f' {name}="{value}"' for name, value in attributes.items())
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
    return f"<Region{named}><Vertices>{vertices}</Vertices></Region>"


def square(left: float, top: float, size: float) -> list[tuple[float, float]]:
    return [(left, top), (left + size, top), (left + size, top + size), (left, top + size)]


def read_layer(tmp_path: Path, *found: str) -> Annotations:
    (tmp_path / "a.xml").write_text(layer(*found))
    return read_annotations(tmp_path / "a.xml")


def test_a_hole_drawn_by_hand_belongs_to_what_is_round_it(tmp_path: Path) -> None:
    big, inner, far = square(0, 0, 100), square(20, 20, 40), square(200, 0, 100)
    found = read_layer(
        tmp_path,
        region(*square(30, 30, 10), Id=9, NegativeROA=1, InputRegionId=0),  # inside both: goes to the smaller
        region(*big, Id=1), region(*inner, Id=2), region(*far, Id=3),
        region(*square(250, 50, 100), Id=8, NegativeROA=1, InputRegionId=0),  # across the border
        region(*square(500, 50, 100), Id=7, NegativeROA=1, InputRegionId=1),  # touches nothing
    )  # fmt: skip
    assert [r.polygon.area for r in found.polygons] == [10000, 1500, 7500]
    assert found.repaired == 0


def test_shapes_of_imagescope(tmp_path: Path) -> None:
    found = read_layer(
        tmp_path,
        region((0, 0), (10, 0), (10, 10), (0, 10), Type=0),
        region((0, 0), (10, 20), Type=1),
        region((0, 0), (10, 20), Type=2),
        region((0, 0), (10, 20), Type=3),
        region((0, 0), (10, 20), Type=4),
        region((5, 5), Type=0),
        region(Type=0),
        region((0, 0), (5, 5), (10, 10), Type=0),
        region((0, 0), (10, 10), (10, 0), (0, 10), Type=0),
    )
    expected = pytest.approx([100, 200, np.pi * 50, 50], rel=5e-3)
    assert [r.polygon.area for r in found.polygons] == expected
    assert found.skipped == {"Arrow": 1, "LineString": 1, "Point": 1, "empty": 1, "collapsed": 1}
    assert found.repaired == 1


def test_a_corner_without_numbers(tmp_path: Path) -> None:
    for bad in ('<Vertex X="1"/>', '<Vertex X="a" Y="1"/>', '<Vertex X="nan" Y="1"/>'):
        with pytest.raises(AnnotationError, match="region 7 of the layer G has a co"):
            read_layer(tmp_path, f'<Region Id="7"><Vertices>{bad}</Vertices></Region>')


def test_a_real_file_of_imagescope(annotations: Path, tmp_path: Path) -> None:
    (path,) = (annotations / "imagescope").iterdir()
    found = read_annotations(path)
    assert (len(found.polygons), found.skipped, found.properties) == (357, {}, {"mpp": 0.252})
    assert {r.label for r in found.polygons} == {None}
    stated = [float(text.split('"')[0]) for text in path.read_text().split(' Area="')[1:]]
    assert [r.polygon.area for r in found.polygons] == pytest.approx(stated, rel=0.03)
    write_annotations(tmp_path / "a.xml", found.polygons, classes=CLASSES, frame=Frame(1000, 1000, 0.252))
    assert areas_in(tmp_path / "a.xml") == pytest.approx(areas(found), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "outlines", "skipped"),
    [("asap-polygon.xml", 1, {}), ("asap-dot.xml", 0, {"Dot": 1}), ("asap-pointset.xml", 0, {"PointSet": 1})],
)
def test_real_files_of_asap(annotations: Path, name: str, outlines: int, skipped: dict[str, int]) -> None:
    found = read_annotations(annotations / "asap" / name)
    assert (len(found.polygons), found.skipped, found.repaired) == (outlines, skipped, 0)
    assert all(r.label is None for r in found.polygons)


def test_groups_of_asap_are_classes(tmp_path: Path) -> None:
    def annotation(kind: str, group: str, corners: list[tuple[float, float]]) -> str:
        rows = [f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(corners)]
        text = "".join(reversed(rows))  # the order counts, not the place
        return f'<Annotation Type="{kind}" PartOfGroup="{group}"><Coordinates>{text}</Coordinates></Annotation>'

    (tmp_path / "a.xml").write_text(
        '<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>'
        + annotation("Polygon", "Tumor", [(0, 0), (10, 10), (10, 0), (0, 10)])
        + annotation("Rectangle", "None", square(5, 5, 10))
        + annotation("Spline", "Tumor", square(5, 5, 20))
        + annotation("Polygon", "Tumor", [(0, 0), (1, 1)])
        + "</Annotations><AnnotationGroups><Group Name='Tumor'/></AnnotationGroups></ASAP_Annotations>"
    )
    found = read_annotations(tmp_path / "a.xml")
    assert [(r.label, r.polygon.area) for r in found.polygons] == [("Tumor", 50), (None, 100), ("Tumor", 400)]
    assert (found.repaired, found.skipped) == (1, {"collapsed": 1})
