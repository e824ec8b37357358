"""The commands `train` and `evaluate`."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next
from wsiseg.cli.measure import measured_options
from wsiseg.cli.renamed import Renamed

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, metavar="RUN", help="The folder of the run (default: runs/RECIPE-NAME).")
@click.option("--resume", is_flag=True, help="Continue an interrupted run from its checkpoint.")
@screen.overrides_option
@screen.device_option
@screen.max_input_option
@screen.overwrite_option
@screen.log_option
@screen.quiet_option
def train(
    recipe: Path, out: Path | None, resume: bool, overrides: tuple[str, ...], device: str, overwrite: bool,
    log_json: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Train a model from RECIPE; the bundle is written to RUN/model."""
    from wsiseg.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    out = out or Path("runs") / loaded.name

    from wsiseg.data.slides import read_slides
    from wsiseg.progress import Progress
    from wsiseg.training.run import train as run

    # Where several devices train, each has a process of its own that runs this very command; the first one speaks.
    first = os.environ.get("LOCAL_RANK", "0") == os.environ.get("NODE_RANK", "0") == "0"
    if not quiet and first:
        t, rows = (
            loaded.training,
            read_slides(Path(loaded.data.slides), Path(loaded.data.root) if loaded.data.root else None),
        )
        learnt = [row for row in rows if row.split == "train"]
        annotated = sum(row.annotations is not None for row in learnt)
        click.echo(
            f"{loaded.name}: {t.steps} steps of {t.batch} crops, {t.crop} px wide at {loaded.data.mpp:g} µm/px, from "
            f"{len(learnt)} slides, {annotated} of them annotated; first the slides are tiled. `wsiseg recipe check` "
            f"estimates the time. The model goes to {out / 'model'}; Ctrl-C stops, and --resume goes on.",
            err=True,
        )
    with screen.progress_bar("Training", "steps", quiet or not first, log_json if first else None) as bar:

        def report(progress: Progress) -> None:
            if progress.message:
                click.echo(progress.message, err=True)
            else:
                bar(progress)

        bundle = run(loaded, out, device=device, resume=resume, overwrite=overwrite, report=report)
    if bundle is None:
        return  # the first process says it
    for name, value in bundle.metrics.items():
        if name.endswith("/dice"):
            click.echo(f"Dice on the validation slides, {name.removesuffix('/dice')}: {value:.3f}")
    click.echo(f"{bundle.path}: the model; {out}: logs, pictures and the checkpoint")
    say_next("train", quiet=quiet, model=bundle.path, recipe=recipe, run=out)


@click.command()
@click.argument("slides", type=PATH, nargs=-1, metavar="SLIDE...")
@click.option("--slide", "slide_options", type=PATH, multiple=True, hidden=True)  # as in version 0.1
@click.option(
    "--reference", "references", cls=Renamed, was="--truth", type=PATH, required=True, multiple=True,
    help="The reference: annotations to compare with. Once for each slide, in the same order.",
)  # fmt: skip
@click.option(
    "--prediction", "predictions", type=PATH, required=True, multiple=True,
    help="The prediction: objects or a label map (.zarr). Once for each slide, in the same order.",
)  # fmt: skip
@screen.names_option("--classes", "only", help="Compare these classes alone; all others count as background.")
@screen.names_option(
    "--ignore-class", "ignored", help="Leave the pixels and objects of these classes out, on both sides."
)
@click.option(
    "--match-um", type=click.FloatRange(0, min_open=True), metavar="µM",
    help="Match small objects, such as nuclei, by the distance of their centroids (3 is usual) and not by overlap. "
    "Objects more than ten times as wide still match by overlap.",
)  # fmt: skip
@click.option(
    "--resolution", type=float, default=1.0, metavar="µM/PX",
    help="Resolution at which pixels are compared, unless a label map has its own.",
)  # fmt: skip
@click.option(
    "--measurements", is_flag=True, help="Also compare the measurements of both: Bland-Altman and concordance."
)
@click.option(
    "--csv", "table", type=PATH, metavar="FILE", help="Write the agreement of the measurements as a table (CSV)."
)
@measured_options
@screen.json_option
@screen.class_option
@screen.max_input_option
@screen.slide_mpp_option
@screen.series_option
def evaluate(
    slides: tuple[Path, ...], slide_options: tuple[Path, ...], references: tuple[Path, ...], predictions: tuple[Path, ...], resolution: float,
    only: tuple[str, ...], ignored: tuple[str, ...], match_um: float | None,
    measurements: bool, table: Path | None, profile: Any, glomeruli: tuple[str, ...], sclerotic: tuple[str, ...],
    podocytes: tuple[str, ...], thickness_um: float | None, as_json: bool, class_of_rest: str | None,
    slide_mpp: float | None, series: int | None,
) -> None:  # fmt: skip
    """Compare predictions of slides with a reference: pixels, objects and measurements."""
    from wsiseg.errors import WsisegError
    from wsiseg.measure.files import MeasureOptions

    slides += slide_options
    if not slides or not len(slides) == len(references) == len(predictions):
        raise WsisegError("Name the slides, and give --reference and --prediction once for each, in the same order.")
    wanted = MeasureOptions(profile, glomeruli, sclerotic, podocytes, thickness_um)
    if not measurements and (table is not None or wanted != MeasureOptions()):
        raise WsisegError(
            "--csv, --profile, --thickness-um and the names of classes are about measurements: add --measurements."
        )
    wanted = replace(wanted, class_of_rest=class_of_rest)

    from wsiseg.evaluation.compare import ClassChoice, common_classes, compare_files
    from wsiseg.evaluation.evaluate import render, summary
    from wsiseg.evaluation.measurements import compare_measurements, measure_pair, render_measurements, write_agreement
    from wsiseg.slides.open import open_slide

    pairs_of_files = list(zip(references, predictions, strict=True))
    classes = common_classes(pairs_of_files, class_of_rest) if len(slides) > 1 else None
    choice, say = ClassChoice(only, ignored), partial(click.echo, err=True)
    found, pairs = [], []
    for slide, reference, prediction in zip(slides, references, predictions, strict=True):
        with open_slide(slide, mpp=slide_mpp, series=series) as opened:
            screen.say_cautions(opened)
            one, compared = compare_files(
                opened, reference, prediction, resolution, classes, match_um, choice, say, class_of_rest
            )
            found.append(one)
            if measurements:
                pairs.append(measure_pair(opened, reference, prediction, wanted))
    result = summary(found, compared, match_um)
    if measurements:
        result["measurements"] = compare_measurements(pairs)
        if table is not None:
            write_agreement(table, result["measurements"])
    if as_json:
        screen.echo_json(result)
        return
    click.echo(render(result))
    if measurements:
        click.echo(render_measurements(result["measurements"]))
