"""The command `export`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from wsiseg.cli import screen

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("source", type=PATH)
@click.option(
    "--out", type=PATH, required=True, metavar="FILE",
    help="The file to write: .geojson, .geojson.gz, .xml (ImageScope), .csv, .parquet or .coco.json.",
)  # fmt: skip
@click.option(
    "--min-object", type=float, metavar="µM²",
    help="Leave out smaller objects of a label map (default: as its model says).",
)  # fmt: skip
@click.option(
    "--min-hole", type=float, metavar="µM²", help="Fill smaller holes of a label map (default: as its model says)."
)
@click.option(
    "--simplify", type=float, metavar="µM", help="Simplify the polygons of a label map; shared borders stay shared."
)
@click.option(
    "--whole-objects/--parts", default=None,
    help="Join touching pixels of a label map into one object of its most frequent class, or one object for each class "
    "(default: as its model says).",
)  # fmt: skip
@click.option(
    "--kind", type=click.Choice(["auto", "annotation", "detection"]), metavar="KIND",
    help="What the objects become in QuPath: annotation, detection, or auto (default: as they were; otherwise "
    "detections if there are many).",
)  # fmt: skip
@click.option("--legacy", is_flag=True, help="Write GeoJSON that QuPath 0.3 can read, too.")
@click.option(
    "--slide", type=PATH, help="The slide; tables and COCO files need it if the annotations were drawn by hand."
)
@screen.slide_mpp_option
@screen.series_option
@screen.class_option
@screen.max_input_option
def export(
    source: Path, out: Path, min_object: float | None, min_hole: float | None, simplify: float | None,
    whole_objects: bool | None, kind: str | None, legacy: bool, slide: Path | None, slide_mpp: float | None, series: int | None,
    class_of_rest: str | None,
) -> None:  # fmt: skip
    """Convert SOURCE, a label map or a file of objects, into another format."""
    from wsiseg.export import export as convert
    from wsiseg.slides.open import open_slide

    frame = None
    if slide is not None:
        with open_slide(slide, mpp=slide_mpp, series=series) as opened:
            screen.say_cautions(opened)
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
