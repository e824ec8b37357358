"""Whatever is written, QuPath opens it; and it is complete, stable and small."""

from __future__ import annotations

import errno
import gzip
import json
import math
import resource
import signal
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Point, Polygon, box

from tests.annotations.nasty import CLASSES, regions
from tests.annotations.qupath_rules import check_file
from wsiseg.annotations import canonical, geojson_write, polygon
from wsiseg.annotations.gather import make_valid
from wsiseg.annotations.geojson_read import read_geojson
from wsiseg.annotations.geojson_write import MOST_ANNOTATIONS, write_geojson
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.errors import AnnotationError, ClassError, OutputError

GOLDEN = Path(__file__).parent.parent / "golden"

ORIGIN = {"slide": {"name": "a.svs", "mpp": 0.252, "bounds": None}, "model": "demo", "version": "0"}

HOLED = Polygon(box(10, 10, 50, 40).exterior, [box(20, 20, 30, 30).exterior])

GIVEN_ID = "6423a977-ffff-48db-affc-cd11632010f0"

SAMPLE = [
    LabelledPolygon(
        HOLED, "Glomerulus", score=0.875, measurements={"Area µm^2": 1100.5, "Holes": 1.0, "Lost": math.nan}
    ),
    LabelledPolygon(MultiPolygon([box(100, 100, 110, 110), box(120, 100, 130.5, 110.25)]), "Sclerotic glomerulus"),
    LabelledPolygon(Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), "Glomerulus"),  # a bow-tie
    LabelledPolygon(
        Polygon([(200.004, 200), (210.006, 200.1), (205, 207.333)]), None, id="6423a977-ffff-48db-affc-cd11632010f0"
    ),
    LabelledPolygon(box(300, 300, 310, 310), "Immune: CD3"),
    LabelledPolygon(box(300, 300, 310, 310), "Immune: CD3"),
    LabelledPolygon(box(400, 400, 400.001, 410), "Glomerulus"),  # nothing is left of it on the grid
    LabelledPolygon(box(-5, -5, 5, 5), "Ignore*"),
]


def squares(count: int) -> Iterator[LabelledPolygon]:
    return (LabelledPolygon(box(20 * i, 0, 20 * i + 10, 10), "Glomerulus") for i in range(count))


@pytest.mark.parametrize(("name", "legacy"), [("outlines.geojson", False), ("outlines-legacy.geojson", True)])
def test_the_bytes_are_those_on_record(tmp_path: Path, name: str, legacy: bool) -> None:
    path = tmp_path / name
    written = write_geojson(path, SAMPLE, classes=CLASSES, properties=ORIGIN, legacy=legacy)
    assert str(written) == "7 objects, 1 repaired, 1 without area dropped"
    check_file(path, legacy=legacy)
    assert path.read_text(encoding="utf-8") == (GOLDEN / name).read_text(encoding="utf-8")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(regions, max_size=5), legacy=st.booleans())
def test_anything_becomes_a_file_that_qupath_opens(tmp_path: Path, found: list[LabelledPolygon], legacy: bool) -> None:
    first, second = tmp_path / "1.geojson", tmp_path / "2.geojson"
    written = write_geojson(first, found, classes=CLASSES, properties=ORIGIN, legacy=legacy)
    features = check_file(first, legacy=legacy)
    assert len(features) == written.objects == len(found) - written.dropped

    back = read_geojson(first)
    assert len(back.polygons) == written.objects
    assert (back.repaired, back.skipped, back.properties) == (0, {}, ORIGIN)
    write_geojson(second, back.polygons, classes=CLASSES, properties=back.properties, legacy=legacy)
    assert second.read_bytes() == first.read_bytes()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(region=regions)
