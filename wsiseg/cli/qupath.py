"""The command `qupath install`."""

from __future__ import annotations

from pathlib import Path

import click

PATH = click.Path(path_type=Path)


@click.group()
def qupath() -> None:
    """Use wsiseg from QuPath's menu."""


@qupath.command()
@click.option(
    "--folder", "folders", type=PATH, multiple=True, metavar="DIR",
    help="QuPath's folder of scripts (default: `scripts` in each of QuPath's user folders). Repeat it for several.",
)  # fmt: skip
def install(folders: tuple[Path, ...]) -> None:
    """Write scripts for QuPath 0.5 to 0.7: find objects on the open image, import a result, export all annotations."""
    from wsiseg.qupath import install as write_scripts

    for file in write_scripts(folders):
        click.echo(file)
    click.echo("In QuPath they are under Automate, User scripts (or Project scripts), wsiseg.", err=True)
