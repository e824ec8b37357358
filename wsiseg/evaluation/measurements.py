"""Measurements of a prediction against those of the truth: over matched glomeruli, and over slides."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.atomic import atomic_write
from wsiseg.evaluation.agreement import Agreement, agreement
from wsiseg.evaluation.evaluate import MATCH_IOU, Matches, match_objects
from wsiseg.measure.files import Read, Wanted, read_all, tissue_context_of
from wsiseg.measure.names import ClassRoles, chosen
from wsiseg.measure.slide import Measured, measure
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.objects import objects_of

# What is compared, in this order, as far as both sides have it.
OF_GLOMERULI = (
    "area_um2", "perimeter_um", "equivalent_diameter_um", "circularity", "podocytes", "podocyte_nuclear_area_um2",
    "podocyte_nuclear_share", "uncorrected_density_per_1e6_um3", "podocyte_density_per_1e6_um3",
)  # fmt: skip
OF_SLIDES = (
    "glomeruli", "glomeruli_per_mm2", "sclerotic_glomeruli", "sclerotic_share", "cut_glomeruli", "used_glomeruli",
    "mean_area_um2", "mean_equivalent_diameter_um", "mean_circularity", "podocytes", "mean_podocytes",
    "mean_podocyte_nuclear_area_um2", "mean_podocyte_nuclear_share", "profile_diameter_um", "caliper_um",
    "mean_uncorrected_density_per_1e6_um3", "mean_podocyte_density_per_1e6_um3",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """One slide, measured twice.

    Attributes:
        truth, said: all measurements by the true and by the predicted outlines
        matches: of glomeruli of either kind, by their place in the two tables
    """

    truth: Measured
    said: Measured
    matches: Matches


def measure_pair(slide: Slide, truth: Path, prediction: Path, wanted: Wanted) -> MeasuredPair:
    """Measure a slide by its true and by its predicted outlines, with the same tissue.

    Args:
        slide: for its µm/px and its tissue
        truth: outlines
        prediction: outlines, or a label map (.zarr)
        wanted: class names count for both sides; a class needs to be known to one of them

    Raises:
        AnnotationError, MismatchError, ClassError, GeometryError: as `wsiseg.measure.files.measure_files`
    """
    sides = read_all([truth], slide.frame), _prediction(prediction, slide)
    known = sides[0].known | sides[1].known
    names = chosen(known, wanted.glomeruli, wanted.sclerotic, wanted.podocytes)
    place = tissue_context_of(slide, wanted)

    def measured(side: Read) -> Measured:
        # Who does not know podocytes has not found none; nobody looked for any.
        looked = names if side.known & set(names.podocytes) else replace(names, podocytes=())
        return measure(side.polygons, place, looked, thickness_um=wanted.thickness_um, seed=wanted.seed)

    true, said = measured(sides[0]), measured(sides[1])
    return MeasuredPair(true, said, match_objects(glomeruli_of(true, names), glomeruli_of(said, names)))


def _prediction(path: Path, slide: Slide) -> Read:
    if path.suffix != ".zarr":
        return read_all([path], slide.frame)
    labels = LabelMap(path)
    return Read(tuple(objects_of(labels)), labels.classes, frozenset(labels.classes.names[1:]))


def glomeruli_of(measured: Measured, names: ClassRoles) -> list[LabelledPolygon]:
    """The outlines of the rows of the table of glomeruli."""
    return [region for region in measured.polygons if region.label in names.any_glomeruli]


def compare_measurements(pairs: Sequence[MeasuredPair]) -> dict[str, Any]:
    """Agreement of every measurement that both sides of all slides have, as JSON values.

    Returns:
        "glomeruli" and "slides" -> measurement -> `Agreement.to_json`, with the numbers of glomeruli found, missed and
        unmatched beside them
    """
    return {
        "match_iou": MATCH_IOU,
        "matched": {
            "found": sum(len(p.matches.found) for p in pairs),
            "missed": sum(len(p.matches.missed) for p in pairs),
            "unmatched": sum(len(p.matches.unmatched) for p in pairs),
        },
        "glomeruli": {name: found.to_json() for name, found in _over_glomeruli(pairs).items()},
        "slides": {name: found.to_json() for name, found in _over_slides(pairs).items()},
    }


def _over_glomeruli(pairs: Sequence[MeasuredPair]) -> dict[str, Agreement]:
    found = {}
    for name in OF_GLOMERULI:
        if not all(name in side.glomeruli for p in pairs for side in (p.truth, p.said)):
            continue
        truth = [p.truth.glomeruli[name][[i for i, _, _ in p.matches.found]] for p in pairs if p.matches.found]
        said = [p.said.glomeruli[name][[j for _, j, _ in p.matches.found]] for p in pairs if p.matches.found]
        found[name] = agreement(np.concatenate([*truth, []]), np.concatenate([*said, []]))
    return found


def _over_slides(pairs: Sequence[MeasuredPair]) -> dict[str, Agreement]:
    found = {}
    for name in OF_SLIDES:
        if all(name in side.slides for p in pairs for side in (p.truth, p.said)):
            truth, said = ([float(side.slides[name][0]) for side in sides] for sides in _sides(pairs))
            found[name] = agreement(truth, said)
    return found


def _sides(pairs: Sequence[MeasuredPair]) -> tuple[list[Measured], list[Measured]]:
    return [p.truth for p in pairs], [p.said for p in pairs]


def write_agreement(path: Path, result: dict[str, Any]) -> None:
    """Write the result of `compare_measurements` as CSV, one line a measurement; empty where there is no figure."""
    text = io.StringIO()
    header = ["over", "measurement", *Agreement(0).to_row()]
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(header)
    for over in ("glomeruli", "slides"):
        for name, figures in result[over].items():
            values = Agreement(**figures).to_row().values()
            rows.writerow([over, name, *("" if v is None else format(v, ".10g") for v in values)])
    with atomic_write(path) as sink:
        sink.write(text.getvalue().encode())


def render_measurements(result: dict[str, Any]) -> str:
    """The result of `compare_measurements` as text tables."""
    lines = []
    matched = result["matched"]
    titles = {
        "glomeruli": f"over {matched['found']} matched glomeruli (IoU ≥ {result['match_iou']:g}; "
        f"{matched['missed']} missed, {matched['unmatched']} unmatched)",
        "slides": "over slides",
    }
    for over, title in titles.items():
        lines += ["", title]
        lines.append(
            f"{'':<38}{'n':>5}{'truth':>11}{'bias':>11}  {'(95 %)':<24}{'limits of agreement':<24}{'CCC':>7}  (95 %)"
        )
        for name, f in result[over].items():
            limits = None if f["lower"] is None else (f["lower"], f["upper"])
            lines.append(
                f"{name:<38}{f['n']:>5}{_text(f['truth']):>11}{_text(f['bias']):>11}  "
                f"{_span(f['bias_interval']):<24}{_span(limits):<24}"
                f"{'–' if f['ccc'] is None else format(f['ccc'], '.3f'):>7}  {_span(f['ccc_interval'], '.3f')}"
            )
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _span(ends: Sequence[float] | None, style: str = ".4g") -> str:
    return "–" if ends is None else f"{ends[0]:{style}} to {ends[1]:{style}}"
