"""The command `audit`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from wsiseg.cli.ending import say_next
from wsiseg.cli.screen import (
    class_option,
    engine_option,
    log_option,
    max_input_option,
    overwrite_option,
    progress_bar,
    quiet_option,
)

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("slides", type=PATH, metavar="LIST")
@click.option(
    "--model", "models", type=PATH, multiple=True, metavar="BUNDLE",
    help="A model of the same objects; repeat it for several. Each slide is predicted by those that did not learn from "
    "it (default: the bundled model of glomeruli).",
)  # fmt: skip
@click.option("--out", type=PATH, required=True, metavar="DIR", help="The folder for the suggestions.")
@click.option("--root", type=PATH, metavar="DIR", help="Where relative paths of LIST start (default: LIST's folder).")
@click.option(
    "--split", "splits", multiple=True, type=click.Choice(["train", "validation", "test"]),
    default=("train", "validation"), show_default="train and validation",
    help="Audit the slides of this split; repeat it for several. Test slides stay as they are unless you name them.",
)  # fmt: skip
@click.option(
    "--corrected", type=PATH, metavar="DIR",
    help="Also write annotations for training, in which what is probably an object and not annotated has the class "
    "Ignore, and a slide list that names them.",
)  # fmt: skip
@click.option(
    "--confident", type=click.FloatRange(0, 1), default=0.6, metavar="P",
    help="Suggest only objects whose mean probability is at least this.",
)  # fmt: skip
@click.option(
    "--unsupported", type=click.FloatRange(0, 1), default=0.05, metavar="P",
    help="Doubt an annotation if the mean probability in it is at most this.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print all suggestions as JSON.")
@click.option("--device", default="auto", help="Where the network runs: auto, cpu, cuda, cuda:1, …")
@engine_option
@class_option
@max_input_option
@overwrite_option
@log_option
@quiet_option
def audit(
    slides: Path, models: tuple[Path, ...], out: Path, root: Path | None, splits: tuple[str, ...],
    corrected: Path | None, confident: float, unsupported: float, as_json: bool, device: str, engine: str,
    class_of_rest: str | None, overwrite: bool, log_json: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Find annotations of LIST that are probably missing, halved or misplaced."""
    from wsiseg.bundle import load_bundle
    from wsiseg.data.slides import read_slides
    from wsiseg.evaluation.audit import COLUMNS, AuditOptions, Judge, render
    from wsiseg.evaluation.audit import audit as run
    from wsiseg.inference.engines import make_engine
    from wsiseg.models import KIDNEY

    entries = read_slides(slides, root)
    bundles = [load_bundle(model) for model in models or (KIDNEY,)]
    judges = [Judge(bundle, make_engine(bundle, engine, device)) for bundle in bundles]
    options = AuditOptions(out, corrected, splits, confident, unsupported, class_of_rest, overwrite)
    if not quiet:
        count = sum(entry.annotations is not None and entry.split in splits for entry in entries)
        names, more = ", ".join(judge.bundle.name for judge in judges), f", corrected annotations to {corrected}"
        click.echo(
            f"Annotated slides ({', '.join(splits)}): {count}, predicted by {names}; the suggestions go to {out}"
            f"{more if corrected is not None else ''}. An interrupted audit goes on with the same command.",
            err=True,
        )
    with progress_bar("Auditing", "tiles", quiet, log_json) as report:
        audited = run(entries, judges, options, say=partial(click.echo, err=True), report=report)
    if as_json:
        rows = [dict(zip(COLUMNS, row, strict=True)) for one in audited for row in one.suggestions]
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        click.echo(render(audited))
    places = f"{out}: suggestions.csv, NAME.geojson for each slide, labels/"
    click.echo(places + (f"; {corrected}: slides.csv, NAME.geojson" if corrected is not None else ""), err=True)
    worst = max(audited, key=lambda one: len(one.suggestions)).entry
    say_next(
        "audit",
        quiet=quiet,
        slide=worst.slide,
        suggestions=out / f"{worst.name}.geojson",
        annotations=worst.annotations,
    )
