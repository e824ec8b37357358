"""Suggestions for annotations that are missing, cut, misplaced or of nothing: each where it is, and nowhere else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shapely import Point, Polygon
from shapely import box as rectangle
from shapely.affinity import translate

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.bundle import ModelBundle, Usage
from wsiseg.classes import ClassMap
from wsiseg.data.slides import SlideEntry, read_slides
from wsiseg.errors import BundleError, OutputError, RecipeError
from wsiseg.evaluation.audit import AuditedSlide, AuditOptions, Judge, audit, render
from wsiseg.evaluation.suggestions import suggest
from wsiseg.nets.segmentation import Architecture
from wsiseg.usage import Postprocessing

CLASSES = ClassMap(("Background", "A", "B"))
BUNDLE = ModelBundle(
    "by colour", CLASSES, Usage(2.0, 64, 16, 2, postprocessing=Postprocessing(min_object_um2=300)),
    Architecture("none", 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), "0" * 64,
)  # fmt: skip
TISSUE, A, B, FAINT = (200, 140, 170), (190, 40, 160), (30, 130, 160), (190, 90, 165)


class ByColour:
    """90 % sure of A where green is below 60, of B where red is; 45 % of A where green is below 100."""

    streams = 1

    def __init__(self, name: str = "by colour", before: Callable[[], None] = lambda: None) -> None:
        self.identity: dict[str, Any] = {"name": name}
        self.before, self.calls = before, 0

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.before()
        self.calls += 1
        red, green = images[..., 0], images[..., 1]
        a = np.where(green < 60, 0.9, np.where(green < 100, 0.45, 0.005))
        b = np.where(red < 60, 0.9, 0.005)
        return np.stack([1 - a - b, a, b], 1).astype(np.float32)


class Blind(ByColour):
    """Sees nothing anywhere."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        out = np.zeros((len(images), 3, *images.shape[1:3]), np.float32)
        out[:, 0] = 1
        return out


CIRCLES = {
    "good": (150, 150, "A"), "missed": (350, 150, "B"), "halved": (550, 150, "A"), "shifted": (150, 350, "A"),
    "faint": (350, 350, "A"), "silent": (550, 350, "A"),
}  # fmt: skip
RADIUS = 50


def circle(name: str, radius: float = RADIUS) -> Polygon:
    x, y, _ = CIRCLES[name]
    return Point(x, y).buffer(radius)


def annotated(*faults: str) -> list[LabelledPolygon]:
    """Every object as it is but for the faults."""
    found = []
    for name, (_, y, label) in CIRCLES.items():
        shape = circle(name)
        if name in faults:
            if name == "missed":
                continue
            if name == "halved":
                shape = shape.intersection(rectangle(0, 0, 700, y))
            if name == "shifted":
                shape = translate(shape, 50, 15)
        found.append(LabelledPolygon(shape, label))
    if "nothing" in faults:
        found.append(LabelledPolygon(Point(350, 550).buffer(40), "B"))
    return found


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = np.full((700, 700, 3), 245, np.uint8)
    picture[40:660, 40:660] = TISSUE
    y, x = np.mgrid[:700, :700] + 0.5
    for name, (cx, cy, label) in CIRCLES.items():
        colour = FAINT if name == "faint" else A if label == "A" else B
        picture[(x - cx) ** 2 + (y - cy) ** 2 < RADIUS**2] = colour
    path = tmp_path_factory.mktemp("slides") / "one.png"
    Image.fromarray(picture).save(path)
    return path


def entry(slide: Path, folder: Path, polygons: list[LabelledPolygon], **more: Any) -> SlideEntry:
    file = folder / "one.geojson"
    write_annotations(file, polygons, classes=CLASSES)
    return SlideEntry(slide, file, "one", mpp=1.0, **more)


JUDGE = Judge(BUNDLE, ByColour())


def kinds(audited: list[AuditedSlide]) -> dict[str, int]:
    return {kind: count for kind in ("missed", "halved", "misplaced", "none") if (count := audited[0].count(kind))}


def test_every_fault_is_found_where_it_is(slide: Path, tmp_path: Path) -> None:
    listed = [entry(slide, tmp_path, annotated("missed", "halved", "shifted", "nothing"))]
    audited = audit(listed, [JUDGE], AuditOptions(tmp_path / "out"))
    assert kinds(audited) == {"missed": 1, "halved": 1, "misplaced": 1, "none": 1}
    found = {p.details.name: p for p in read_annotations(tmp_path / "out" / "one.geojson").polygons}
    assert set(found) == {"probably missed", "probably halved", "probably misplaced", "probably none"}
    for name, kind in (("missed", "missed"), ("halved", "halved"), ("shifted", "misplaced")):
        one = found[f"probably {kind}"]
        shape = circle(name)
        assert one.label == CIRCLES[name][2]
        assert one.polygon.intersection(shape).area > 0.95 * one.polygon.union(shape).area
        assert one.score == pytest.approx(0.9, abs=0.01)
    assert found["probably none"].polygon.centroid.distance(Point(350, 550)) < 1
    with (tmp_path / "out" / "suggestions.csv").open() as file:
        rows = {row["kind"]: row for row in csv.DictReader(file)}
    assert float(rows["missed"]["area_um2"]) == pytest.approx(np.pi * RADIUS**2, rel=0.05)
    assert abs(int(rows["missed"]["x_px"]) - 350) <= 2
    assert abs(int(rows["missed"]["y_px"]) - 150) <= 2
    assert render(audited).splitlines()[-1].split() == ["together", "1", "1", "1", "1"]


