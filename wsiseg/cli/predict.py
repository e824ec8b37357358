"""The commands `predict` and `demo`."""

from __future__ import annotations

from pathlib import Path

import click

from wsiseg.cli.ending import say_next
from wsiseg.cli.models import MODEL
from wsiseg.cli.renamed import Renamed, slide_argument
from wsiseg.cli.screen import (
    engine_option,
    exclude_artefacts_option,
    full_decoding_option,
    log_option,
    max_input_option,
    max_ram_option,
    overwrite_option,
    progress_bar,
    quiet_option,
    say_cautions,
    series_option,
    slide_mpp_option,
)

PATH = click.Path(path_type=Path)


@click.command()
@slide_argument
@click.option("--model", type=MODEL, metavar="MODEL", help="A model's name or bundle (default: the bundled models).")
@click.option(
    "--out",
    type=PATH,
    metavar="FILE.geojson",
    help="The objects to write (default: SLIDE-STEM.geojson in the current folder).",
)
@click.option("--labels", type=PATH, metavar="FILE.zarr", help="Also write the label map.")
@click.option(
    "--roi", cls=Renamed, was="--within", type=PATH, metavar="FILE", help="Predict only inside these annotations."
)
@click.option(
    "--parent-model",
    cls=Renamed,
    was="--within-model",
    type=MODEL,
    metavar="MODEL",
    help="Predict with this parent model first, and with --model only inside its objects (default: "
    "the parent model of the bundle, if it has one).",
)
@click.option("--no-tissue", is_flag=True, help="Predict the whole slide, not only its tissue.")
@exclude_artefacts_option
@click.option("--device", default="auto", show_default=True, help="Where the network runs: auto, cpu, cuda, cuda:1, …")
@engine_option
@max_ram_option
@slide_mpp_option
@series_option
@full_decoding_option
@max_input_option
@overwrite_option
@log_option
@quiet_option
def predict(
    slide: Path, model: Path | None, out: Path | None, labels: Path | None, roi: Path | None,
    parent_model: Path | None, no_tissue: bool, exclude_artefacts: bool, device: str, engine: str,
    max_ram: int | None, slide_mpp: float | None, series: int | None, full_decoding: bool, overwrite: bool, log_json: Path | None,
    quiet: bool,
) -> None:  # fmt: skip
    """Find the objects of SLIDE, and write them for QuPath."""
    from wsiseg.bundle import load_bundle
    from wsiseg.inference.cascade import parent_file, predict_cascade
    from wsiseg.inference.engines import make_engine
    from wsiseg.inference.predict import PredictOptions, predict_slide
    from wsiseg.memory import fitting_batch
    from wsiseg.selection.select import Roi, Selection
    from wsiseg.slides.open import open_slide

    if model is None:
        model, first_model = _default_models(slide, slide_mpp, series)
        parent_model = parent_model or first_model
    bundle = load_bundle(model)
    job = PredictOptions(
        out=out or Path(f"{slide.stem}.geojson"),
        labels=labels,
        selection=Selection(not no_tissue, exclude_artefacts, None if roi is None else Roi.read(roi)),
        overwrite=overwrite,
    )
    first = load_bundle(parent_model) if parent_model is not None else bundle.parent
    scaled = bundle.usage.scaled_decoding and not full_decoding
    opening = open_slide(slide, mpp=slide_mpp, scaled_decoding=scaled, series=series)
    with opening as opened, progress_bar("Predicting", "tiles", quiet, log_json) as report:
        say_cautions(opened)
        if not quiet:
            names = f"{first.name}, then {bundle.name} in its objects" if first is not None else bundle.name
            level0 = opened.frame
            click.echo(
                f"{opened.name}, {level0.width} × {level0.height} px at {level0.mpp:g} µm/px: {names} at "
                f"{bundle.usage.mpp:g} µm/px; the objects go to {job.out}",
                err=True,
            )
        if max_ram is not None:
            batch = fitting_batch(opened, [b.identity for b in (bundle, first) if b is not None], max_ram)
            if batch < bundle.usage.batch:
                click.echo(f"Predicting {batch} tiles at a time, not {bundle.usage.batch}: --max-ram.", err=True)
            bundle, first = bundle.with_batch(batch), first and first.with_batch(batch)
        fine = make_engine(bundle, engine, device)
        if first is None:
            result = predict_slide(opened, bundle, fine, job, report=report)
        else:
            pair = (first, make_engine(first, engine, device)), (bundle, fine)
            result = predict_cascade(opened, *pair, job, report=report)
            click.echo(f"{parent_file(job.out)}: what {first.name!r} found", err=True)
    kept = f", label map in {labels}" if labels is not None else ""
    click.echo(f"{job.out}: {result.objects} objects{kept}" + (" (already there)" if result.already else ""))
    if not quiet:
        click.echo(f"Open {slide.name} in QuPath and drop {job.out.name} onto it.", err=True)
    say_next("predict", quiet=quiet, slide_mpp=slide_mpp, series=series, slide=slide, outlines=job.out)


def _default_models(path: Path, slide_mpp: float | None, series: int | None) -> tuple[Path, Path | None]:
    """The bundled models for a slide, and on the error stream which they are; see `wsiseg.models.default_models`."""
    from wsiseg.models import NUCLEI_MPP, default_models
    from wsiseg.slides.open import open_slide

    with open_slide(path, mpp=slide_mpp, series=series) as slide:
        mpp = max(slide.frame.mpp, slide.frame.mpp_y)
    model, first = default_models(mpp)
    if first is None:
        said = f"glomeruli alone (the slide has {mpp:g} µm/px; nuclei need {NUCLEI_MPP:g} or finer)"
    else:
        said = f"glomeruli ({first.name}), and nuclei in them ({model.name}: trained on generated slides only)"
    click.echo(f"No --model given: the bundled models find {said}. For research, not for diagnosis.", err=True)
    return model, first


@click.command()
@click.option(
    "--out", type=PATH, default=Path("demo"), show_default=True, metavar="DIR", help="The folder for all results."
)
@click.option("--device", default="auto", show_default=True, help="Where the network runs: auto, cpu, cuda, cuda:1, …")
@engine_option
@log_option
@quiet_option
def demo(out: Path, device: str, engine: str, log_json: Path | None, quiet: bool) -> None:
    """Predict a generated slide and compare the result with the ground truth."""
    from wsiseg.demo import run_demo

    with progress_bar("Predicting", "tiles", quiet, log_json) as report:
        run_demo(out, device=device, engine=engine, say=click.echo, report=report)
    slide, outlines, truth = (out / name for name in ("slide.svs", "prediction.geojson", "truth.geojson"))
    say_next("demo", quiet=quiet, slide=slide, outlines=outlines, truth=truth)
