"""Commands of learning: train, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import click

from wsiseg.cli.screen import overwrite_option, progress_bar, quiet_option, slide_mpp_option

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, metavar="RUN", help="The run's folder; runs/RECIPE-NAME by default.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of an interrupted run.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the recipe, as training.steps=500.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@overwrite_option
@quiet_option
def train(
    recipe: Path, out: Path | None, resume: bool, overrides: tuple[str, ...], device: str, overwrite: bool, quiet: bool
) -> None:
    """Train a model as RECIPE says; the bundle lands in RUN/model."""
    from wsiseg.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    out = out or Path("runs") / loaded.name

    from wsiseg.training.run import Reporter
    from wsiseg.training.run import train as run

    with progress_bar("Training", "steps", quiet) as bar:
        report = Reporter(lambda line: click.echo(line, err=True), lambda done, total, _: bar(done, total))
        bundle = run(loaded, out, device=device, resume=resume, overwrite=overwrite, report=report)
    if bundle is None:
        return  # the first process says it
    for name, value in bundle.metrics.items():
        if name.endswith("/dice"):
            click.echo(f"Dice on the validation slides, {name.removesuffix('/dice')}: {value:.3f}")
    click.echo(f"{bundle.path}: use it with `wsiseg predict --model {bundle.path} --slide SLIDE`")


@click.command()
@click.option("--slide", type=PATH, required=True, help="The slide, for its size and µm/px.")
@click.option("--truth", type=PATH, required=True, help="Outlines to judge by.")
@click.option("--prediction", type=PATH, required=True, help="Outlines, or a label map (.zarr).")
@click.option(
    "--resolution",
    type=float,
    default=1.0,
    show_default=True,
    metavar="µM/PX",
    help="At which pixels are compared; a label map brings its own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@slide_mpp_option
def evaluate(
    slide: Path, truth: Path, prediction: Path, resolution: float, as_json: bool, slide_mpp: float | None
) -> None:
    """Compare a prediction with the truth over the whole slide: pixels and objects."""
    from wsiseg.compare import compare_files
    from wsiseg.evaluate import render, summary
    from wsiseg.slides.open import open_slide

    with open_slide(slide, mpp=slide_mpp) as opened:
        found, classes = compare_files(opened, truth, prediction, resolution)
    result = summary([found], classes)
    click.echo(json.dumps(result, indent=1, ensure_ascii=False) if as_json else render(result))
