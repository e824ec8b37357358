"""Measurements of a prediction against those of the reference: over matched objects, and over slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.annotations.table import csv_parts
from wsiseg.atomic import atomic_write
from wsiseg.evaluation.agreement import Agreement, agreement
from wsiseg.evaluation.objects import MATCH_IOU, Matches, match_objects
from wsiseg.measure.files import MeasureOptions, measure_read, read_all, tissue_context_of
from wsiseg.measure.objects import Measured
from wsiseg.measure.profiles import compared_columns
from wsiseg.slides.slide import Slide

# By profile: the table whose rows are matched one by one, and the one that sums up a slide.
TABLES = {"generic": ("objects", "classes"), "kidney": ("glomeruli", "slides")}


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """One slide, measured twice with one profile.

    Attributes:
        reference, prediction: all measurements of either side
        matches: of the rows of the two tables of objects, whatever their class
    """

    reference: Measured
    prediction: Measured
    matches: Matches

    @classmethod
    def of(cls, reference: Measured, prediction: Measured) -> MeasuredPair:
        """Two measurements, their objects matched."""
        table, _ = TABLES[reference.profile]
        return cls(reference, prediction, match_objects(reference.polygons_of(table), prediction.polygons_of(table)))

    @property
    def sides(self) -> tuple[Measured, Measured]:
        """Reference and prediction."""
        return self.reference, self.prediction


def measure_pair(slide: Slide, reference: Path, prediction: Path, options: MeasureOptions) -> MeasuredPair:
    """Measure a slide by its reference and by its predicted objects, with the same tissue.

    Args:
        slide: for its µm/px and its tissue
        reference: annotations
        prediction: annotations, or a label map
        options: class names count for both sides; a class needs to be known to one of them

    Raises:
        AnnotationError, MismatchError, ClassError, GeometryError: as `wsiseg.measure.files.measure_files`
    """
    sides = [read_all([path], slide, class_of_rest=options.class_of_rest) for path in (reference, prediction)]
    known = sides[0].known | sides[1].known
    place = tissue_context_of(slide, options)
    return MeasuredPair.of(*(measure_read(side, place, options, known) for side in sides))


def compare_measurements(pairs: Sequence[MeasuredPair]) -> dict[str, Any]:
    """Agreement of every compared measurement that both sides of all slides have, as JSON values.

    Measurements of the generic profile are compared class by class, and named `CLASS: NAME`.

    Args:
        pairs: one or more slides, all measured with one profile

    Returns:
        the tables of objects and of slides or classes -> measurement -> `Agreement.to_json`, with the numbers of
        objects found, missed and unmatched beside them
    """
    profile = pairs[0].reference.profile
    matched, summary = TABLES[profile]
    # Both sides have the same rows of a summary, in the same order.
    same = [[(i, i) for i in range(len(next(iter(p.reference[summary].values()))))] for p in pairs]
    return {
        "profile": profile,
        "match_iou": MATCH_IOU,
        "matched": {
            name: sum(len(getattr(p.matches, name)) for p in pairs) for name in ("found", "missed", "unmatched")
        },
        matched: _compared(matched, pairs, [[(i, j) for i, j, _ in p.matches.found] for p in pairs]),
        summary: _compared(summary, pairs, same),
    }


def _compared(table: str, pairs: Sequence[MeasuredPair], rows: Sequence[list[tuple[int, int]]]) -> dict[str, Any]:
    """Agreement by the name of the measurement, from the rows of the reference and of the prediction that belong
    together; with the generic profile class by class."""
    profile = pairs[0].reference.profile
    classes: tuple[str, ...] = ()
    if profile == "generic":
        classes = tuple(dict.fromkeys(label for pair in pairs for label in pair.reference["classes"]["class"]))
    found: dict[str, Any] = {}
    for label in classes if profile == "generic" else (None,):
        kept = [_of_class(pair, table, both, label) for pair, both in zip(pairs, rows, strict=True)]
        for name in compared_columns(profile, table, classes):
            if not all(name in side[table] for pair in pairs for side in pair.sides):
                continue
            one, other = (
                np.concatenate([[], *(p.sides[n][table][name][k[:, n]] for p, k in zip(pairs, kept, strict=True))])
                for n in (0, 1)
            )
            if label is None:
                found[name] = agreement(one, other).to_json()
            elif (np.isfinite(one) & np.isfinite(other)).any():  # not so for nuclei that lie in nuclei
                found[f"{label}: {name}"] = agreement(one, other).to_json()
    return found


def _of_class(pair: MeasuredPair, table: str, rows: list[tuple[int, int]], label: str | None) -> NDArray[np.int64]:
    """(n, 2) those of the rows that have a class on both sides; None takes all."""
    if label is not None:
        one, other = (side[table]["class"] for side in pair.sides)
        rows = [(i, j) for i, j in rows if one[i] == other[j] == label]
    return np.array(rows, np.int64).reshape(-1, 2)


def write_agreement(path: Path, result: dict[str, Any]) -> None:
    """Write the result of `compare_measurements` as CSV, one line a measurement; empty where nothing is known."""
    names = ("over", "measurement", *Agreement(0).to_row())
    rows = [
        (over, name, *Agreement(**statistics).to_row().values())
        for over in TABLES[result["profile"]]
        for name, statistics in result[over].items()
    ]
    with atomic_write(path) as sink:
        for part in csv_parts({name: np.array([row[i] for row in rows], object) for i, name in enumerate(names)}):
            sink.write(part)


def render_measurements(result: dict[str, Any]) -> str:
    """The result of `compare_measurements` as text tables."""
    lines = []
    matched = result["matched"]
    over_objects, over_slides = TABLES[result["profile"]]
    titles = {
        over_objects: f"over {matched['found']} matched {over_objects} (IoU ≥ {result['match_iou']:g}; "
        f"{matched['missed']} missed, {matched['unmatched']} unmatched)",
        over_slides: "over slides",
    }
    for over, title in titles.items():
        lines += ["", title]
        lines.append(
            f"{'':<38}{'n':>5}{'reference':>11}{'bias':>11}  {'(95 %)':<24}{'limits of agreement':<24}{'CCC':>7}  (95 %)"
        )
        for name, f in result[over].items():
            limits = None if f["lower"] is None else (f["lower"], f["upper"])
            lines.append(
                f"{name:<38}{f['n']:>5}{_text(f['reference']):>11}{_text(f['bias']):>11}  "
                f"{_span(f['bias_interval']):<24}{_span(limits):<24}"
                f"{'–' if f['ccc'] is None else format(f['ccc'], '.3f'):>7}  {_span(f['ccc_interval'], '.3f')}"
            )
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _span(ends: Sequence[float] | None, style: str = ".4g") -> str:
    return "–" if ends is None else f"{ends[0]:{style}} to {ends[1]:{style}}"