def test_complete_annotations_give_no_suggestion(slide: Path, tmp_path: Path) -> None:
    audited = audit([entry(slide, tmp_path, annotated())], [JUDGE], AuditOptions(tmp_path / "out"))
    assert kinds(audited) == {}
    assert read_annotations(tmp_path / "out" / "one.geojson").polygons == ()


def test_what_the_model_is_unsure_of_is_missed_only_if_wanted(slide: Path, tmp_path: Path) -> None:
    bundle = replace(BUNDLE, usage=replace(BUNDLE.usage, foreground_threshold=0.3))
    listed = [entry(slide, tmp_path, [p for p in annotated() if not p.polygon.contains(Point(350, 350))])]
    options = AuditOptions(tmp_path / "out")
    assert kinds(audit(listed, [Judge(bundle, ByColour())], options)) == {}
    again = ByColour()
    more = replace(options, confident=0.4, overwrite=True)
    assert kinds(audit(listed, [Judge(bundle, again)], more)) == {"missed": 1}
    assert again.calls == 0, "the slide is not predicted a second time"


def test_where_annotations_state_nothing_nothing_is_suggested(slide: Path, tmp_path: Path) -> None:
    silent = [p for p in annotated("nothing", "missed") if not p.polygon.contains(Point(550, 350))]
    silent += [
        LabelledPolygon(circle("silent", 60), "Ignore"),
        LabelledPolygon(rectangle(290, 90, 410, 210), "Ignore*"),
    ]
    silent += [LabelledPolygon(rectangle(300, 500, 400, 600), "Ignore")]
    assert kinds(audit([entry(slide, tmp_path, silent)], [JUDGE], AuditOptions(tmp_path / "out"))) == {}


def test_the_corrected_annotations_ignore_what_is_not_annotated(slide: Path, tmp_path: Path) -> None:
    listed = [entry(slide, tmp_path, annotated("missed", "halved"))]
    unannotated = SlideEntry(tmp_path / "two.png", None, "two")
    audit([*listed, unannotated], [JUDGE], AuditOptions(tmp_path / "out", tmp_path / "corrected"))
    after = read_annotations(tmp_path / "corrected" / "one.geojson").polygons
    before = read_annotations(tmp_path / "one.geojson").polygons
    assert [(p.label, p.polygon) for p in after[: len(before)]] == [(p.label, p.polygon) for p in before]
    ignored = after[len(before) :]
    assert [p.label for p in ignored] == ["Ignore", "Ignore"]
    assert sum(p.polygon.area for p in ignored) == pytest.approx(1.5 * np.pi * RADIUS**2, rel=0.05)
    assert all(i.polygon.intersection(p.polygon).area < 1 for i in ignored for p in before), "they hide no annotation"
    slides = read_slides(tmp_path / "corrected" / "slides.csv", present=False)
    assert [s.annotations and s.annotations.resolve() for s in slides] == [tmp_path / "corrected" / "one.geojson", None]


def test_a_slide_is_judged_by_models_that_did_not_learn_from_it(slide: Path, tmp_path: Path) -> None:
    listed, said = [entry(slide, tmp_path, annotated("missed"))], []
    blind = Judge(replace(BUNDLE, name="blind"), Blind("blind"))
    seen = replace(BUNDLE, provenance={"slides": {"train": ["one"], "test": []}})
    judges = [Judge(seen, ByColour()), blind]
    assert set(kinds(audit(listed, judges, AuditOptions(tmp_path / "a"), say=said.append))) == {"none"}
    assert not any("all models" in line for line in said)
    other = replace(BUNDLE, provenance={"slides": {"train": ["two"], "validation": ["one"]}})
    learnt = replace(blind.bundle, provenance=seen.provenance)
    assert kinds(
        audit(listed, [Judge(other, ByColour()), Judge(learnt, blind.engine)], AuditOptions(tmp_path / "b"))
    ) == {"missed": 1}
    audit(listed, [Judge(seen, ByColour())], AuditOptions(tmp_path / "c"), say=said.append)
    assert "one: all models have learnt from it, so that they hide its faults." in said


def test_several_models_are_averaged(slide: Path, tmp_path: Path) -> None:
    listed = [entry(slide, tmp_path, annotated("missed"))]
    pair = [JUDGE, Judge(replace(BUNDLE, name="blind"), Blind("blind"))]
    usage = replace(BUNDLE.usage, foreground_threshold=0.3)
    pair = [replace(judge, bundle=replace(judge.bundle, usage=usage)) for judge in pair]
    (one,) = audit(listed, pair, AuditOptions(tmp_path / "out", confident=0.4))
    (row,) = one.suggestions
    assert row[1:4] == ("missed", "B", pytest.approx(0.45, abs=0.01))