def test_repair_keeps_the_area(tmp_path: Path, region: LabelledPolygon) -> None:
    path = tmp_path / "a.geojson"
    write_geojson(path, [region], classes=CLASSES)
    (wanted,), _ = make_valid(np.array([region.polygon], object))
    got = shapely.union_all([r.polygon for r in read_geojson(path).polygons])
    # A round of snapping moves a point by at most half the diagonal of a cell of 0.01 px, and there are up to four.
    most = 4 * 0.01 / math.sqrt(2) + 1e-3
    assert abs(wanted.area - got.area) <= most * (wanted.length + got.length) + 0.001
    # A spike without width has no area, and is a thin triangle along the same line once its corners are rounded.
    assert wanted.buffer(most).union(region.polygon.boundary.buffer(most)).covers(got) or got.is_empty


def test_edges_that_all_but_coincide_are_repaired(tmp_path: Path) -> None:
    """GEOS 3.14 calls its own repair of this polygon invalid, and cannot repair it at all beside another one."""
    spike = [
        (-1.8826364187492675, 0.6559302161434597), (-0.9388182093746337, 0.32546510807172985),
        (-2.778877513283345, 4.1483150604108205), (-0.5607759864623479, 4.431203053641995),
        (-0.23031087839061815, 5.375021263016628),
    ]  # fmt: skip
    other = Polygon(
        [(0.005, -0.005), (0.33546510807172986, 0.9388182093746337), (0.3207179485502512, 0.9439817266882544)]
    )
    for shape in (Polygon(spike), MultiPolygon([Polygon(spike), other])):
        written = write_geojson(tmp_path / "a.geojson", [LabelledPolygon(shape, "Glomerulus")], classes=CLASSES)
        (found,) = read_geojson(tmp_path / "a.geojson").polygons
        assert (written.objects, written.repaired) == (1, 1)
        assert found.polygon.is_valid
        assert found.polygon.area == pytest.approx(shapely.make_valid(shape).area, abs=0.02)


def test_scores_labels_ids_and_measurements_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    write_geojson(path, SAMPLE, classes=CLASSES)
    back = read_geojson(path).polygons
    assert [r.label for r in back] == [r.label for i, r in enumerate(SAMPLE) if i != 6]
    assert back[0].score == 0.875
    assert back[1].score is None
    assert back[0].measurements == {"Area µm^2": 1100.5, "Holes": 1.0}
    assert back[3].id == SAMPLE[3].id
    assert back[0].polygon.equals_exact(HOLED)
    assert isinstance(back[2].polygon, MultiPolygon), "an object of two parts stays one"


def test_an_id_depends_on_class_and_outline_alone(tmp_path: Path) -> None:
    def ids(*found: LabelledPolygon) -> list[str]:
        write_geojson(tmp_path / "a.geojson", found, classes=CLASSES)
        return [str(r.id) for r in read_geojson(tmp_path / "a.geojson").polygons]

    one, other = LabelledPolygon(HOLED, "Glomerulus"), LabelledPolygon(box(0, 0, 9, 9), "Glomerulus")
    assert ids(one, other) == ids(other, one)[::-1] == [*ids(one), *ids(other)]
    assert ids(one) != ids(replace(one, label="Sclerotic glomerulus"))
    assert ids(one) == ids(replace(one, score=0.5, id="not a UUID"))
    assert ids(one) == ids(replace(one, polygon=shapely.transform(HOLED, lambda xy: xy + 0.004)))
    same = ids(one, one, one)
    assert len(set(same)) == 3
    assert same[0] == ids(one)[0]
    assert {uuid.UUID(i).version for i in same} == {5}
    # Anybody can find the id again from the file.
    text = "Glomerulus\n[[[50,10],[50,40],[10,40],[10,10],[50,10]],[[30,20],[30,30],[20,30],[20,20],[30,20]]]"
    space = uuid.uuid5(uuid.NAMESPACE_DNS, "wsiseg.outlines")
    assert ids(one) == [str(uuid.uuid5(space, text))]


def test_a_given_id_that_occurs_twice_stays_with_the_first(tmp_path: Path) -> None:
    name = str(uuid.uuid4())
    found = [LabelledPolygon(box(i, 0, i + 1, 1), None, id=name.upper()) for i in range(3)]
    write_geojson(tmp_path / "a.geojson", found, classes=CLASSES)
    features = check_file(tmp_path / "a.geojson")
    assert features[0]["id"] == name


