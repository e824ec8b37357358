"""The command that generates slides: synth."""

from __future__ import annotations

import re
from pathlib import Path

import click

from wsiseg.cli.ending import say_next
from wsiseg.cli.screen import log_option, overwrite_option, progress_bar, quiet_option

PATH = click.Path(path_type=Path)


class _Size(click.ParamType):
    """WIDTHxHEIGHT in mm."""

    name = "size"

    def convert(
        self, value: str | tuple[float, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)[x×](\d+(?:\.\d+)?)", value.lower())
        if match is None:
            self.fail(f"{value!r} is no size: write width x height in mm, for example 8x6.", param, ctx)
        return float(match[1]), float(match[2])


@click.command()
@click.option("--out", type=PATH, required=True, metavar="SLIDE", help="The slide: .svs, or .ome.tiff for OME-TIFF.")
@click.option(
    "--truth", type=PATH, metavar="FILE", help="Annotations of glomeruli and nuclei; beside the slide if absent."
)
@click.option("--size-mm", type=_Size(), default="8x6", show_default=True, metavar="WxH", help="Width x height in mm.")
@click.option("--mpp", type=float, default=0.25, show_default=True, metavar="µM/PX", help="Resolution of level 0.")
@click.option("--stain", type=click.Choice(["pas", "he"]), default="pas", show_default=True, help="pas or he.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Another is another case."
)
@click.option(
    "--thickness-um",
    type=float,
    default=3.0,
    show_default=True,
    metavar="µM",
    help="Thickness of the section, from which follows how much of each nucleus is in it.",
)
@click.option(
    "--artefact",
    "artefacts",
    multiple=True,
    metavar="NAME",
    help="fold, pen, blur, bubble or none; may be repeated. The seed decides where left out, and never on a bubble.",
)
@click.option("--no-nuclei", is_flag=True, help="Write the truth of glomeruli only.")
@click.option(
    "--jitter-um", type=float, default=0.0, show_default=True, metavar="µM", help="Stray borders, as a person's."
)
@click.option(
    "--missed", type=float, default=0.0, show_default=True, metavar="SHARE", help="Leave out this share of outlines."
)
@click.option(
    "--false",
    "false_",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Add this share of outlines of nothing.",
)
@click.option("--quality", type=int, default=80, show_default=True, metavar="N", help="Of the JPEG tiles, 1 to 100.")
@overwrite_option
@log_option
@quiet_option
def synth(
    out: Path, truth: Path | None, size_mm: tuple[float, float], mpp: float, stain: str, seed: int,
    thickness_um: float, artefacts: tuple[str, ...], no_nuclei: bool, jitter_um: float, missed: float, false_: float,
    quality: int, overwrite: bool, log_json: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Generate a kidney slide and its exact truth. What is measured on it says nothing about real kidneys."""
    from itertools import chain

    from wsiseg.annotations.formats import write_annotations
    from wsiseg.errors import OutputError
    from wsiseg.synthetic import CLASSES, Annotator, SlideSpec, generate, write_slide

    truth = truth or out.with_name(
        f"{out.name.removesuffix('.tiff').removesuffix('.tif').removesuffix('.svs')}.geojson"
    )
    for path in (out, truth):
        if path.exists() and not overwrite:
            raise OutputError(f"{path} is there already: choose another name or say --overwrite.")
    chosen = None if not artefacts else tuple(a for a in artefacts if a != "none")
    spec = SlideSpec(seed, 1000 * size_mm[0], 1000 * size_mm[1], stain, mpp, chosen, thickness_um)
    person = Annotator(jitter_um, missed, false_, seed)
    made = generate(spec)
    with progress_bar("Drawing", "tiles", quiet, log_json) as report:
        write_slide(made, out, quality, report=report)
    regions = person.annotate(made.truth if no_nuclei else chain(made.truth, made.nuclei()), made.frame)
    origin = {"slide": out.name, "origin": "generated", "seed": seed, "stain": stain, "thickness_um": thickness_um}
    written = write_annotations(truth, regions, classes=CLASSES, properties=origin, frame=made.frame)
    click.echo(f"{out}: {made.frame.width} × {made.frame.height} px at {mpp:g} µm/px")
    click.echo(f"{truth}: {written}")
    say_next("synth", quiet=quiet, slide=out, truth=truth)
