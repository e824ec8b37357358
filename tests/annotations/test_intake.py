"""Annotations for a slide: what is left out and said, what is refused and with which advice."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely import Polygon, box

from wsiseg.annotations.feature import faults, from_feature, to_feature
from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.intake import Intake, take_in, without_duplicates
from wsiseg.annotations.polygon import Details, LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.annotations.surround import statements_first
from wsiseg.classes import IGNORE, ClassMap, canonical_name, states_nothing
from wsiseg.errors import AnnotationError, ClassError, MismatchError
from wsiseg.geometry import Box, Frame


class Slide:
    """The plane of a slide of 1200 × 800 px at 2 µm/px, scanned in part."""

    frame = Frame(1200, 800, 2.0)
    bounds = Box(300, 200, 400, 300)
    downsamples = ((1.0, 1.0), (3.0, 3.0))


SLIDE = Slide()
CLASSES = ClassMap(("Background", "Glomerulus", "Podocyte"))


def feature(shape: Polygon, label: str | None = "Glomerulus", **properties: Any) -> dict[str, Any]:
    named = {"classification": {"name": label}} if label else {}
    return {"type": "Feature", "geometry": shape.__geo_interface__, "properties": {**named, **properties}}


def given(folder: Path, *features: dict[str, Any]) -> Path:
    path = folder / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def taken(folder: Path, *features: dict[str, Any], **options: Any) -> Intake:
    return take_in(given(folder, *features), SLIDE, **options)


INSIDE = box(100, 100, 150, 140)


def test_everything_that_is_not_used_is_counted(tmp_path: Path) -> None:
    bow = Polygon([(200, 200), (300, 300), (300, 200), (200, 300)])
    high = feature(box(500, 500, 520, 520))
    high["geometry"]["plane"] = {"c": -1, "z": 3, "t": 0}
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}
    found = taken(
        tmp_path, feature(INSIDE), feature(INSIDE), feature(bow), feature(box(5000, 10, 5100, 20)),
        feature(box(1190, 10, 1210, 20)), high, feature(box(50, 50, 60, 60), None), feature(box(1, 1, 90, 90), "Region*"),
        point, keep_unclassed=False,
    )  # fmt: skip
    told = found.summary.to_json()
    assert told == {
        "file": "a.geojson", "read": 8, "used": 4, "skipped": {"Point": 1}, "repaired": 1, "duplicates": 1,
        "outside": 1, "partly_outside": 1, "without_class": 1, "other_planes": 1, "nothing_stated": 1,
    }  # fmt: skip
    assert len(found.polygons) == 4
    said = str(found.summary)
    assert said.startswith("a.geojson: 4 of 8 annotations used, ")
    for part in ("1 repaired", "1 given twice", "1 outside", "1 partly outside", "1 on other z", "1 without a class",
                 "1 of classes that state nothing", "1 Point skipped"):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        (box(50, 1000, 90, 1100), "x and y swapped"),
        (box(1300, 900, 1390, 990), r"subtract \(300, 200\)"),
        (box(2000, 1500, 2390, 1590), "divide them by 2"),
        (box(3000, 2300, 3590, 2390), "divide them by 3"),
        (box(18000, 10000, 18700, 10900), "divide them by 16"),
        (box(1e6, 1e6, 1.2e6, 1.3e6), "in nm"),
        (box(100, -700, 200, -600), "turn the sign of y"),
        (box(-500, -300, -400, -200), r"add \(300, 200\)|middle of the slide"),
        (box(30278, 20735, 31000, 21200), "begins at|divide"),
        (box(9000, 100, 9e7, 7e7), "annotations of this slide"),
        (box(0.2, 0.3, 0.25, 0.35), "multiply x by 1200 and y by 800"),
    ],
)
def test_what_lies_outside_altogether_is_refused_with_its_likely_cause(
    tmp_path: Path, shape: Polygon, advice: str
) -> None:
    with pytest.raises(AnnotationError, match=advice) as caught:
        taken(tmp_path, feature(shape))
    assert "a.geojson: its only annotation lies" in str(caught.value)


def test_micrometres_are_recognised(tmp_path: Path) -> None:
    class Coarse(Slide):
        frame = Frame(1200, 800, 8.0)
        bounds = frame.box
        downsamples = ((1.0, 1.0),)

    with pytest.raises(AnnotationError, match="in µm: divide them by 8 µm/px"):
        take_in(given(tmp_path, feature(box(8000, 5000, 9000, 6000))), Coarse())


def test_no_annotation_at_all_is_no_fault(tmp_path: Path) -> None:
    assert taken(tmp_path, need_class=True).polygons == ()


def test_an_outline_that_covers_far_more_than_the_slide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="annotation 2 reaches 99200 px beyond the slide"):
        taken(tmp_path, feature(INSIDE), feature(box(-50_000, -50_000, 100_000, 100_000)))


def test_a_file_of_another_slide_is_refused(tmp_path: Path) -> None:
    origin = {"wsiseg": {"level0": Frame(500, 500, 1.0).to_json()}}
    write_annotations(tmp_path / "a.geojson", [LabelledPolygon(INSIDE, "Podocyte")], classes=CLASSES, properties=origin)
    with pytest.raises(MismatchError, match="500 × 500 px"):
        take_in(tmp_path / "a.geojson", SLIDE)


def test_without_any_class_there_is_a_way_out(tmp_path: Path) -> None:
    bare = feature(INSIDE, None), feature(box(1, 1, 9, 9), None)
    with pytest.raises(AnnotationError, match=r"a\.geojson has 2 annotations and not one with a class: .*--class NAME"):
        taken(tmp_path, *bare, need_class=True)
    named = taken(tmp_path, *bare, need_class=True, class_of_rest="Tumor:necrosis")
    assert {p.label for p in named.polygons} == {"Tumor: necrosis"}
    assert {p.label for p in taken(tmp_path, *bare, rename={"": "Podocyte"}).polygons} == {"Podocyte"}


def test_an_unknown_class_names_file_outline_and_way_out(tmp_path: Path) -> None:
    other = feature(box(1, 1, 9, 9), "Tubulus")
    with pytest.raises(ClassError, match=r"a\.geojson: annotation 2 and 1 more: .*'Tubulus'.*--ignore-class"):
        taken(tmp_path, feature(INSIDE), other, feature(box(5, 5, 15, 15), "Tubulus"), classes=CLASSES)
    assert len(taken(tmp_path, feature(INSIDE), feature(box(1, 1, 9, 9), "Region*"), classes=CLASSES).polygons) == 2
    renamed = taken(tmp_path, other, classes=CLASSES, rename={"Tubulus": "Podocyte"})
    assert [p.label for p in renamed.polygons] == ["Podocyte"]


def test_only_another_plane(tmp_path: Path) -> None:
    high = feature(INSIDE)
    high["geometry"]["plane"] = {"c": -1, "z": 3, "t": 0}
    with pytest.raises(AnnotationError, match=r"its only annotation lies on other planes .*z 3"):
        taken(tmp_path, high)
    assert len(take_in(given(tmp_path, high), all_planes=True).polygons) == 1


# --- duplicates


def test_the_same_outline_is_one_object_wherever_its_ring_begins() -> None:
    ring = [(0, 0), (7, 0), (7, 9), (3, 4), (0, 9)]
    turned = Polygon([*ring[2:], *ring[:2]])
    one = LabelledPolygon(Polygon(ring), "A", id="1")
    assert without_duplicates([one, LabelledPolygon(turned, "A"), replace(one, score=0.5)]) == [one]
    other = replace(one, label="B"), replace(one, details=Details(plane=(-1, 2, 0)))
    assert without_duplicates([one, *other]) == [one, *other]
    same_box = LabelledPolygon(Polygon([(0, 0), (7, 0), (7, 9), (4, 4), (0, 9)]), "A")
    assert without_duplicates([one, same_box]) == [one, same_box]


# --- names


def test_names_of_one_meaning_are_one() -> None:
    assert canonical_name(" Tumor :necrosis ") == "Tumor: necrosis"
    for form in ("NFC", "NFD"):
        assert canonical_name(unicodedata.normalize(form, "Nekrose é")) == unicodedata.normalize("NFC", "Nekrose é")
    classes = ClassMap(("Background", unicodedata.normalize("NFD", "Gefäß"), "A:B"))
    assert classes.index(unicodedata.normalize("NFC", "Gefäß")) == 1
    assert classes.index("A : B") == 2


@pytest.mark.parametrize(
    "name", ["Ignore", "Ignore*", "ignore*", "Ignore: folded", "Ignore*: Blur", "Region*", "A: B*"]
)
def test_names_that_state_nothing(name: str) -> None:
    assert states_nothing(name)
    assert CLASSES.index(name) == IGNORE
    assert not states_nothing("Ignored")


def test_a_class_is_one_although_its_name_ends_in_a_star() -> None:
    assert ClassMap(("Background", "Positive*")).index("Positive*") == 1


def test_what_states_nothing_gives_way_and_what_is_ignored_does_not() -> None:
    frame = Frame(100, 100, 1.0)
    polygons = [
        LabelledPolygon(box(0, 0, 80, 80), "Region*"),
        LabelledPolygon(box(10, 10, 30, 30), "Glomerulus"),
        LabelledPolygon(box(10, 10, 20, 20), "Ignore*"),
    ]
    labels = rasterise(polygons, CLASSES, frame.box, frame, frame)
    assert {int(v): int((labels == v).sum()) for v in np.unique(labels)} == {
        0: 100 * 100 - 80 * 80, 1: 20 * 20 - 10 * 10, IGNORE: 80 * 80 - 300,
    }  # fmt: skip


def test_statements_win_over_what_nobody_has_looked_at() -> None:
    """Accepted podocytes in an undecided glomerulus, one of them across its border, keep every pixel."""
    frame = Frame(200, 200, 1.0)
    nuclei = [LabelledPolygon(box(x, 50, x + 8, 58), "Podocyte") for x in range(20, 120, 10)]
    undecided = LabelledPolygon(box(10, 10, 104.5, 104.5), "Ignore*")
    hidden = LabelledPolygon(box(21, 51, 24, 54), "Ignore*")
    found = statements_first([undecided, *nuclei, hidden])
    assert hidden not in found
    labels = rasterise(found, CLASSES, frame.box, frame, frame)
    assert (labels == 2).sum() == len(nuclei) * 64
    assert (labels == IGNORE).sum() == (
        rasterise([undecided], CLASSES, frame.box, frame, frame) > 0
    ).sum() - 8 * 64 - 32


# --- single objects


def test_a_single_object_goes_through_geojson_unchanged() -> None:
    details = Details("cell", "Nr. 3", True, (1, 2, 3), (-1, 2, 0), box(12, 12, 14, 14), {"a": "b"}, {"mine": [1, 2]})
    thing = LabelledPolygon(
        box(10, 10, 20, 20), "Tumor: necrosis", 0.5, "11111111-2222-4333-8444-555555555555", {"x": 1.0}, details
    )
    back = from_feature(to_feature(thing))
    assert back.details.nucleus is not None
    assert back.details.nucleus.equals(details.nucleus)
    assert back.polygon.equals(thing.polygon)
    assert replace(back, polygon=thing.polygon, details=replace(back.details, nucleus=details.nucleus)) == thing
    assert faults(to_feature(thing)) == []
    assert thing.__geo_interface__["geometry"]["type"] == "Polygon"


def test_faults_are_told() -> None:
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10]]]}
    assert len(faults({"type": "Feature", "geometry": bow, "properties": {}})) == 2
    with pytest.raises(AnnotationError, match="not one:"):
        from_feature({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}})
    with pytest.raises(AnnotationError, match="no area"):
        to_feature(LabelledPolygon(box(0, 0, 0.001, 0.001), None))


# --- what the person set, in every format


def test_what_is_set_comes_back_or_is_said_to_be_lost(tmp_path: Path) -> None:
    details = Details("cell", "Nr. 3", True, (1, 2, 3), (-1, 2, 0), box(12, 12, 14, 14), {"a": "b"}, {"mine": [1, 2]})
    things = [LabelledPolygon(box(10, 10, 20, 20), "Podocyte", 0.5, None, {"x": 1.0}, details)]
    frame = Frame(100, 100, 1.0)
    for name in ("a.geojson", "a.json", "a.geojson.gz"):
        assert not write_annotations(tmp_path / name, things, classes=CLASSES, frame=frame).lost
        (back,) = read_annotations(tmp_path / name).polygons
        assert replace(back.details, nucleus=details.nucleus) == details
    lost = {
        "a.xml": {"scores", "measured objects", "locks", "colours of their own", "planes", "nuclei of cells",
                  "with metadata", "kinds of object", "with other properties"},
        "a.csv": {"names", "locks", "colours of their own", "planes", "nuclei of cells", "with metadata",
                  "kinds of object", "with other properties"},
    }  # fmt: skip
    lost["a.coco.json"] = lost["a.csv"] | {"measured objects"}
    for name, kinds in lost.items():
        written = write_annotations(tmp_path / name, things, classes=CLASSES, frame=frame)
        assert written.lost == dict.fromkeys(kinds, 1), name
        assert "not in this format: 1 " in str(written)
    assert read_annotations(tmp_path / "a.xml").polygons[0].details.name == "Nr. 3"
    forced = write_annotations(tmp_path / "b.json", things, classes=CLASSES, kind="detection")
    assert forced.lost == {"kinds of object": 1, "nuclei of cells": 1}


def test_the_kind_of_an_object_is_kept_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    kinds = ("annotation", "detection", "cell", "tile", "tmaCore", None)
    things = [LabelledPolygon(box(i, 0, i + 1, 1), "Podocyte", details=Details(k)) for i, k in enumerate(kinds)]
    path = tmp_path / "a.geojson"

    def written(**options: Any) -> list[str | None]:
        write_annotations(path, things, classes=CLASSES, **options)
        return [p.details.kind for p in read_annotations(path).polygons]

    assert written() == [*kinds[:-1], "annotation"]
    assert written(kind={"Podocyte": "detection"}) == [*kinds[:-1], "detection"]
    assert written(kind="detection") == ["detection"] * len(kinds)


@pytest.mark.parametrize("name", ["a.xml", "a.csv", "a.coco.json"])
@pytest.mark.parametrize("options", [{"kind": "detection"}, {"legacy": True}])
def test_choices_of_geojson_are_refused_elsewhere(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(AnnotationError, match="has no choice of"):
        write_annotations(tmp_path / name, [], classes=CLASSES, frame=Frame(9, 9, 1.0), **options)
    for suffix in ("a.json", "a.geojson.gz"):
        write_annotations(tmp_path / suffix, [], classes=CLASSES, **options)


def test_classes_keep_the_colours_of_the_file(tmp_path: Path) -> None:
    first = feature(INSIDE)
    first["properties"]["classification"]["color"] = [1, 2, 3]
    found = read_annotations(given(tmp_path, first, feature(box(0, 0, 5, 5), "Vessel")))
    classes = found.class_map()
    assert classes.names == ("Background", "Glomerulus", "Vessel")
    assert classes.colours[1] == (1, 2, 3)
