"""The command `measure`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next

if TYPE_CHECKING:
    from wsiseg.measure.column import Table
    from wsiseg.measure.objects import Measured

PATH = click.Path(path_type=Path)

MEASURED = (
    click.option(
        "--profile", type=click.Choice(["auto", "generic", "kidney"]), default="auto", metavar="NAME",
        help="What to measure: generic (objects of any organ), kidney (glomeruli, sclerosis, podocytes), or auto "
        "(kidney if a class is a glomerulus, otherwise generic).",
    ),
    click.option(
        "--glomeruli", multiple=True, metavar="CLASS",
        help="Kidney: class of glomeruli without global sclerosis (default: Glomerulus). Repeat for several.",
    ),
    click.option(
        "--sclerotic", multiple=True, metavar="CLASS",
        help="Kidney: class of globally sclerotic glomeruli (default: Sclerotic glomerulus). Repeat for several.",
    ),
    click.option(
        "--podocytes", multiple=True, metavar="CLASS",
        help="Kidney: class of podocyte nuclei (default: Podocyte or Podocyte nucleus). Repeat for several.",
    ),
    click.option(
        "--thickness-um", type=float, metavar="µM",
        help="Kidney: thickness of the section, needed for podocyte densities.",
    ),
)  # fmt: skip


def measured_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command that measures asks for."""
    for option in reversed(MEASURED):
        command = option(command)
    return command


@click.command()
@click.argument("slide", type=PATH)
@click.argument("outlines", type=PATH, nargs=-1, required=True)
@click.option(
    "--out", type=PATH, metavar="DIR",
    help="The folder for the tables (default: SLIDE-STEM-measurements in the current folder).",
)  # fmt: skip
@click.option(
    "--format", type=click.Choice(["csv", "parquet"]), default="csv", metavar="FORMAT",
    help="Format of the tables: csv or parquet.",
)  # fmt: skip
@click.option(
    "--geojson", type=PATH, metavar="FILE", help="Also write the objects with their measurements, for QuPath."
)
@measured_options
@click.option("--tissue", type=PATH, metavar="FILE", help="Annotations of the tissue (default: detected on the slide).")
@click.option(
    "--cortex", type=PATH, metavar="FILE", help="Kidney: annotations of the cortex, for glomeruli per mm² of cortex."
)
@click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="Seed of the bootstrap intervals.")
@screen.class_option
@screen.max_input_option
@screen.slide_mpp_option
@screen.series_option
@screen.overwrite_option
def measure(
    slide: Path, outlines: tuple[Path, ...], out: Path | None, format: str, geojson: Path | None, profile: Any,
    glomeruli: tuple[str, ...], sclerotic: tuple[str, ...], podocytes: tuple[str, ...], thickness_um: float | None,
    tissue: Path | None, cortex: Path | None, seed: int, class_of_rest: str | None, slide_mpp: float | None, series: int | None,
    overwrite: bool,
) -> None:  # fmt: skip
    """Measure the objects of SLIDE, from one file or several."""
    from wsiseg.measure.files import MeasureOptions, check_output, measure_files, write_measured
    from wsiseg.measure.tables import check_folder, write_tables
    from wsiseg.slides.open import open_slide

    out = out or Path(f"{slide.stem}-measurements")
    check_folder(out, format, overwrite=overwrite)
    if geojson is not None:
        check_output(geojson, outlines)
    options = MeasureOptions(
        profile, glomeruli, sclerotic, podocytes, thickness_um, tissue, cortex, seed, class_of_rest
    )
    with open_slide(slide, mpp=slide_mpp, series=series) as opened:
        screen.say_cautions(opened)
        names = ", ".join(path.name for path in outlines)
        screen.say_plan(opened, f"the objects of {names} are measured; the tables go to {out}")
        measured, read = measure_files(opened, outlines, options)
    for summary in read.summaries:
        click.echo(str(summary), err=True)
    if geojson is not None:
        written = write_measured(geojson, opened, measured, read)
        click.echo(f"{geojson}: {written}", err=True)
    write_tables(out, measured.tables, format, overwrite=overwrite)
    for line in _lines(measured):
        click.echo(line)
    files = ", ".join(f"{name}.{format}" for name in measured.tables)
    click.echo(f"{out}: {files} (profile {measured.profile})", err=True)
    readable = out if format == "csv" else None  # by reports
    say_next("measure", slide_mpp=slide_mpp, series=series, slide=slide, outlines=outlines, out=readable)


def _lines(measured: Measured) -> Iterator[str]:
    """The numbers of a slide for people; docs/measurements.md explains them."""
    yield from _row(measured["slides"], 0)
    classes = measured.tables.get("classes", {})
    for row, label in enumerate(classes.get("class", ())):
        yield ""
        yield str(label)
        # a class does not lie in itself: those fields are empty
        known = {name: values for name, values in classes.items() if "[" not in name or values[row] == values[row]}
        yield from _row({name: values for name, values in known.items() if name not in ("slide", "class")}, row)


def _row(table: Table, row: int) -> Iterator[str]:
    for name, values in table.items():
        if name.endswith(("_low", "_high")):
            continue
        value = values[row]
        shown = value if isinstance(value, str) else f"{value:.6g}" if value == value else "–"
        low, high = (table.get(f"{name}_{end}") for end in ("low", "high"))
        if low is not None and high is not None and low[row] == low[row]:
            shown += f"  ({low[row]:.4g} to {high[row]:.4g})"
        yield f"{name:<37} {shown}"
