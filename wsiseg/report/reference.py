"""Compare a prediction with the reference in a report: metrics, confusion, Bland-Altman plot, worst objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap, Colour
from wsiseg.errors import StoreError
from wsiseg.evaluation.agreement import agreement
from wsiseg.evaluation.evaluate import SlideEvaluation, evaluate_slide, summary
from wsiseg.evaluation.objects import MATCH_IOU
from wsiseg.json_text import read_json
from wsiseg.measure.files import Read
from wsiseg.report import charts
from wsiseg.report.gallery import Item, gallery
from wsiseg.report.page import Html, paragraph, picture, row, section, table
from wsiseg.report.tables import shown
from wsiseg.slides.slide import Slide

RESOLUTION = 1.0  # µm/px at which pixels are compared, as `wsiseg evaluate` does where nobody says otherwise
SAID: Colour = (213, 94, 0)
TRUE: Colour = (0, 0, 0)
MATCHED = f"Objects, matched at an IoU of {MATCH_IOU:g} or more"


def reference_section(slide: Slide, said: Read, reference: Read, areas: np.ndarray, most: int) -> Html:
    """Everything that needs the reference.

    Args:
        slide: for its µm/px and its pixels
        said, reference: objects and annotations; those without a class take no part
        areas: (n,) of the predicted objects in µm²
        most: objects in a gallery
    """
    names = tuple(dict.fromkeys([*said.classes.names[1:], *sorted(reference.known)]))
    ignored = tuple(dict.fromkeys([*said.classes.ignore_names, *reference.classes.ignore_names]))
    classes = ClassMap(("Background", *names), ignore_names=tuple(n for n in ignored if n not in names))
    places = [i for i, r in enumerate(said.polygons) if r.label in names]
    predicted = [said.polygons[i] for i in places]
    true = [r for r in reference.polygons if r.label in names]
    extra = [r for r in reference.polygons if r.label in classes.ignore_names]
    frame = slide.frame.at(max(RESOLUTION, slide.frame.mpp, slide.frame.mpp_y))
    found = evaluate_slide(slide.name, [*true, *extra], predicted, classes, frame, slide.frame)
    metrics = summary([found], classes)
    alt = "Confusion matrix of pixels, fractions of the reference class; the same numbers stand in the table above"
    matrix = picture("image/svg+xml", charts.confusion(found.confusion, classes.names), alt, "Confusion of pixels")
    unknown = [name for name in names if name not in reference.known and name in {r.label for r in predicted}]
    doubt = (
        f"The reference has no class {', '.join(unknown)}. If nobody looked for such objects, the metrics of these "
        "classes, and those of all classes together, mean nothing."
    )
    return section(
        "Compared with the reference",
        paragraph(doubt, "raised") if unknown else Html(""),
        *_tables({**metrics["pooled"], "classes": classes.names}, f"Pixels of {frame.mpp:.4g} µm", MATCHED),
        row([matrix, _agreement(slide, found, true, areas[places])]),
        *_worst(slide, found, true, predicted, most),
    )


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `wsiseg evaluate --json` printed into a file.

    Raises:
        StoreError: it is no such file
    """
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: name a file that `wsiseg evaluate --json` made.") from error
    pooled = value.get("pooled") if isinstance(value, dict) else None
    if not isinstance(pooled, dict) or not isinstance(value.get("slides"), dict):
        raise StoreError(f"{path} is no evaluation: name a file that `wsiseg evaluate --json` made.")
    return value


def evaluation_section(path: Path, slide: Slide) -> Html:
    """The metrics of a slide as `wsiseg evaluate --json` printed them.

    Raises:
        StoreError: it is no such file, or of other slides
    """
    value = read_evaluation(path)
    try:
        found = value["slides"][slide.name]
        parts = _tables({**found, "classes": value["classes"]}, "Pixels", "Objects")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} says nothing of {slide.name}: name the evaluation of this slide.") from error
    return section("Compared with the reference", paragraph(f"From {path.name}, of wsiseg evaluate."), *parts)


def _tables(metrics: dict[str, Any], pixels_title: str, objects_title: str) -> list[Html]:
    """Tables of pixels, objects and confusion, of one slide or of several.

    Args:
        metrics: as in the JSON of `wsiseg evaluate`
        pixels_title, objects_title: captions
    """
    keys = ("iou", "precision", "recall", "f1")
    pixels = [[name, *(shown(values[key]) for key in keys)] for name, values in metrics["pixels"].items()]
    counts = ("reference", "predicted", "found", "missed", "unmatched")
    objects = [
        [
            name,
            *(str(values.get(key, values.get("truth"))) for key in counts),
            *(shown(values[key]) for key in keys[1:]),
        ]
        for name, values in metrics["objects"].items()
    ]
    head = ["class", "reference", "predicted", "found", "missed", "unmatched", "precision", "recall", "F1"]
    classes = metrics["classes"]
    confusion = [[name, *map(str, line)] for name, line in zip(classes, metrics["confusion"], strict=True)]
    return [
        table(pixels_title, ["class", "IoU", "precision", "recall", "F1 (Dice)"], pixels),
        table(objects_title, head, objects),
        table("Confusion: pixels, reference by rows", ["reference", *classes], confusion),
    ]


def _agreement(slide: Slide, found: SlideEvaluation, true: list[LabelledPolygon], areas: np.ndarray) -> Html:
    """Areas of matched objects, prediction against reference."""
    pairs = found.any_object.found
    pixel = slide.frame.mpp * slide.frame.mpp_y
    x = np.array([true[i].polygon.area * pixel for i, _, _ in pairs])
    y = np.array([areas[j] for _, j, _ in pairs])
    both = agreement(x, y)
    if both.n < 3 or both.bias is None or both.bias_interval is None:
        return paragraph(f"Matched objects: {both.n}, too few for an agreement of areas.")
    low, high = both.bias_interval
    says = (
        f"Area of {both.n} matched objects: bias {shown(both.bias)} µm² "
        f"(95 % interval {shown(low)} to {shown(high)}), limits "
        f"of agreement {shown(both.lower)} to {shown(both.upper)} µm², concordance {shown(both.ccc)}."
    )
    return picture("image/svg+xml", charts.bland_altman(x, y, both, "µm²"), f"Bland-Altman plot. {says}", says)


def _worst(
    slide: Slide, found: SlideEvaluation, true: list[LabelledPolygon], predicted: list[LabelledPolygon], most: int
) -> list[Html]:  # fmt: skip
    """The matched objects of the lowest IoU, the largest missed ones, and the largest without a partner."""
    matches = found.any_object
    poor = sorted(matches.found, key=lambda pair: pair[2])[:most]
    missed = sorted((true[i] for i in matches.missed), key=lambda r: -r.polygon.area)[:most]
    alone = sorted((predicted[j] for j in matches.unmatched), key=lambda r: -r.polygon.area)[:most]
    pixel = slide.frame.mpp * slide.frame.mpp_y

    def says(region: LabelledPolygon) -> str:
        return f"{region.label}, {shown(region.polygon.area * pixel)} µm²"

    worst = [
        Item(predicted[j], f"{predicted[j].label}, reference {true[i].label}, IoU {iou:.2f}", [true[i]])
        for i, j, iou in poor
    ]
    return [
        gallery("Worst of the found: lowest IoU (reference in black)", slide, worst, (SAID, TRUE)),
        gallery("Missed: in the reference, not predicted", slide, [Item(r, says(r)) for r in missed], (TRUE, SAID)),
        gallery("Unmatched: predicted, not in the reference", slide, [Item(r, says(r)) for r in alone], (SAID, TRUE)),
    ]
