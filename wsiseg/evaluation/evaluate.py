"""How well a prediction agrees with the reference, over whole slides.

Pixels are counted at one µm/px over the whole slide, and objects are matched one to one. Slides are pooled by adding up
counts; the metrics of each slide are kept beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsiseg.annotations.intake import Summary
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.classes import ClassMap
from wsiseg.evaluation.objects import MATCH_IOU, WIDE, Matches, match_objects, object_metrics
from wsiseg.evaluation.pixels import ReadLabels, confusion_matrix, pixel_metrics
from wsiseg.geometry import Frame


@dataclass(frozen=True, slots=True)
class SlideEvaluation:
    """One slide: a (classes, classes) confusion matrix of pixels, and the matches of each class but background.

    `any_object` matches objects of all classes alike: found, though perhaps under another name. `annotations` say what
    became of the annotations of the files that were compared.
    """

    name: str
    confusion: np.ndarray
    objects: dict[str, Matches]
    any_object: Matches
    annotations: tuple[Summary, ...] = ()


def evaluate_slide(
    name: str,
    reference: Sequence[LabelledPolygon],
    prediction: Sequence[LabelledPolygon],
    classes: ClassMap,
    frame: Frame,
    level0: Frame,
    *,
    labels: ReadLabels | None = None,
    match_um: float | None = None,
) -> SlideEvaluation:
    """Compare two sets of polygons in level-0 pixels.

    Args:
        name: of the slide
        reference, prediction: their labels must be among the classes (or ignored ones)
        classes: the labels
        frame: plane in which pixels are compared
        level0: plane of the polygons
        labels: labels of the prediction in `frame`, where a label map is available; else its polygons are rasterised
        match_um: match objects up to `WIDE` times as wide by centroids no farther apart than this, and not by IoU

    Raises:
        ClassError: an object has a class that is not among the classes
    """
    read = Rasteriser(reference, classes, frame, level0).read
    confusion = confusion_matrix(
        read, labels or Rasteriser(prediction, classes, frame, level0).read, frame, len(classes)
    )
    reach = None if match_um is None else match_um / level0.mpp

    def matches(*names: str) -> Matches:
        t, p = ([one for one in side if one.label in names] for side in (reference, prediction))
        return match_objects(t, p, reach=reach)

    wanted = classes.names[1:]
    return SlideEvaluation(name, confusion, {one: matches(one) for one in wanted}, matches(*wanted))


def summary(slides: Sequence[SlideEvaluation], classes: ClassMap, match_um: float | None = None) -> dict[str, Any]:
    """Metrics pooled over the slides, and per slide, as JSON values; `match_um` as the slides were evaluated with."""

    def metrics(group: Sequence[SlideEvaluation]) -> dict[str, Any]:
        confusion = np.sum([s.confusion for s in group], axis=0)
        matches = {name: [s.objects[name] for s in group] for name in classes.names[1:]}
        matches["any"] = [s.any_object for s in group]
        return {
            "pixels": pixel_metrics(confusion, classes),
            "objects": {name: object_metrics(*map(sum, zip(*(m.counts for m in some), strict=True)))
                        for name, some in matches.items()},
            "confusion": confusion.tolist(),
        }  # fmt: skip

    return {
        "classes": list(classes),
        "match_iou": MATCH_IOU,
        **({} if match_um is None else {"match_um": match_um, "match_iou_above_um": WIDE * match_um}),
        "pooled": metrics(slides),
        "slides": {s.name: metrics([s]) for s in slides},
        "annotations": {s.name: [one.to_json() for one in s.annotations] for s in slides},
    }


def render(result: dict[str, Any]) -> str:
    """The pooled metrics of a summary as text tables."""
    pooled = result["pooled"]
    lines = [f"{'pixels':<28}{'IoU':>8}{'precision':>11}{'recall':>8}{'F1/Dice':>9}"]
    for name, row in pooled["pixels"].items():
        values = [_text(row[key]) for key in ("iou", "precision", "recall", "f1")]
        lines.append(f"{name:<28}{values[0]:>8}{values[1]:>11}{values[2]:>8}{values[3]:>9}")
    near = result.get("match_um")
    rule = f"IoU ≥ {result['match_iou']:g}" if near is None else f"centroids ≤ {near:g} µm"
    lines += ["", f"{'objects (' + rule + ')':<28}"]
    lines[-1] += f"{'reference':>11}{'found':>8}{'missed':>8}{'unmatched':>11}{'precision':>11}{'recall':>8}{'F1':>8}"
    for name, row in pooled["objects"].items():
        counts = f"{row['reference']:>11}{row['found']:>8}{row['missed']:>8}{row['unmatched']:>11}"
        lines.append(f"{name:<28}{counts}{_text(row['precision']):>11}{_text(row['recall']):>8}{_text(row['f1']):>8}")
    if near is not None:
        wide = f"Objects wider than {result['match_iou_above_um']:g} µm match by their overlap"
        lines.append(f"{wide}, IoU ≥ {result['match_iou']:g}.")
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
