"""Two resolutions in one prediction: large things found coarsely, small things in them finely.

    slide ─► coarse model ─► OUT.regions.geojson ─► fine model inside them ─► OUT, both kinds of outlines

Both are ordinary predictions, each continued where it stopped. The outlines of the first stay beside the output.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wsiseg.bundle import ModelBundle
from wsiseg.inference.engines.engine import Engine
from wsiseg.inference.predict import Prediction, PredictOptions, check_fit, predict_slide
from wsiseg.progress import Report, silent
from wsiseg.selection.select import Roi
from wsiseg.slides.slide import Slide


def regions_file(out: Path) -> Path:
    """Where the outlines of the coarse model are kept."""
    return out.with_name(out.name.removesuffix(".gz").removesuffix(".geojson") + ".regions.geojson")


def predict_within(
    slide: Slide,
    coarse: tuple[ModelBundle, Engine],
    fine: tuple[ModelBundle, Engine],
    job: PredictOptions,
    *,
    report: Report = silent,
) -> Prediction:
    """Predict a slide with the coarse model, and inside what it finds with the fine one.

    Args:
        slide: the slide
        coarse, fine: each model and what runs it
        job: of the whole; its region of interest restricts the coarse model, a label map is kept of the fine one
        report: told how many tiles are done, by the coarse model and then by the fine one

    Raises:
        as `predict_slide` for either model, and ClassError where both models have a class of the same name
    """
    check_fit(slide, fine[0])  # before the first model works in vain
    between = regions_file(job.out)
    predict_slide(slide, *coarse, replace(job, out=between, labels=None), report=report)
    roi = replace(Roi.read(between, margin_um=fine[0].usage.within_margin_um), may_be_empty=True)
    inner = replace(job, selection=replace(job.selection, tissue=False, roi=roi), parent=between)
    return predict_slide(slide, *fine, inner, report=report)
