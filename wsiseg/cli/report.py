"""The command `report`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from wsiseg.cli import screen
from wsiseg.cli.renamed import Renamed

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("results", type=PATH)
@click.argument("outlines", type=PATH, nargs=-1)
@click.option("--out", type=PATH, metavar="FILE.html", default=Path("report.html"), help="The page to write.")
@click.option(
    "--reference", cls=Renamed, was="--truth", type=PATH, metavar="FILE",
    help="The reference: annotations to compare the objects with.",
)  # fmt: skip
@click.option("--measurements", type=PATH, metavar="DIR", help="The folder of `wsiseg measure` (CSV).")
@click.option("--evaluation", type=PATH, metavar="FILE", help="What `wsiseg evaluate --json` printed.")
@click.option("--qc", "quality", type=PATH, metavar="DIR", help="The folder of `wsiseg qc`.")
@click.option(
    "--alone", is_flag=True,
    help="Use only what is named here. By default the page also takes up results of measure, qc and evaluate that lie "
    "beside the outlines, beside the slide or in the current folder.",
)  # fmt: skip
@screen.class_option
@screen.max_input_option
@screen.slide_mpp_option
@screen.series_option
def report(
    results: Path, outlines: tuple[Path, ...], out: Path, reference: Path | None, measurements: Path | None,
    evaluation: Path | None, quality: Path | None, alone: bool, class_of_rest: str | None, slide_mpp: float | None,
    series: int | None,
) -> None:  # fmt: skip
    """Make an HTML page about a slide and its objects, many slides, or a training run."""
    from wsiseg.report.slide import Sources
    from wsiseg.report.write import write_report

    sources = Sources(outlines, reference, measurements, quality, evaluation, class_of_rest)
    say = partial(click.echo, err=True)
    write_report(out, results, sources, alone=alone, mpp=slide_mpp, series=series, say=say)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, opens in any browser")
