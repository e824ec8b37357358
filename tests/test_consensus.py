"""A consensus of annotators: error rates that are known come back, and what all agree on stays as it is."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from shapely import Point, Polygon, box
from shapely.affinity import translate

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.cli import wsiseg
from wsiseg.errors import AnnotationError
from wsiseg.evaluation import consensus as module
from wsiseg.evaluation.consensus import Annotator, consensus
from wsiseg.evaluation.staple import SILENT, staple
from wsiseg.geometry import Frame

LEVEL0 = Frame(1000, 1000, 0.5)
CENTRES = [(x, y) for x in range(100, 1000, 200) for y in range(100, 1000, 200)]  # 25 objects
CLASSES = ClassMap(("Background", "A", "B"))


def circles(radius: float = 40, missing: int = 0, label: str = "A") -> tuple[LabelledPolygon, ...]:
    return tuple(LabelledPolygon(Point(centre).buffer(radius), label) for centre in CENTRES[missing:])


def iou(a: Polygon, b: Polygon) -> float:
    return a.intersection(b).area / a.union(b).area


def test_error_rates_that_are_known_are_recovered() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(200_000) < 0.3
    p, q = np.array([0.95, 0.8, 0.6, 0.9]), np.array([0.99, 0.9, 0.97, 0.7])
    said = np.where(rng.random((len(truth), 4)) < np.where(truth[:, None], p, 1 - q), 1, 0)
    said[::10, 2] = SILENT
    patterns, which, pixels = np.unique(said, axis=0, return_inverse=True, return_counts=True)
    found = staple(patterns.astype(np.int8), pixels)
    assert found.sensitivity == pytest.approx(p, abs=0.02)
    assert found.specificity == pytest.approx(q, abs=0.02)
    right = (found.probability[which.ravel()] > 0.5) == truth
    votes = np.where(said == SILENT, 0.5, said).mean(axis=1) > 0.5
    assert right.mean() > 0.01 + (votes == truth).mean()  # a mean of equal votes is worse


def test_annotators_of_the_same_polygons_give_these_polygons() -> None:
    holed = LabelledPolygon(Point(500, 900).buffer(60).difference(Point(500, 900).buffer(20)), "B")
    inner = LabelledPolygon(Point(100, 100).buffer(10), "B")  # inside an object of another class
    silent = LabelledPolygon(box(0, 0, 50, 50), "Ignore")
    same = (*circles(), holed, inner, silent)
    found = consensus([Annotator(name, same[::step]) for name, step in (("a", 1), ("b", -1), ("c", 1))], LEVEL0)
    key = [(p.label, p.polygon.normalize().wkb) for p in found.polygons]
    assert sorted(key) == sorted((p.label, p.polygon.normalize().wkb) for p in same)
    assert [(r.found, r.missed, r.added, r.dice) for r in found.agreement if r.label == "A"] == [(25, 0, 0, 1.0)] * 3


def test_missed_and_invented_objects_are_put_right_and_counted() -> None:
    invented = LabelledPolygon(Point(200, 200).buffer(40), "A")
    people = [
        Annotator("careful", circles()), Annotator("misses ten", circles(missing=10)),
        Annotator("invents one", (*circles(39), invented)),
    ]  # fmt: skip
    found = consensus(people, LEVEL0)
    objects = [p for p in found.polygons if p.label == "A"]
    assert len(objects) == len(CENTRES)
    for polygon in circles():
        assert max(iou(polygon.polygon, one.polygon) for one in objects) > 0.93
    rows = {row.annotator: row for row in found.agreement}
    assert rows["misses ten"].sensitivity == pytest.approx(15 / 25, abs=0.02)
    assert (rows["misses ten"].missed, rows["misses ten"].added) == (10, 0)
    assert (rows["invents one"].missed, rows["invents one"].added, rows["invents one"].annotations) == (0, 1, 26)
    assert rows["careful"].sensitivity > 0.99
    assert rows["careful"].specificity > rows["invents one"].specificity
    assert rows["careful"].dice > rows["misses ten"].dice


def test_people_of_the_same_skill_who_disagree_leave_the_place_undecided() -> None:
    half = len(CENTRES) // 2
    one, other = circles(), list(circles())
    people = [Annotator("a", (*one[:half], *one[half + 1 :])), Annotator("b", (*other[: half - 1], *other[half:]))]
    found = consensus(people, LEVEL0, certain=0.99)
    doubted = [p for p in found.polygons if p.label == "Ignore"]
    assert len(doubted) == 2
    assert {min(range(25), key=lambda k: p.polygon.distance(Point(CENTRES[k]))) for p in doubted} == {half - 1, half}


def test_touching_objects_stay_two_and_nested_classes_stay_nested() -> None:
    left, right = box(300, 300, 400, 400), box(400, 300, 500, 400)
    inner = box(320, 320, 360, 360)

    def drawn(by: float) -> tuple[LabelledPolygon, ...]:
        shapes = ((left, "A"), (right, "A"), (inner, "B"))
        return tuple(LabelledPolygon(translate(shape, by, by), label) for shape, label in shapes)

    found = consensus([Annotator(str(by), drawn(by)) for by in (-3, 0, 3)], LEVEL0)
    objects = {label: [p.polygon for p in found.polygons if p.label == label] for label in ("A", "B")}
    assert [len(objects["A"]), len(objects["B"])] == [2, 1]
    for shape in (left, right):
        assert max(iou(shape, one) for one in objects["A"]) > 0.95
    assert iou(inner, objects["B"][0]) > 0.9


def test_who_states_nothing_there_has_missed_nothing() -> None:
    elsewhere = LabelledPolygon(box(0, 0, 200, 1000), "Ignore")  # the first five objects
    people = [Annotator("a", circles()), Annotator("b", (*circles(missing=5), elsewhere)), Annotator("c", circles(41))]
    rows = {row.annotator: row for row in consensus(people, LEVEL0).agreement}
    assert rows["b"].sensitivity > 0.99


def test_order_and_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    people = [
        Annotator("a", circles(41)), Annotator("b", circles(missing=3)), Annotator("c", circles(36)[:-2]),
    ]  # fmt: skip
    expected = consensus(people, LEVEL0)
    for order in itertools.permutations(people):
        assert consensus(order, LEVEL0) == expected
    monkeypatch.setattr(module, "STRIP_PX", 500)
    assert consensus(people, LEVEL0) == expected


def test_one_person_is_no_consensus() -> None:
    with pytest.raises(AnnotationError, match="2 to 39 people, not of 1"):
        consensus([Annotator("a", circles())], LEVEL0)
    with pytest.raises(AnnotationError, match="Nobody annotated anything"):
        consensus([Annotator("a", ()), Annotator("b", ())], LEVEL0)


def test_the_command_writes_the_consensus_and_the_table(tmp_path: Path) -> None:
    slide, out, table = tmp_path / "slide.png", tmp_path / "consensus.geojson", tmp_path / "agreement.csv"
    Image.new("RGB", (1000, 1000)).save(slide)
    files = []
    for name, missing in (("anna", 0), ("ben", 0), ("chen", 5)):
        files.append(tmp_path / f"{name}.geojson")
        write_annotations(files[-1], circles(missing=missing), classes=CLASSES)
    command = ["consensus", str(slide), *map(str, files), "--mpp", "0.5", "--out", str(out), "--csv", str(table)]
    done = CliRunner().invoke(wsiseg, command)
    assert done.exit_code == 0, done.output
    assert "chen" in done.output
    written = read_annotations(out)
    assert len(written.polygons) == len(CENTRES)
    assert written.about["kind"] == "consensus"
    rows = list(csv.DictReader(table.open()))
    assert [(row["annotator"], row["missed"]) for row in rows] == [("anna", "0"), ("ben", "0"), ("chen", "5")]
    first = out.read_bytes()
    again = [
        "consensus",
        str(slide),
        *map(str, files[::-1]),
        "--mpp",
        "0.5",
        "--out",
        str(out),
        "--overwrite",
        "--json",
    ]
    done = CliRunner().invoke(wsiseg, again)
    assert out.read_bytes() == first
    assert [row["missed"] for row in json.loads(done.stdout)] == [0, 0, 5]
    refused = CliRunner().invoke(wsiseg, ["consensus", str(slide), str(out), str(files[0]), "--out", str(out)])
    assert "choose another place" in str(refused.exception)
    assert out.read_bytes() == first