def test_many_identical_objects_are_numbered_quickly(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", [SAMPLE[0]] * 2500, classes=CLASSES)
    assert len(check_file(tmp_path / "a.geojson")) == 2500


@pytest.mark.parametrize("count", [0, 1, MOST_ANNOTATIONS, MOST_ANNOTATIONS + 1])
def test_many_objects_are_detections(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.geojson"
    collapsed = [LabelledPolygon(Polygon([(0, 0), (1, 0), (2, 0)]), None)] * 5000  # do not count
    write_geojson(path, [*collapsed, *squares(count)], classes=CLASSES)
    features = check_file(path)
    assert len(features) == count
    expected = "detection" if count > MOST_ANNOTATIONS else "annotation"
    assert all(f["properties"]["objectType"] == expected for f in features)
    write_geojson(path, squares(3), classes=CLASSES, kind="detection")
    assert check_file(path)[0]["properties"]["objectType"] == "detection"


def test_batches_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_geojson(tmp_path / "a.geojson", SAMPLE, classes=CLASSES)
    for module, name, value in ((canonical, "BATCH", 1), (polygon, "CORNERS", 9), (geojson_write, "HELD_BYTES", 50)):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, value)
            write_geojson(tmp_path / "b.geojson", iter(SAMPLE), classes=CLASSES)
        assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"a.geojson", "b.geojson"}


def test_gzip_holds_the_same_text_and_no_time(tmp_path: Path) -> None:
    for name in ("a.geojson", "b.geojson.gz", "c.json.gz"):
        write_geojson(tmp_path / name, SAMPLE, classes=CLASSES)
        check_file(tmp_path / name)
    packed = (tmp_path / "b.geojson.gz").read_bytes()
    assert packed == (tmp_path / "c.json.gz").read_bytes()
    assert packed[3:8] == bytes(5), "no name, no time"
    assert gzip.decompress(packed) == (tmp_path / "a.geojson").read_bytes()
    assert read_geojson(tmp_path / "b.geojson.gz") == read_geojson(tmp_path / "a.geojson")


