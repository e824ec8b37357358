"""Evaluation: counts that can be checked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box as rectangle

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.cli.learn import evaluate
from wsiseg.errors import ClassError
from wsiseg.evaluation.evaluate import evaluate_slide, render, summary
from wsiseg.evaluation.objects import match_objects
from wsiseg.evaluation.pixels import confusion_matrix, pixel_metrics
from wsiseg.geometry import Box, Frame

CLASSES = ClassMap(("Background", "A", "B"))
FRAME = Frame(100, 80, 1.0)


def region(x: float, y: float, w: float, h: float, label: str = "A") -> LabelledPolygon:
    return LabelledPolygon(rectangle(x, y, x + w, y + h), label)


def test_the_confusion_matrix_is_counted_over_the_whole_slide() -> None:
    rng = np.random.default_rng(0)
    frame = Frame(37, 2500, 1.0)  # more than two bands
    truth = rng.integers(0, 3, (2500, 37)).astype(np.uint8)
    said = rng.integers(0, 3, (2500, 37)).astype(np.uint8)
    truth[100:200] = IGNORE

    def reader(array: np.ndarray):
        return lambda box: array[box.slices]

    found = confusion_matrix(reader(truth), reader(said), frame, 3)
    want = [[((truth == t) & (said == p)).sum() for p in range(3)] for t in range(3)]
    assert found.tolist() == want


def test_figures_by_hand() -> None:
    figures = pixel_metrics(np.array([[90, 10, 0], [5, 15, 0], [0, 0, 0]]), CLASSES)
    assert figures["A"] == pytest.approx(
        {"iou": 15 / 30, "precision": 15 / 25, "recall": 15 / 20, "f1": 30 / 45, "dice": 30 / 45}
    )
    assert figures["B"] == dict.fromkeys(figures["B"], None), "a class that is nowhere is not a perfect one"
    assert figures["mean"]["iou"] == pytest.approx((90 / 105 + 0.5) / 2)


def test_objects_are_matched_one_to_one() -> None:
    truth = [region(0, 0, 10, 10), region(20, 0, 10, 10), region(50, 50, 10, 10)]
    said = [region(0, 0, 10, 9), region(1, 0, 10, 10), region(20, 0, 10, 30), region(50, 50, 10, 10)]
    found = match_objects(truth, said)
    assert [(a, b) for a, b, _ in found.found] == [(0, 0), (2, 3)]
    assert found.found[0][2] == pytest.approx(0.9)
    assert found.missed == (1,)
    assert found.unmatched == (1, 2)


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2), max_size=12), st.randoms())
@settings(max_examples=50)
def test_an_outline_matches_itself_and_order_does_not_matter(boxes: list, random) -> None:
    regions = [region(*b) for b in dict.fromkeys(boxes)]
    shuffled = random.sample(regions, len(regions))
    found = match_objects(regions, shuffled)
    assert len(found.found) == len(regions)
    assert sum(iou for _, _, iou in found.found) == pytest.approx(len(regions))


def test_the_best_sum_wins_over_the_greedy_choice() -> None:
    truth = [region(0, 0, 100, 10), region(0, 0, 70, 10)]
    said = [region(0, 0, 80, 10), region(0, 0, 60, 10)]
    assert len(match_objects(truth, said).found) == 2


def test_a_slide_by_hand() -> None:
    truth = [region(0, 0, 20, 20), region(40, 0, 20, 20, "B"), region(0, 60, 10, 10, "Ignore")]
    said = [region(0, 0, 20, 10), region(40, 0, 20, 20, "A"), region(0, 60, 10, 10)]
    found = evaluate_slide("s", truth, said, CLASSES, FRAME, FRAME)
    assert found.confusion.tolist() == [[8000 - 400 - 400 - 100, 0, 0], [200, 200, 0], [0, 400, 0]]
    assert len(found.objects["A"].found) == 1
    assert len(found.objects["B"].missed) == 1
    assert len(found.any_object.found) == 2
    result = summary([found, found], CLASSES)
    assert result["pooled"]["objects"]["A"] == {
        "reference": 2, "predicted": 6, "found": 2, "missed": 0, "unmatched": 4, "precision": pytest.approx(1 / 3),
        "recall": 1.0, "f1": pytest.approx(0.5), "count_error": 4,
    }  # fmt: skip
    assert result["slides"]["s"]["pixels"]["A"]["recall"] == 0.5
    text = render(result)
    assert "Background" in text
    assert "0.500" in text


def test_another_resolution_changes_little() -> None:
    truth, said = [region(3, 4, 40, 30)], [region(5, 4, 40, 33)]
    fine, coarse = (evaluate_slide("s", truth, said, CLASSES, FRAME.at(m), FRAME) for m in (0.25, 1.0))
    figures = [pixel_metrics(e.confusion, CLASSES)["A"]["iou"] for e in (fine, coarse)]
    assert figures[0] == pytest.approx(figures[1], abs=0.01)


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ClassError, match="'C' is unknown"):
        evaluate_slide("s", [region(0, 0, 5, 5, "C")], [], CLASSES, FRAME, FRAME)


def test_a_label_map_is_read_as_it_is() -> None:
    labels = np.zeros((80, 100), np.uint8)
    labels[:20, :20] = 1

    def read(box: Box) -> np.ndarray:
        return labels[box.slices]

    found = evaluate_slide("s", [region(0, 0, 20, 20)], [region(0, 0, 20, 20)], CLASSES, FRAME, FRAME, labels=read)
    assert found.confusion.tolist() == [[7600, 0, 0], [0, 400, 0], [0, 0, 0]]


def test_nuclei_match_by_centroids_and_what_holds_them_by_overlap() -> None:
    glomerulus, nucleus = region(0, 0, 200, 200), region(50, 50, 6, 6)
    shifted = [region(20, 0, 200, 200), region(52, 50, 6, 6)]  # IoU 0.82, 20 away; IoU 0.5, 2 away
    found = match_objects([glomerulus, nucleus], shifted, reach=3.0)
    assert [(i, j) for i, j, _ in found.found] == [(0, 0), (1, 1)]
    assert found.found[1][2] == pytest.approx(1 / 3)
    far = match_objects([glomerulus, nucleus], [region(120, 0, 200, 200), region(54, 50, 6, 6)], reach=3.0)
    assert far.found == ()
    assert (far.missed, far.unmatched) == ((0, 1), (0, 1))


def test_the_table_says_how_objects_match() -> None:
    classes, frame = ClassMap(("Background", "A")), Frame(100, 100, 0.5)
    found = evaluate_slide("s", [region(8, 8, 9, 9)], [region(9, 8, 9, 9)], classes, frame, frame, match_um=3.0)
    said = summary([found], classes, 3.0)
    assert said["match_iou_above_um"] == 30
    assert "centroids ≤ 3 µm" in render(said)
    assert "Objects wider than 30 µm match by their overlap, IoU ≥ 0.5." in render(said)


@pytest.mark.parametrize("words", [("A,B",), ("A", "B"), (" A , B,", "A")])
def test_classes_are_named_together_or_one_by_one(words: tuple[str, ...]) -> None:
    named = [word for name in words for word in ("--classes", name)]
    context = evaluate.make_context("evaluate", ["s.svs", "--reference", "r.json", "--prediction", "p.json", *named])
    assert context.params["only"] == ("A", "B")