def test_interrupted_it_goes_on_to_the_same_files(slide: Path, tmp_path: Path) -> None:
    listed = [entry(slide, tmp_path, annotated("missed", "halved"))]
    audit(listed, [JUDGE], AuditOptions(tmp_path / "whole"))
    left = [20]

    def stop() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(listed, [Judge(BUNDLE, ByColour(before=stop))], AuditOptions(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.*"))
    audit(listed, [JUDGE], AuditOptions(tmp_path / "out"))
    for name in ("one.geojson", "suggestions.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_nothing_is_replaced_unasked(slide: Path, tmp_path: Path) -> None:
    listed = [entry(slide, tmp_path, annotated("missed"))]
    audit(listed, [JUDGE], AuditOptions(tmp_path / "out"))
    with pytest.raises(OutputError, match="--overwrite"):
        audit(listed, [JUDGE], AuditOptions(tmp_path / "out"))
    audit(listed, [JUDGE], AuditOptions(tmp_path / "out", overwrite=True))
    with pytest.raises(OutputError, match="annotations that are audited"):
        audit(listed, [JUDGE], AuditOptions(tmp_path / "more", tmp_path, overwrite=True))


def test_impossible_wishes_are_one_sentence(slide: Path, tmp_path: Path) -> None:
    listed, options = [entry(slide, tmp_path, annotated(), split="test")], AuditOptions(tmp_path / "out")
    with pytest.raises(RecipeError, match="no annotated slide of the split train or validation"):
        audit(listed, [JUDGE], options)
    other = Judge(replace(BUNDLE, usage=replace(BUNDLE.usage, mpp=3.0)), ByColour())
    with pytest.raises(BundleError, match="audit with models of one recipe"):
        audit(listed, [JUDGE, other], options)
    inner = Judge(replace(BUNDLE, parent=BUNDLE), ByColour())
    with pytest.raises(BundleError, match="whole slides"):
        audit(listed, [inner], options)


def test_objects_on_glass_are_no_objects(slide: Path, tmp_path: Path) -> None:
    class SeesGlass(ByColour):
        def probabilities(self, images: np.ndarray) -> np.ndarray:
            out = super().probabilities(images)
            glass = images.min(-1) > 240
            out[:, 0][glass], out[:, 2][glass] = 0.05, 0.9
            return out

    listed = [entry(slide, tmp_path, annotated())]
    assert kinds(audit(listed, [Judge(BUNDLE, SeesGlass())], AuditOptions(tmp_path / "out"))) == {}


def square(
    x: float, y: float, width: float, height: float, label: str = "A", score: float | None = None
) -> LabelledPolygon:
    return LabelledPolygon(rectangle(x, y, x + width, y + height), label, score)


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ([(0, 0, 100, 100)], []),
        ([(0, 0, 100, 50)], ["halved"]),
        ([(0, 0, 100, 50), (0, 50, 100, 50)], []),  # both halves are annotated
        ([(0, 0, 100, 20)], ["misplaced"]),  # too little for a half
        ([(60, 0, 100, 100)], ["misplaced"]),
        ([(-200, -200, 500, 500)], []),  # the model sees a part of it
        ([(96, 96, 100, 100)], ["missed"]),  # a neighbour
    ],
)
def test_one_object_and_its_annotations(drawn: list[tuple[float, ...]], said: list[str]) -> None:
    found = suggest([square(*d) for d in drawn], [square(0, 0, 100, 100, score=0.9)], CLASSES, lambda one: 1.0)
    assert [suggestion.kind for suggestion in found] == said


def test_a_round_border_is_no_cut() -> None:
    whole = LabelledPolygon(Point(0, 0).buffer(50), "A", 0.9)
    smaller = LabelledPolygon(Point(0, 0).buffer(40), "A")
    assert suggest([smaller], [whole], CLASSES, lambda one: 1.0) == []


def test_small_annotations_are_not_doubted() -> None:
    drawn = [square(0, 0, 10, 10), square(50, 50, 40, 40)]
    found = suggest(drawn, [], CLASSES, lambda one: 0.0, smallest=200)
    assert [(s.kind, s.object.polygon.area) for s in found] == [("none", 1600)]


def test_the_command(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from wsiseg.cli import wsiseg

    entry(slide, tmp_path, annotated("missed"))
    (tmp_path / "slides.csv").write_text(f"slide,annotations,mpp\n{slide},one.geojson,1.0\n")
    monkeypatch.setattr("wsiseg.bundle.load_bundle", lambda path: BUNDLE)
    monkeypatch.setattr("wsiseg.inference.engines.make_engine", lambda *_: ByColour())
    words = ["audit", str(tmp_path / "slides.csv"), "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(wsiseg, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert [row["kind"] for row in json.loads(done.stdout)] == ["missed"]
    assert done.stderr.startswith("Annotated slides (train, validation): 1, predicted by ")
    assert "wsiseg view" in done.stderr
