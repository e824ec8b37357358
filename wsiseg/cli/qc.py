"""The command `qc`."""

from __future__ import annotations

from pathlib import Path

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("slide", type=PATH)
@click.option(
    "--out", type=PATH, metavar="DIR", help="The folder for the results (default: SLIDE-STEM-qc in the current folder)."
)
@screen.json_option
@screen.slide_mpp_option
@screen.series_option
@screen.full_decoding_option
@screen.overwrite_option
@screen.log_option
@screen.quiet_option
def qc(
    slide: Path, out: Path | None, as_json: bool, slide_mpp: float | None, series: int | None, full_decoding: bool, overwrite: bool,
    log_json: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Find blur, folds, pen and bubbles on SLIDE, and check its stain and resolution."""
    from wsiseg.qc.examine import examine
    from wsiseg.qc.files import as_json as facts
    from wsiseg.qc.files import check_folder, write_quality
    from wsiseg.slides.open import open_slide

    out = out or Path(f"{slide.stem}-qc")
    check_folder(out, overwrite=overwrite)
    with open_slide(slide, mpp=slide_mpp, scaled_decoding=not full_decoding, series=series) as opened:
        screen.say_cautions(opened)
        screen.say_plan(opened, f"its tissue is examined for artefacts; the results go to {out}", quiet)
        with screen.progress_bar("Looking", "blocks", quiet, log_json) as report:
            quality = examine(opened, report)
        write_quality(out, opened, quality)
        if as_json:
            screen.echo_json(facts(opened, quality))
    if not as_json:
        for flag in quality.flags:
            value = "–" if flag.value is None else f"{flag.value:.4g} {flag.unit}".strip()
            click.echo(f"{'!' if flag.raised else ' '} {flag.name:<12}{value:<24}{flag.says}")
    click.echo(f"{out}: flags.json, artefacts.geojson, picture.png", err=True)
    artefacts = out / "artefacts.geojson" if quality.artefacts.labels.any() else None
    say_next("qc", quiet=quiet, slide_mpp=slide_mpp, series=series, slide=slide, artefacts=artefacts)
