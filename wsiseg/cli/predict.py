"""The commands `predict` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next
from wsiseg.cli.models import MODEL
from wsiseg.cli.renamed import Renamed, slide_argument

if TYPE_CHECKING:
    from wsiseg.slides.slide import Slide

PATH = click.Path(path_type=Path)


@click.command()
@slide_argument
@click.option("--model", type=MODEL, metavar="MODEL", help="A model's name or bundle (default: the bundled models).")
@click.option(
    "--out", type=PATH, metavar="FILE.geojson",
    help="The objects to write (default: SLIDE-STEM.geojson in the current folder).",
)  # fmt: skip
@click.option("--labels", type=PATH, metavar="FILE.zarr", help="Also write the label map.")
@click.option(
    "--roi", cls=Renamed, was="--within", type=PATH, metavar="FILE", help="Predict only inside these annotations."
)
@click.option(
    "--parent-model", cls=Renamed, was="--within-model", type=MODEL, metavar="MODEL",
    help="Predict with this parent model first, and with --model only inside its objects (default: the parent model of "
    "the bundle, if it has one).",
)  # fmt: skip
@click.option("--no-tissue", is_flag=True, help="Predict the whole slide, not only its tissue.")
@screen.exclude_artefacts_option
@screen.device_option
@screen.engine_option
@click.option(
    "--crf", is_flag=True, help="Smooth what the model says with a dense conditional random field, along edges of colour "
    "(slow).",
)  # fmt: skip
@click.option(
    "--max-ram", type=screen.MEMORY, metavar="SIZE", callback=screen.within_container,
    help="Use at most this much memory, for example 4GB, with smaller batches if necessary. The command refuses if "
    "that is not enough.",
)  # fmt: skip
@screen.slide_mpp_option
@screen.series_option
@screen.full_decoding_option
@screen.max_input_option
@screen.overwrite_option
@screen.log_option
@screen.quiet_option
def predict(
    slide: Path, model: Path | None, out: Path | None, labels: Path | None, roi: Path | None,
    parent_model: Path | None, no_tissue: bool, exclude_artefacts: bool, device: str, engine: str,
    crf: bool, max_ram: int | None, slide_mpp: float | None, series: int | None, full_decoding: bool, overwrite: bool, log_json: Path | None,
    quiet: bool,
) -> None:  # fmt: skip
    """Find the objects of SLIDE, and write them for QuPath."""
    from wsiseg.bundle import load_bundle
    from wsiseg.inference.cascade import models_for, parent_file, predict_cascade
    from wsiseg.inference.engines import make_engine
    from wsiseg.inference.predict import PredictOptions
    from wsiseg.memory import fitting_batch
    from wsiseg.selection.select import Roi, Selection
    from wsiseg.slides.open import open_slide

    options = PredictOptions(
        out=out or Path(f"{slide.stem}.geojson"),
        labels=labels,
        selection=Selection(not no_tissue, exclude_artefacts, None if roi is None else Roi.read(roi)),
        overwrite=overwrite,
    )
    given = None if model is None else load_bundle(model)
    scaled = not full_decoding and (given is None or given.usage.scaled_decoding)
    opening = open_slide(slide, mpp=slide_mpp, scaled_decoding=scaled, series=series)
    with opening as opened, screen.progress_bar("Predicting", "tiles", quiet, log_json) as report:
        screen.say_cautions(opened)
        bundle, parent = models_for(opened, given, parent_model)
        if given is None:
            _say_bundled(opened)
        if not quiet:
            names = f"the model {bundle.name}"
            if parent is not None:
                names = f"the model {parent.name}, then {bundle.name} in its objects"
            kept = f", the label map to {labels}" if labels is not None else ""
            screen.say_plan(opened, f"{names} at {bundle.usage.mpp:g} µm/px; the objects go to {options.out}{kept}")
        if max_ram is not None:
            batch = fitting_batch(opened, [b.identity for b in (bundle, parent) if b is not None], max_ram)
            if batch < bundle.usage.batch:
                click.echo(f"Predicting {batch} tiles at a time, not {bundle.usage.batch}: --max-ram.", err=True)
            bundle, parent = bundle.with_batch(batch), parent and parent.with_batch(batch)
        runs = make_engine(bundle, engine, device)
        if crf:
            from wsiseg.inference.engines.crf import CrfEngine

            runs = CrfEngine(runs, bundle.usage.mpp)
        fine = bundle, runs
        coarse = None if parent is None else (parent, make_engine(parent, engine, device))
        result = predict_cascade(opened, coarse, fine, options, report=report)
        if parent is not None:
            click.echo(f"{parent_file(options.out)}: the objects of {parent.name}", err=True)
    kept = f", label map in {labels}" if labels is not None else ""
    click.echo(f"{options.out}: {result.objects} objects{kept}" + (" (already there)" if result.already else ""))
    if not quiet:
        click.echo(f"Open {slide.name} in QuPath and drop {options.out.name} onto it.", err=True)
    say_next("predict", quiet=quiet, slide_mpp=slide_mpp, series=series, slide=slide, outlines=options.out)


def _say_bundled(slide: Slide) -> None:
    """Print on the error stream which the bundled models for a slide are."""
    from wsiseg.models import NUCLEI_MPP, default_models

    mpp = max(slide.frame.mpp, slide.frame.mpp_y)
    model, parent = default_models(mpp)
    if parent is None:
        found = f"glomeruli alone (the slide has {mpp:g} µm/px; nuclei need {NUCLEI_MPP:g} or finer)"
    else:
        found = f"glomeruli ({parent.name}), and nuclei in them ({model.name}: trained on generated slides only)"
    click.echo(f"No --model given: the bundled models find {found}. For research, not for diagnosis.", err=True)


@click.command()
@click.option("--out", type=PATH, default=Path("demo"), metavar="DIR", help="The folder for all results.")
@screen.device_option
@screen.engine_option
@screen.log_option
@screen.quiet_option
def demo(out: Path, device: str, engine: str, log_json: Path | None, quiet: bool) -> None:
    """Predict a generated slide and compare the result with the ground truth."""
    from wsiseg.demo import run_demo

    with screen.progress_bar("Predicting", "tiles", quiet, log_json) as report:
        run_demo(out, device=device, engine=engine, say=click.echo, report=report)
    slide, outlines, truth = (out / name for name in ("slide.svs", "prediction.geojson", "truth.geojson"))
    say_next("demo", quiet=quiet, slide=slide, outlines=outlines, truth=truth)
