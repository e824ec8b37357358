"""The command that changes formats: export."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from wsiseg.cli.screen import class_option, max_input_option, slide_mpp_option

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("source", type=PATH)
@click.option(
    "--out", type=PATH, required=True, metavar="FILE",
    help=".geojson, .geojson.gz, .xml (ImageScope), .csv, .parquet or .coco.json.",
)  # fmt: skip
@click.option("--min-object", type=float, default=0.0, metavar="µM²", help="Leave smaller objects of a label map out.")
@click.option("--min-hole", type=float, default=0.0, metavar="µM²", help="Fill smaller holes of a label map.")
@click.option(
    "--simplify", type=float, default=0.0, metavar="µM",
    help="Simplify the outlines of a label map; borders that objects share stay shared.",
)  # fmt: skip
@click.option(
    "--whole-objects", is_flag=True,
    help="Pixels of a label map that touch are one object, of the class that most of them have.",
)  # fmt: skip
@click.option(
    "--kind", type=click.Choice(["auto", "annotation", "detection"]), metavar="KIND",
    help="What QuPath takes the objects for: annotation or detection for all, or auto (the default): as they were, and "
    "where nobody said, detections if there are many.",
)  # fmt: skip
@click.option("--legacy", is_flag=True, help="GeoJSON that QuPath 0.3 understands, too.")
@click.option("--slide", type=PATH, help="The slide, where a table or COCO is made of outlines drawn by hand.")
@slide_mpp_option
@class_option
@max_input_option
def export(
    source: Path, out: Path, min_object: float, min_hole: float, simplify: float, whole_objects: bool,
    kind: str | None, legacy: bool, slide: Path | None, slide_mpp: float | None, class_of_rest: str | None,
) -> None:  # fmt: skip
    """Write the outlines of SOURCE, a label map or an outline file, in another format."""
    from wsiseg.export import Tracing
    from wsiseg.export import export as convert
    from wsiseg.slides.open import open_slide

    frame = None
    if slide is not None:
        with open_slide(slide, mpp=slide_mpp) as opened:
            frame = opened.frame
    options = {name: value for name, value in (("kind", kind), ("legacy", legacy)) if value}
    written = convert(
        source, out, Tracing(min_object, min_hole, simplify, whole_objects), frame=frame, class_of_rest=class_of_rest,
        say=partial(click.echo, err=True), **options,
    )  # fmt: skip
    click.echo(f"{out}: {written}")
