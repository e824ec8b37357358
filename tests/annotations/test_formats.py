"""All formats say the same: which file is what, equal areas, and nothing half-written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.annotations.nasty import CLASSES, regions
from tests.annotations.sample import FRAME, ISLAND, SAMPLE, areas, areas_in, table
from wsiseg.annotations.formats import FORMATS, file_hash, read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.errors import AnnotationError, ClassError, OutputError

WRITTEN = ("a.geojson", "a.geojson.gz", "a.xml", "a.csv", "a.coco.json")


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_has_the_same_area_per_class(tmp_path: Path, name: str) -> None:
    write_annotations(tmp_path / name, SAMPLE, classes=CLASSES, frame=FRAME)
    assert areas_in(tmp_path / name) == pytest.approx(areas(SAMPLE), rel=1e-4)
    write_annotations(tmp_path / "exact.geojson", SAMPLE, classes=CLASSES)
    assert areas_in(tmp_path / name) == pytest.approx(areas_in(tmp_path / "exact.geojson"), rel=1e-9)


@pytest.mark.parametrize("name", WRITTEN)
def test_real_outlines_have_the_same_area_everywhere(annotations: Path, tmp_path: Path, name: str) -> None:
    found = [
        LabelledPolygon(r.polygon, {"Normal": "Glomerulus", "Sclerotic": "Sclerotic glomerulus"}[r.label])
        for path in (annotations / "qupath-kidney").glob("*.geojson")
        for r in read_annotations(path).polygons
        if r.label is not None
    ]
    write_annotations(tmp_path / name, found, classes=CLASSES, frame=FRAME)
    assert areas_in(tmp_path / name) == pytest.approx(areas(found), rel=1e-9)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(regions.filter(lambda r: r.label is not None), max_size=4))
def test_nasty_outlines_have_the_same_area_everywhere(tmp_path: Path, found: list[LabelledPolygon]) -> None:
    stated = []
    for name in WRITTEN:
        if any("score" in r.measurements for r in found):
            continue
        write_annotations(tmp_path / name, found, classes=CLASSES, frame=FRAME)
        stated.append(areas_in(tmp_path / name))
    # Far from the origin a double holds an area of a few px² no better than this.
    assert all(area == pytest.approx(stated[0], rel=1e-6, abs=0.02) for area in stated)


def test_the_table_is_what_it_says() -> None:
    for name, form in FORMATS.items():
        assert form.read or form.write, name
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in form.suffixes)
    assert {name for name, form in FORMATS.items() if form.read} >= {"geojson", "imagescope", "asap"}


@pytest.mark.parametrize("name", WRITTEN)
def test_suffixes_in_capitals_and_formats_by_name(tmp_path: Path, name: str) -> None:
    write_annotations(tmp_path / name, SAMPLE, classes=CLASSES, frame=FRAME)
    write_annotations(tmp_path / name.upper(), SAMPLE, classes=CLASSES, frame=FRAME)
    assert (tmp_path / name).read_bytes() == (tmp_path / name.upper()).read_bytes()
    write_annotations(tmp_path / "b.txt", SAMPLE, classes=CLASSES, frame=FRAME, format="csv")
    assert len(table(tmp_path / "b.txt")) == 4


def test_options_reach_their_writer(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.geojson", SAMPLE, classes=CLASSES, kind="detection", properties={"slide": "s"})
    assert '"detection"' in (tmp_path / "a.geojson").read_text(encoding="utf-8")
    assert read_annotations(tmp_path / "a.geojson").properties == {"slide": "s"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "", "unknown suffix"),
        ("a.gz", "", "unknown suffix"),
        ("a.csv", "", "csv, which is only written"),
        ("a.coco.json", "{}", "coco, which is only written"),
        ("a.json", '{"images": [], "annotations": []}', "COCO"),
        ("a.xml", "<Other/>", "XML of an unknown kind"),
        ("a.xml", "", "not XML"),
        ("a.xml", "<Annotations><Annotation>", "damaged"),
        ("a.xml", "\xff\xfe\xff", "not XML"),
        ("a.xml", '<?xml version="1.0" encoding="cp037"?><Annotations/>', "unknown encoding"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><Annotations/>', "document type"),
        ("a.xml", '<Annotations MicronsPerPixel="x"/>', "MicronsPerPixel='x'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(AnnotationError, match=says) as caught:
        read_annotations(tmp_path / name)
    assert name in str(caught.value)


def test_a_document_type_cannot_hide_in_utf_16(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes('<!DOCTYPE a [<!ENTITY b "c">]><Annotations/>'.encode("utf-16"))
    with pytest.raises(AnnotationError, match="document type"):
        read_annotations(tmp_path / "a.xml")
    (tmp_path / "a.xml").write_bytes('<?xml version="1.0" encoding="utf-16"?><Annotations/>'.encode("utf-16"))
    assert read_annotations(tmp_path / "a.xml").polygons == ()


def test_missing_files(tmp_path: Path) -> None:
    for name in ("a.xml", "a.geojson"):
        with pytest.raises(AnnotationError, match="does not exist"):
            read_annotations(tmp_path / name)
    with pytest.raises(AnnotationError, match="does not exist"):
        file_hash(tmp_path / "a.geojson")
    with pytest.raises(AnnotationError, match="cannot be read"):
        file_hash(tmp_path)


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    for name, options in (("a.txt", {}), ("a.geojson", {"format": "asap"}), ("a.geojson", {"format": "svg"})):
        with pytest.raises(AnnotationError, match="cannot be written as"):
            write_annotations(tmp_path / name, SAMPLE, classes=CLASSES, **options)  # type: ignore[arg-type]
    for name in ("a.csv", "a.coco.json"):
        with pytest.raises(AnnotationError, match="level-0 frame"):
            write_annotations(tmp_path / name, SAMPLE, classes=CLASSES)
    bare = [SAMPLE[0], LabelledPolygon(ISLAND, None)]
    with pytest.raises(AnnotationError, match="Object 2 has no class"):
        write_annotations(tmp_path / "a.coco.json", bare, classes=CLASSES, frame=FRAME)
    named = [LabelledPolygon(ISLAND, None, measurements={"class": 1})]
    with pytest.raises(AnnotationError, match="which is a column"):
        write_annotations(tmp_path / "a.csv", named, classes=CLASSES, frame=FRAME)
    for name in ("a.xml", "a.coco.json"):
        with pytest.raises(ClassError):
            write_annotations(tmp_path / name, [LabelledPolygon(ISLAND, "Podocyte")], classes=CLASSES, frame=FRAME)
        with pytest.raises(OutputError):
            write_annotations(tmp_path / "no" / name, SAMPLE, classes=CLASSES, frame=FRAME)
    assert list(tmp_path.iterdir()) == []
