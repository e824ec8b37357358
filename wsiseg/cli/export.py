"""The command `export`."""

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
@click.option(
    "--min-object", type=float, metavar="µM²",
    help="Leave smaller objects of a label map out, instead of those that its model leaves out.",
)  # fmt: skip
@click.option(
    "--min-hole", type=float, metavar="µM²",
    help="Fill smaller holes of a label map, instead of those that its model fills.",
)  # fmt: skip
@click.option(
    "--simplify", type=float, metavar="µM",
    help="Simplify the outlines of a label map; borders that objects share stay shared.",
)  # fmt: skip
@click.option(
    "--whole-objects/--parts", default=None,
    help="Touching pixels of a label map are one object, of the class that most of them have, or one for each class; "
    "as its model does it when left out.",
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
    source: Path, out: Path, min_object: float | None, min_hole: float | None, simplify: float | None,
    whole_objects: bool | None, kind: str | None, legacy: bool, slide: Path | None, slide_mpp: float | None,
    class_of_rest: str | None,
) -> None:  # fmt: skip
    """Write the outlines of SOURCE, a label map or an outline file, in another format."""
    from wsiseg.export import export as convert
    from wsiseg.slides.open import open_slide

    frame = None
    if slide is not None:
        with open_slide(slide, mpp=slide_mpp) as opened:
            frame = opened.frame
    given = (min_object, min_hole, simplify, whole_objects)
    fields = ("min_object_um2", "min_hole_um2", "simplify_um", "whole_objects")
    changed = {field: value for field, value in zip(fields, given, strict=True) if value is not None}
    options = {name: value for name, value in (("kind", kind), ("legacy", legacy)) if value}
    written = convert(
        source, out, postprocessing=changed, frame=frame, class_of_rest=class_of_rest,
        say=partial(click.echo, err=True), **options,
    )  # fmt: skip
    click.echo(f"{out}: {written}")
