"""A cascade of two models: the parent model finds large objects coarsely, the other one small objects inside them.

    slide ─► parent model ─► OUT.parent.geojson ─► fine model inside its objects ─► OUT, with the objects of both

Both are ordinary predictions, each continued where it stopped. The objects of the parent model stay beside the output.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.inference.engines.engine import Engine
from wsiseg.inference.predict import Prediction, PredictOptions, check_fit, predict_slide
from wsiseg.models import default_models
from wsiseg.progress import Report, silent
from wsiseg.selection.select import Roi
from wsiseg.slides.slide import Slide


def parent_file(out: Path) -> Path:
    """Where the objects of the parent model are kept."""
    return out.with_name(out.name.removesuffix(".gz").removesuffix(".geojson") + ".parent.geojson")


def models_for(
    slide: Slide, bundle: ModelBundle | None, parent: Path | None = None
) -> tuple[ModelBundle, ModelBundle | None]:
    """The model for a slide, and the parent model if there is one.

    Args:
        slide: the slide
        bundle: the model; None for the bundled models that fit the slide's µm/px
        parent: bundle of another parent model than the one that goes with the model

    Raises:
        BundleError: a bundle cannot be read
    """
    if bundle is None:
        model, bundled = default_models(max(slide.frame.mpp, slide.frame.mpp_y))
        bundle, parent = load_bundle(model), parent or bundled
    return bundle, bundle.parent if parent is None else load_bundle(parent)


def predict_cascade(
    slide: Slide,
    parent: tuple[ModelBundle, Engine] | None,
    fine: tuple[ModelBundle, Engine],
    options: PredictOptions,
    *,
    report: Report = silent,
) -> Prediction:
    """Predict a slide with the parent model, and inside the objects that it finds with the fine one.

    Args:
        slide: the slide
        parent, fine: each model and what runs it; without a parent model this is `predict_slide`
        options: of the whole; its region of interest restricts the parent model, and a label map is kept of the fine one
        report: told how many tiles are done, by the parent model and then by the fine one

    Raises:
        as `predict_slide` for either model, and ClassError where both models have a class of the same name
    """
    if parent is None:
        return predict_slide(slide, *fine, options, report=report)
    check_fit(slide, fine[0])  # before the parent model works in vain
    between = parent_file(options.out)
    predict_slide(slide, *parent, replace(options, out=between, labels=None), report=report)
    roi = replace(Roi.read(between, margin_um=fine[0].usage.parent_margin_um), may_be_empty=True)
    inner = replace(options, selection=replace(options.selection, tissue=False, roi=roi), parent=between)
    return predict_slide(slide, *fine, inner, report=report)
