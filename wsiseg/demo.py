"""`wsiseg demo`: predict a generated slide, whose ground truth is exact, and compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shapely import STRtree, box, centroid

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.atomic import translate_os_errors
from wsiseg.bundle import load_bundle
from wsiseg.evaluation.evaluate import evaluate_slide, render, summary
from wsiseg.evaluation.measurements import MeasuredPair, compare_measurements, measure_pair
from wsiseg.geometry import Box
from wsiseg.inference.cascade import predict_cascade
from wsiseg.inference.engines import make_engine
from wsiseg.inference.predict import PredictOptions
from wsiseg.measure.files import MeasureOptions
from wsiseg.models import DEMONSTRATION
from wsiseg.pictures import draw_outlines, save_picture
from wsiseg.progress import Report
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide
from wsiseg.synthetic import CLASSES, SlideSpec, SyntheticSlide, generate, write_slide

# The models' training slides use no seed so high. From 90210 on it is the first with little tissue and ten glomeruli,
# some of them sclerotic. Its own artefacts would put glomeruli out of focus, so there are none.
SPEC = SlideSpec(seed=90220, width_um=3600, height_um=2700, stain="pas", mpp=0.25, artefacts=())
# One pixel at its border costs a nucleus of 12 px a quarter of its IoU, so nuclei are matched by their centroids.
MATCH_UM = 3.0
TRUTH_COLOUR = (0, 0, 0)
COLOURS = {"Glomerulus": (0, 200, 80), "Sclerotic glomerulus": (213, 94, 0), "Podocyte": (255, 220, 0)}


def run_demo(out: Path, *, device: str, engine: str, say: Callable[[str], None], report: Report) -> None:
    """Make a slide, predict it with the bundled models, write objects and pictures, and compare with the ground truth.

    Args:
        out: folder for slide.svs, truth.geojson, prediction.geojson and prediction.parent.geojson, overlay.png,
            glomerulus.png and evaluation.json
        device, engine: where the networks run, and what runs them
        say: is given the result of each step, a line at a time
        report: is given the number of finished tiles, of the coarse model and then of the fine one
    """
    with translate_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    fine = load_bundle(DEMONSTRATION)
    coarse = fine.parent
    assert coarse is not None, "the demonstration is a pair of models"
    slide_path, truth_path, prediction_path = out / "slide.svs", out / "truth.geojson", out / "prediction.geojson"
    say(f"Models: {coarse.name} and {fine.name}, for demonstration, trained on generated slides only.")
    made = generate(SPEC)
    write_slide(made, slide_path)
    truth = sought(made)
    write_annotations(truth_path, truth, classes=CLASSES, properties={"generated": True, "seed": SPEC.seed})
    say(f"{slide_path}: generated, {made.frame.width} × {made.frame.height} px at {made.frame.mpp:g} µm/px")
    with open_slide(slide_path) as slide:
        pair = (coarse, make_engine(coarse, engine, device)), (fine, make_engine(fine, engine, device))
        result = predict_cascade(slide, *pair, PredictOptions(prediction_path, overwrite=True), report=report)
        said = read_annotations(prediction_path).polygons
        found = evaluate_slide(slide.name, truth, said, CLASSES, slide.frame, slide.frame, match_um=MATCH_UM)
        metrics = summary([found], CLASSES, MATCH_UM)
        measured = measure_pair(
            slide, truth_path, prediction_path, MeasureOptions("kidney", thickness_um=SPEC.thickness_um)
        )
        draw(slide, truth, said, out)
    metrics["measurements"] = compare_measurements([measured])
    with translate_os_errors(out):
        (out / "evaluation.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    say(f"{prediction_path}: {result.objects} objects; drop it onto {slide_path.name} in QuPath")
    say(f"{out / 'overlay.png'}, {out / 'glomerulus.png'}: prediction in colours, ground truth in black")
    say("")
    say(render(metrics))
    say("")
    say(counted(measured))


def sought(made: SyntheticSlide) -> list[LabelledPolygon]:
    """All glomeruli and the nuclei in them; the models do not look for other nuclei."""
    nuclei = list(made.nuclei())
    inside, _ = STRtree([g.polygon for g in made.truth]).query(
        centroid(np.array([n.polygon for n in nuclei], object)), predicate="within"
    )
    return [*made.truth, *(nuclei[i] for i in sorted(set(inside.tolist())))]


def draw(slide: Slide, truth: Sequence[LabelledPolygon], said: Sequence[LabelledPolygon], out: Path) -> None:
    """Write overlay.png, the glomeruli of the slide, and glomerulus.png, the podocytes of the largest healthy one."""
    picture, plane = slide.thumbnail(2400)
    large = [r for r in truth if r.label in CLASSES.names[1:3]]
    layers = [(large, TRUTH_COLOUR), *((_named(said, name), COLOURS[name]) for name in CLASSES.names[1:3])]
    save_picture(out / "overlay.png", draw_outlines(picture, plane, layers, slide.frame))
    largest = max(_named(truth, "Glomerulus"), key=lambda r: r.polygon.area, default=None)
    if largest is None:
        return
    left, top, right, bottom = (round(v) for v in largest.polygon.buffer(40).bounds)
    part = Box(left, top, right - left, bottom - top)
    here = box(left, top, right, bottom)
    near = [r for r in said if r.polygon.intersects(here)]
    layers = [
        ([r for r in _named(truth, "Podocyte") if r.polygon.intersects(here)], TRUTH_COLOUR),
        *((_named(near, name), colour) for name, colour in COLOURS.items()),
    ]
    pixels = slide.read(part, slide.frame)
    save_picture(out / "glomerulus.png", draw_outlines(pixels, slide.frame, layers, slide.frame, corner=(left, top)))


def counted(measured: MeasuredPair) -> str:
    """The podocytes of each glomerulus and those of the ground truth, as a text table."""
    sides: list[Any] = [measured.reference["glomeruli"], measured.prediction["glomeruli"]]
    lines = [f"{'podocyte profiles':<28}{'truth':>8}{'found':>8}"]
    for i, j, _ in measured.matches.found:
        place = f"glomerulus at {sides[0]['centroid_x_um'][i]:.0f}, {sides[0]['centroid_y_um'][i]:.0f} µm"
        lines.append(f"{place:<28}{sides[0]['podocytes'][i]:>8}{sides[1]['podocytes'][j]:>8}")
    totals = [int(side["podocytes"].sum()) for side in sides]
    return "\n".join([*lines, f"{'in all glomeruli':<28}{totals[0]:>8}{totals[1]:>8}"])


def _named(regions: Sequence[LabelledPolygon], name: str) -> list[LabelledPolygon]:
    return [r for r in regions if r.label == name]