def test_memory_does_not_grow_with_the_number_of_objects(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        write_geojson(tmp_path / "a.geojson", squares(count), classes=CLASSES, kind="detection")
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(10)  # what is imported and cached on first use
    assert peak(24_000) < 1.15 * peak(6_000)


def test_memory_does_not_grow_with_the_size_of_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few with very many corners, of which it is not known yet whether they are annotations."""
    monkeypatch.setattr(polygon, "CORNERS", 2**15)
    monkeypatch.setattr(geojson_write, "HELD_BYTES", 2**18)
    around = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    ring = np.stack([np.cos(around), np.sin(around)], 1) * 5000 + 6000

    def peak(count: int) -> int:
        tracemalloc.start()
        write_geojson(
            tmp_path / "a.geojson", (LabelledPolygon(Polygon(ring + i), None) for i in range(count)), classes=CLASSES
        )
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(1)
    assert peak(45) < 1.15 * peak(15)
    assert {f["properties"]["objectType"] for f in check_file(tmp_path / "a.geojson")} == {"annotation"}


@pytest.mark.parametrize(
    ("region", "error", "says"),
    [
        (LabelledPolygon(HOLED, "Podocyte"), ClassError, "unknown here"),
        (LabelledPolygon(HOLED, " Glomerulus"), AnnotationError, "blanks at its ends"),
        (LabelledPolygon(HOLED, "A: "), AnnotationError, "cannot be called"),
        (LabelledPolygon(HOLED, "A\nB"), AnnotationError, "line breaks"),
        (LabelledPolygon(box(0, 0, 1, math.inf), "Glomerulus"), AnnotationError, "Object 3 has a coordinate"),
        (LabelledPolygon(box(0, 0, 1, 1e10), "Glomerulus"), AnnotationError, "Object 3 has a coordinate"),
        (LabelledPolygon(Point(0, 0), "Glomerulus"), AnnotationError, "Object 3 is not a polygon"),  # type: ignore[arg-type]
        (
            LabelledPolygon(HOLED, None, score=0.5, measurements={"score": 1}),
            AnnotationError,
            "Object 3 has a score and",
        ),
        (LabelledPolygon(HOLED, None, measurements={"\ud800": 1}), AnnotationError, "Object 3 has a name"),
    ],
)
def test_what_cannot_be_said_is_refused_and_leaves_nothing(
    tmp_path: Path, region: LabelledPolygon, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        write_geojson(tmp_path / "a.geojson", [SAMPLE[0], SAMPLE[1], region], classes=CLASSES)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_on_the_way_leaves_the_earlier_file_alone(tmp_path: Path) -> None:
    def breaks() -> Iterator[LabelledPolygon]:
        yield from squares(5000)
        raise RuntimeError("the network failed")

    path = tmp_path / "a.geojson"
    path.write_text("earlier")
    with pytest.raises(RuntimeError, match="network"):
        write_geojson(path, breaks(), classes=CLASSES)
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]
    assert path.read_text() == "earlier"


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist: create it"):
        write_geojson(tmp_path / "no" / "a.geojson", SAMPLE, classes=CLASSES)
    (tmp_path / "b.geojson").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_geojson(tmp_path / "b.geojson", SAMPLE, classes=CLASSES)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_geojson(tmp_path / "file" / "a.geojson", SAMPLE, classes=CLASSES)
    with pytest.raises(AnnotationError, match="does not open"):
        write_geojson(tmp_path / "a.txt", SAMPLE, classes=CLASSES)
    with pytest.raises(AnnotationError, match="not plain JSON"):
        write_geojson(tmp_path / "a.geojson", SAMPLE, classes=CLASSES, properties={"slide": tmp_path})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.geojson", "file"]


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_a_full_disk(tmp_path: Path, name: str) -> None:
    """The kernel's limit on the size of a file stands in for the disk: write() fails in the middle either way."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written, the file grew beyond") as caught:
            write_geojson(tmp_path / name, squares(9000), classes=CLASSES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_file_of_the_final_name(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from shapely import box
from wsiseg.classes import ClassMap
from wsiseg.annotations.geojson_write import write_geojson
from wsiseg.annotations.polygon import LabelledPolygon
def squares():
    for i in range(30_000):
        if i == 25_000:
            os.kill(os.getpid(), signal.SIGKILL)
        yield LabelledPolygon(box(20 * i, 0, 20 * i + 10, 10), "a")
write_geojson(Path(sys.argv[1]), squares(), classes=ClassMap(("Background", "a")))
"""
    path = tmp_path / "a.geojson"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.geojson.")
    assert left.stat().st_size > 1_000_000, "it was in the middle of writing"


def test_the_checker_itself_catches_breaches(tmp_path: Path) -> None:
    """A checker that never complains proves nothing."""
    path = tmp_path / "a.geojson"
    write_geojson(path, SAMPLE[:1], classes=CLASSES)
    good = path.read_text(encoding="utf-8")
    breaches = [
        ('"id":"', '"id":"x'),
        ('"annotation"', '"root"'),
        ('"annotation"', "null"),
        ('"color":[0,114,178]', '"color":"#0072b2"'),
        (',"color":[0,114,178]', ""),
        ("1100.5", "NaN"),
        ("1100.5", '"many"'),
        ("[50,10]", "[50.004,10]"),
        ("[50,10]", "[50.0,10]"),
        ("[[50,10],[50,40]", "[[50,40],[50,10]"),
        ('"type":"Polygon"', '"type":"GeometryCollection"'),
        ("[30,20]", "[60,20]"),
        ('"type":"Feature",', '"type":"Feature","type":"Feature",'),
    ]
    for old, new in breaches:
        assert old in good
        path.write_text(good.replace(old, new), encoding="utf-8")
        with pytest.raises(AssertionError):
            check_file(path)
    path.write_text(good, encoding="utf-8")
    assert json.loads(good)["features"][0]["properties"]["measurements"]["score"] == 0.875
    check_file(path)
