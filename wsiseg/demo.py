"""`wsiseg demo`: the main job on a generated slide, whose truth is known exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from wsiseg.bundle import load_bundle
from wsiseg.compare import compare_files
from wsiseg.engines import make_engine
from wsiseg.evaluate import render, summary
from wsiseg.models import DEMONSTRATION
from wsiseg.outputs import writing
from wsiseg.pictures import draw_outlines, save_picture
from wsiseg.predict import Job, predict_slide
from wsiseg.regions.formats import read_outlines, write_outlines
from wsiseg.slides.open import open_slide
from wsiseg.synthetic import SlideSpec, generate, write_slide
from wsiseg.tiling import Progress

# A seed that the model's training slides do not use.
SPEC = SlideSpec(seed=90210, width_um=6000, height_um=4000, stain="pas", mpp=0.5)
TRUTH_COLOUR, PREDICTION_COLOUR = (0, 0, 0), (0, 200, 80)


def run_demo(out: Path, *, device: str, engine: str, say: Callable[[str], None], progress: Progress) -> None:
    """Make a slide, predict it with the bundled model, write outlines and a picture, compare with the truth.

    Args:
        out: folder for slide.svs, truth.geojson, prediction.geojson, overlay.png and evaluation.json
        device, engine: where the network runs, and what runs it
        say: told each step's result, a line at a time
        progress: told (tiles done, all tiles)
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    bundle = load_bundle(DEMONSTRATION)
    slide_path, truth_path, prediction_path = out / "slide.svs", out / "truth.geojson", out / "prediction.geojson"
    say(f"Model: {bundle.name}, a demonstration model trained on generated slides only.")
    made = generate(SPEC)
    write_slide(made, slide_path)
    write_outlines(truth_path, made.truth, classes=bundle.classes, properties={"generated": True, "seed": SPEC.seed})
    say(f"{slide_path}: generated, {made.frame.width} × {made.frame.height} px at {made.frame.mpp:g} µm/px")
    with open_slide(slide_path) as slide:
        job = Job(prediction_path, overwrite=True)
        result = predict_slide(slide, bundle, make_engine(bundle, engine, device), job, progress=progress)
        found, classes = compare_files(slide, truth_path, prediction_path, resolution=1.0)
        figures = summary([found], classes)
        picture, plane = slide.thumbnail(2400)
        said = read_outlines(prediction_path).regions
        layers = [(made.truth, TRUTH_COLOUR), (said, PREDICTION_COLOUR)]
        save_picture(out / "overlay.png", draw_outlines(picture, plane, layers, slide.frame))
    with writing(out):
        (out / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    say(f"{prediction_path}: {result.objects} outlines; drop it onto {slide_path.name} in QuPath")
    say(f"{out / 'overlay.png'}: prediction in green, truth in black")
    say("")
    say(render(figures))
