"""The command `synth`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next

PATH = click.Path(path_type=Path)


class _Size(click.ParamType):
    """A size in mm, as WIDTHxHEIGHT."""

    name = "size"

    def convert(
        self, value: str | tuple[float, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)[x×](\d+(?:\.\d+)?)", value.lower())
        if match is None:
            self.fail(f"{value!r} is not a size: write width x height in mm, for example 8x6.", param, ctx)
        return float(match[1]), float(match[2])


@click.command()
@click.option(
    "--out", type=PATH, required=True, metavar="SLIDE", help="The slide to write: .svs, or .ome.tiff for OME-TIFF."
)
@click.option("--truth", type=PATH, metavar="FILE", help="The ground truth to write (default: beside the slide).")
@click.option("--size-mm", type=_Size(), default="8x6", metavar="WxH", help="Width and height in mm.")
@click.option("--mpp", type=float, default=0.25, metavar="µM/PX", help="Resolution of level 0.")
@click.option("--stain", type=click.Choice(["pas", "he"]), default="pas", help="PAS or H&E.")
@click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="Each seed gives another slide.")
@click.option(
    "--thickness-um", type=float, default=3.0, metavar="µM",
    help="Thickness of the section; thin sections show smaller parts of nuclei.",
)  # fmt: skip
@click.option(
    "--artefact", "artefacts", multiple=True, metavar="NAME",
    help="Add a fold, pen, blur or bubble; none for a clean slide. Repeat for several. By default the seed decides, "
    "and adds no bubbles.",
)  # fmt: skip
@click.option("--no-nuclei", is_flag=True, help="Leave nuclei out of the ground truth.")
@click.option(
    "--jitter-um", type=float, default=0.0, metavar="µM", help="Move borders at random by this much, as people do."
)
@click.option("--missed", type=float, default=0.0, metavar="FRACTION", help="Leave out this fraction of objects.")
@click.option(
    "--false", "false_", type=float, default=0.0, metavar="FRACTION", help="Add this fraction of false objects."
)
@click.option("--quality", type=int, default=80, metavar="N", help="JPEG quality of the tiles, 1 to 100.")
@screen.overwrite_option
@screen.log_option
@screen.quiet_option
def synth(
    out: Path, truth: Path | None, size_mm: tuple[float, float], mpp: float, stain: str, seed: int,
    thickness_um: float, artefacts: tuple[str, ...], no_nuclei: bool, jitter_um: float, missed: float, false_: float,
    quality: int, overwrite: bool, log_json: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Generate a kidney slide with exact ground truth.

    Results on generated slides say nothing about real kidneys.
    """
    from itertools import chain

    from wsiseg.annotations.formats import write_annotations
    from wsiseg.errors import OutputError
    from wsiseg.synthetic import CLASSES, Annotator, SlideSpec, generate, write_slide

    truth = truth or out.with_name(
        f"{out.name.removesuffix('.tiff').removesuffix('.tif').removesuffix('.svs')}.geojson"
    )
    for path in (out, truth):
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already: choose another name or use --overwrite.")
    chosen = None if not artefacts else tuple(a for a in artefacts if a != "none")
    spec = SlideSpec(seed, 1000 * size_mm[0], 1000 * size_mm[1], stain, mpp, chosen, thickness_um)
    person = Annotator(jitter_um, missed, false_, seed)
    made = generate(spec)
    if not quiet:
        size = f"{made.frame.width} × {made.frame.height} px at {mpp:g} µm/px"
        click.echo(f"A {stain} section of seed {seed}, {size}: the slide goes to {out}, its truth to {truth}", err=True)
    with screen.progress_bar("Drawing", "tiles", quiet, log_json) as report:
        write_slide(made, out, quality, report=report)
    regions = person.annotate(made.truth if no_nuclei else chain(made.truth, made.nuclei()), made.frame)
    origin = {"slide": out.name, "origin": "generated", "seed": seed, "stain": stain, "thickness_um": thickness_um}
    written = write_annotations(truth, regions, classes=CLASSES, properties=origin, frame=made.frame)
    click.echo(f"{out}: {made.frame.width} × {made.frame.height} px at {mpp:g} µm/px")
    click.echo(f"{truth}: {written}")
    say_next("synth", quiet=quiet, slide=out, truth=truth)
