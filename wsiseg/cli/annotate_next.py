"""The command `next`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next
from wsiseg.cli.models import MODEL

PATH = click.Path(path_type=Path)


@click.command("next")
@click.argument("slides", type=PATH, metavar="LIST")
@click.option(
    "--model", type=MODEL, metavar="MODEL", help="A model's name or bundle (default: the bundled model of glomeruli)."
)
@click.option("--out", type=PATH, required=True, metavar="DIR", help="The folder for the choice.")
@click.option("--root", type=PATH, metavar="DIR", help="Where relative paths of LIST start (default: LIST's folder).")
@click.option("--slides", "count", type=click.IntRange(1), metavar="N", help="Choose so many slides (default: 8).")
@click.option(
    "--regions", type=click.IntRange(1), metavar="N", help="Choose so many regions of all slides, and not whole slides."
)
@click.option(
    "--region-um", type=click.FloatRange(0, min_open=True), default=500.0, metavar="µM",
    help="Width of regions, rounded to a multiple of 32 px of the model.",
)  # fmt: skip
@click.option(
    "--windows", type=click.IntRange(1), default=32, metavar="N", help="Look at so many places of each slide at most."
)
@click.option(
    "--difficulty", type=click.FloatRange(0), default=1.0, metavar="WEIGHT",
    help="How much it counts that the model finds a place hard; 0 chooses by what the places look like alone.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="Chooses the places that are looked at.")
@click.option(
    "--split", "splits", multiple=True, type=click.Choice(["train", "validation", "test"]), default=("train",),
    show_default="train", help="Choose from the slides of this split; repeat it for several.",
)  # fmt: skip
@screen.device_option
@screen.json_option
@screen.overwrite_option
@screen.log_option
@screen.quiet_option
def annotate_next(
    slides: Path, model: Path | None, out: Path, root: Path | None, count: int | None, regions: int | None,
    region_um: float, windows: int, difficulty: float, seed: int, splits: tuple[str, ...], device: str, as_json: bool,
    overwrite: bool, log_json: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Choose the slides or regions of LIST to annotate next: those that are unlike the others and hard for a model."""
    from wsiseg.bundle import load_bundle
    from wsiseg.data.slides import read_slides
    from wsiseg.errors import OutputError
    from wsiseg.inference.annotate_next import TABLE, NextOptions, choose_next, render
    from wsiseg.models import KIDNEY

    if count is not None and regions is not None:
        raise click.UsageError("Give --slides or --regions, not both.")
    entries, bundle = read_slides(slides, root), load_bundle(model or KIDNEY)
    width = None if regions is None else region_um
    options = NextOptions(regions or count or 8, width, windows, difficulty, seed, splits)
    files = [out / TABLE, *(out / f"{entry.name}.geojson" for entry in entries if regions is not None)]
    for file in files:
        if file.exists() and not overwrite:
            raise OutputError(f"{file} exists already: choose another folder, or use --overwrite.")
    if not quiet:
        new = sum(entry.annotations is None and entry.split in splits for entry in entries)
        what = "slides" if regions is None else "regions"
        click.echo(
            f"Up to {options.count} {what} of {new} slides without annotations ({', '.join(splits)}), seen by "
            f"{bundle.name}; the choice goes to {out}.", err=True,
        )  # fmt: skip
    with screen.progress_bar("Looking", "slides", quiet, log_json) as report:
        choices = choose_next(
            entries, bundle, options, out, device=device, say=partial(click.echo, err=True), report=report
        )
    if as_json:
        screen.echo_json([choice.to_row() for choice in choices])
    else:
        click.echo(render(choices))
    slide = next(entry for entry in entries if entry.name == choices[0].slide).slide
    rectangles = out / f"{choices[0].slide}.geojson" if regions is not None else None
    say_next("next", quiet=quiet, slide=slide, regions=rectangles)
