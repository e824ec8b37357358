"""The command `consensus`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("slide", type=PATH)
@click.argument("annotations", type=PATH, nargs=-1, required=True, metavar="A.geojson B.geojson …")
@click.option("--out", type=PATH, required=True, metavar="FILE", help="Where the consensus is written, as GeoJSON.")
@click.option(
    "--csv", "table", type=PATH, metavar="FILE", help="Write the agreement of each annotator as a table (CSV)."
)
@click.option(
    "--certain", type=click.FloatRange(0.5, 1), default=0.9, metavar="P",
    help="A pixel belongs to an object, or to none, from this probability on; what is in between has the class Ignore.",
)  # fmt: skip
@click.option(
    "--resolution", type=click.FloatRange(0, min_open=True), metavar="µM/PX",
    help="Resolution at which borders are decided (default: 100 px across an object of the median size).",
)  # fmt: skip
@screen.json_option
@screen.class_option
@screen.max_input_option
@screen.slide_mpp_option
@screen.series_option
@screen.overwrite_option
@screen.quiet_option
def consensus(
    slide: Path, annotations: tuple[Path, ...], out: Path, table: Path | None, certain: float, resolution: float | None,
    as_json: bool, class_of_rest: str | None, slide_mpp: float | None, series: int | None, overwrite: bool, quiet: bool,
) -> None:  # fmt: skip
    """Make one set of annotations of those that several people drew on SLIDE, and compare each person with it."""
    from wsiseg.errors import OutputError
    from wsiseg.evaluation.consensus import consensus_of_files, render, write_table
    from wsiseg.slides.open import open_slide

    for file in filter(None, (out, table)):
        if file.resolve() in {one.resolve() for one in annotations}:
            raise OutputError(f"{file} is a file of annotations that are compared: choose another place.")
        if file.exists() and not overwrite:
            raise OutputError(f"{file} exists already: choose another place, or use --overwrite.")
    with open_slide(slide, mpp=slide_mpp, series=series) as opened:
        screen.say_cautions(opened)
        found = consensus_of_files(
            opened, annotations, out, mpp=resolution, certain=certain, class_of_rest=class_of_rest,
            say=partial(click.echo, err=True),
        )  # fmt: skip
    if table is not None:
        write_table(table, found)
    if as_json:
        screen.echo_json([asdict(one) for one in found.agreement])
    else:
        click.echo(render(found))
    say_next("consensus", quiet=quiet, slide=slide, out=out, first=annotations[0], slide_mpp=slide_mpp, series=series)
