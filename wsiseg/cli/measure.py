"""The command that measures: measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsiseg.cli.ending import say_next
from wsiseg.cli.screen import overwrite_option, slide_mpp_option

if TYPE_CHECKING:
    from wsiseg.measure.slide import Table

PATH = click.Path(path_type=Path)

MEASURED = (
    click.option(
        "--glomeruli", multiple=True, metavar="CLASS",
        help="Class of glomeruli that are not globally sclerotic; may be repeated. Glomerulus where left out.",
    ),
    click.option(
        "--sclerotic", multiple=True, metavar="CLASS",
        help="Class of globally sclerotic glomeruli; may be repeated. Sclerotic glomerulus where left out.",
    ),
    click.option(
        "--podocytes", multiple=True, metavar="CLASS",
        help="Class of podocyte nuclei; may be repeated. Podocyte or Podocyte nucleus where left out.",
    ),
    click.option(
        "--thickness-um", type=float, metavar="µM",
        help="Thickness of the section; without it there are no podocyte densities.",
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
@click.option("--out", type=PATH, metavar="DIR", help="Folder of the tables; SLIDE-STEM-measurements here by default.")
@click.option(
    "--format", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True, metavar="FORMAT",
    help="Of the tables: csv or parquet.",
)  # fmt: skip
@click.option("--geojson", type=PATH, metavar="FILE", help="Write the outlines with their measurements for QuPath too.")
@measured_options
@click.option("--tissue", type=PATH, metavar="FILE", help="Annotations of the tissue; looked for where left out.")
@click.option("--cortex", type=PATH, metavar="FILE", help="Annotations of the cortex, for glomeruli per mm² of it.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Of the bootstrap intervals."
)
@slide_mpp_option
@overwrite_option
def measure(
    slide: Path, outlines: tuple[Path, ...], out: Path | None, format: str, geojson: Path | None,
    glomeruli: tuple[str, ...], sclerotic: tuple[str, ...], podocytes: tuple[str, ...], thickness_um: float | None,
    tissue: Path | None, cortex: Path | None, seed: int, slide_mpp: float | None, overwrite: bool,
) -> None:  # fmt: skip
    """Measure tissue, glomeruli and podocytes of SLIDE from its OUTLINES, one or more files."""
    from wsiseg.measure.files import Wanted, check_output, measure_files, write_measured
    from wsiseg.measure.tables import check_folder, write_tables
    from wsiseg.slides.open import open_slide

    out = out or Path(f"{slide.stem}-measurements")
    check_folder(out, format, overwrite=overwrite)
    if geojson is not None:
        check_output(geojson, outlines)
    wanted = Wanted(glomeruli, sclerotic, podocytes, thickness_um, tissue, cortex, seed)
    with open_slide(slide, mpp=slide_mpp) as opened:
        measured, read, names = measure_files(opened, outlines, wanted)
    if geojson is not None:
        written = write_measured(geojson, opened, measured, read, names)
        click.echo(f"{geojson}: {written}", err=True)
    write_tables(out, measured.tables(), format, overwrite=overwrite)
    for line in _lines(measured.slides):
        click.echo(line)
    click.echo(f"{out}: {', '.join(f'{name}.{format}' for name in measured.tables())}", err=True)
    readable = out if format == "csv" else None  # by reports
    say_next("measure", slide_mpp=slide_mpp, slide=slide, outlines=outlines, out=readable)


def _lines(slides: Table) -> list[str]:
    """The figures of a slide for people; docs/measurements.md tells what they are."""
    lines = []
    for name, values in slides.items():
        if name.endswith(("_low", "_high")):
            continue
        value = values[0]
        shown = value if isinstance(value, str) else f"{value:.6g}" if value == value else "–"
        low, high = (slides.get(f"{name}_{end}") for end in ("low", "high"))
        if low is not None and high is not None and low[0] == low[0]:
            shown += f"  ({low[0]:.4g} to {high[0]:.4g})"
        lines.append(f"{name:<38}{shown}")
    return lines
