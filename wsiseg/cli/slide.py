"""The commands `info`, `tissue` and `tile`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsiseg.cli import screen
from wsiseg.cli.ending import say_next
from wsiseg.cli.renamed import Renamed

if TYPE_CHECKING:
    from wsiseg.annotations.polygon import LabelledPolygon
    from wsiseg.classes import ClassMap
    from wsiseg.grid import Grid
    from wsiseg.selection.select import Selected
    from wsiseg.slides.slide import Slide

PATH = click.Path(path_type=Path)
SAME_MPP = 0.02  # by which fraction two statements of µm/px may differ


@click.command()
@click.argument("slide", type=PATH)
@screen.json_option
@click.option("--thumbnail", type=PATH, metavar="FILE", help="Also write a picture of the whole slide (PNG or JPEG).")
@click.option(
    "--thumbnail-size", type=click.IntRange(16, 8192), metavar="PX", default=1024, help="Longer side of the picture."
)
@screen.slide_mpp_option
@screen.series_option
def info(
    slide: Path, as_json: bool, thumbnail: Path | None, thumbnail_size: int, slide_mpp: float | None,
    series: int | None,
) -> None:  # fmt: skip
    """Print size, resolution, levels, vendor and hash of SLIDE."""
    from wsiseg.slides.open import open_slide

    with open_slide(slide, mpp=slide_mpp, series=series) as opened:
        facts = _facts(opened)
        if thumbnail is not None:
            from wsiseg.pictures import save_picture

            save_picture(thumbnail, opened.thumbnail(thumbnail_size)[0])
    if as_json:
        screen.echo_json(facts)
    else:
        for name, value in facts.items():
            click.echo(f"{name:<14}{_plain(value)}")
    if thumbnail is not None and not as_json:
        click.echo(f"{'thumbnail':<14}{thumbnail}")


def _facts(slide: Slide) -> dict[str, Any]:
    frame = slide.frame
    return {
        "slide": slide.name,
        "width": frame.width,
        "height": frame.height,
        "mpp": [frame.mpp, frame.mpp_y],
        "levels": [list(size) for size in slide.levels],
        "downsamples": [scale[0] for scale in slide.downsamples],
        "bounds": asdict(slide.bounds),
        "series": slide.series,
        "vendor": slide.vendor,
        "backend": slide.backend_name,
        "bytes": slide.identity["size"],
        "hash": slide.identity["hash"],
        "notes": list(slide.notes),
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value) if value else "none"
    if value is None:
        return "not stated"
    return f"{value:g}" if isinstance(value, float) else str(value)


@click.command()
@click.argument("slide", type=PATH)
@click.option(
    "--out", type=PATH, required=True, metavar="FILE", help="The tissue: a mask (.png) or polygons (.geojson)."
)
@click.option("--resolution", type=float, default=8.0, metavar="µM/PX", help="Resolution of the mask.")
@click.option("--min-tissue", type=float, metavar="µM²", help="Leave out smaller pieces of tissue.")
@click.option("--min-hole", type=float, metavar="µM²", help="Fill smaller holes.")
@screen.slide_mpp_option
@screen.series_option
@screen.full_decoding_option
def tissue(
    slide: Path, out: Path, resolution: float, min_tissue: float | None, min_hole: float | None,
    slide_mpp: float | None, series: int | None, full_decoding: bool,
) -> None:  # fmt: skip
    """Find the tissue of SLIDE and write it as a mask or as polygons."""
    import numpy as np

    from wsiseg.annotations.formats import write_annotations
    from wsiseg.annotations.trace import trace
    from wsiseg.classes import ClassMap
    from wsiseg.errors import OutputError
    from wsiseg.pictures import save_picture
    from wsiseg.selection.tissue import tissue_of
    from wsiseg.slides.open import open_slide

    sizes = {"min_tissue_um2": min_tissue, "max_hole_um2": min_hole}
    with open_slide(slide, mpp=slide_mpp, scaled_decoding=not full_decoding, series=series) as opened:
        screen.say_cautions(opened)
        found = tissue_of(opened, mpp=resolution, **{k: v for k, v in sizes.items() if v is not None})
        level0, identity = opened.frame, opened.identity
    if out.suffix == ".png":
        save_picture(out, found.mask.astype(np.uint8) * 255)
    elif out.name.endswith((".geojson", ".geojson.gz")):
        classes = ClassMap(("Background", "Tissue"))
        regions = trace([found.mask.astype(np.uint8)], classes, found.frame, level0)
        write_annotations(out, regions, classes=classes, properties={"slide": identity})
    else:
        raise OutputError(f"{out} has an unknown ending: use .png, .geojson or .geojson.gz.")
    click.echo(f"{out}: {found.area_um2 / 1e6:.2f} mm² of tissue, {found.mask.mean():.1%} of the slide")
    if not found.mask.any():
        click.echo(
            f"{slide.name}: no tissue was found. A picture that is all tissue, of one pale colour, looks like glass, and "
            "grey tissue has no colour: take the whole slide with --no-tissue in `tile` and `predict`.",
            err=True,
        )


@click.command()
@click.argument("slide", type=PATH)
@click.option(
    "--out", type=PATH, metavar="STORE.zarr",
    help="The store to write (default: SLIDE-STEM.zarr in the current folder).",
)  # fmt: skip
@click.option(
    "--tile-mpp", type=click.FloatRange(0, min_open=True), default=1.0, metavar="µM/PX", help="Resolution of the tiles."
)
@click.option("--size", type=int, default=512, metavar="PX", help="Width and height of a tile.")
@click.option("--overlap", type=int, default=0, metavar="PX", help="Overlap of neighbouring tiles.")
@click.option("--annotations", type=PATH, metavar="FILE", help="Annotations to store as labels.")
@screen.names_option(
    "--classes", help="Classes to store; later ones cover earlier ones (default: those of the file, from A to Z)."
)
@click.option(
    "--roi", cls=Renamed, was="--within", type=PATH, metavar="FILE",
    help="Store only tiles that touch these annotations.",
)  # fmt: skip
@click.option("--no-tissue", is_flag=True, help="Store every tile, not only those with tissue.")
@screen.exclude_artefacts_option
@click.option(
    "--codec", type=click.Choice(["zstd", "jpeg", "slide"]), default="zstd", metavar="CODEC",
    help="How tiles are stored: zstd keeps every pixel exactly; jpeg needs a tenth of the space; slide copies the "
    "slide's own JPEG data, if tiles, level and overlap allow it.",
)  # fmt: skip
@click.option(
    "--store", type=click.Choice(["copy", "reference"]), default="copy", metavar="KIND",
    help="Store a copy of the pixels, or a reference to the slide.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", default=2, help="Threads that read the slide.")
@screen.class_option
@screen.max_input_option
@click.option(
    "--max-ram", type=screen.MEMORY, metavar="SIZE", callback=screen.within_container,
    help="Use at most this much memory, for example 2GB. The command refuses if that is not enough.",
)  # fmt: skip
@click.option(
    "--mpp", "slide_mpp", type=float, metavar="µM/PX",
    help="Resolution of the slide's level 0, if the file does not state it.",
)  # fmt: skip
@click.option("--slide-mpp", "corrected_mpp", type=float, hidden=True)  # overrules what the file states
@screen.series_option
@screen.full_decoding_option
@screen.overwrite_option
@screen.log_option
@screen.quiet_option
def tile(
    slide: Path, out: Path | None, tile_mpp: float, size: int, overlap: int, annotations: Path | None,
    classes: tuple[str, ...], roi: Path | None, no_tissue: bool, exclude_artefacts: bool, codec: str, store: str,
    workers: int, class_of_rest: str | None, max_ram: int | None, slide_mpp: float | None,
    corrected_mpp: float | None, series: int | None, full_decoding: bool, overwrite: bool, log_json: Path | None,
    quiet: bool,
) -> None:  # fmt: skip
    """Store the tissue of SLIDE as tiles in Zarr, with labels if there are annotations."""
    from wsiseg.annotations.formats import file_hash
    from wsiseg.annotations.intake import take_in
    from wsiseg.classes import ClassMap
    from wsiseg.grid import Grid
    from wsiseg.memory import TILING_BASE, estimate_tiling, require
    from wsiseg.selection.select import Roi, Selection
    from wsiseg.selection.tiling import tile_slide
    from wsiseg.slides.open import open_slide
    from wsiseg.stores.tiles import describe

    out = out or Path(f"{slide.stem}.zarr")
    sources: dict[str, Any] = {}
    regions: tuple[LabelledPolygon, ...] = ()
    class_map = None
    opening = open_slide(slide, mpp=corrected_mpp or slide_mpp, scaled_decoding=not full_decoding, series=series)
    with opening as opened, screen.progress_bar("Tiling", "tiles", quiet, log_json) as report:
        if slide_mpp is not None:
            _check_meaning_of_mpp(opened, slide_mpp)
        screen.say_cautions(opened)
        if annotations is not None:
            if classes:
                class_map = ClassMap(("Background", *(name for name in classes if name != "Background")))
            intake = take_in(
                annotations, opened, need_class=True, keep_unclassed=False, class_of_rest=class_of_rest,
                classes=class_map, know_them="name all classes with --classes",
            )  # fmt: skip
            regions = intake.polygons
            class_map = class_map or replace(intake.annotations, polygons=regions).class_map(stated=False)
            sources |= {"annotations": file_hash(annotations), "annotated": intake.summary.to_json()}
            click.echo(str(intake.summary), err=True)
        grid = Grid(opened.frame.at(tile_mpp), size, overlap)
        kept = codec if store == "copy" else store
        if max_ram is not None:
            needed = estimate_tiling(opened, grid, pixels=kept, labelled=class_map is not None, workers=workers)
            require(needed, max_ram, TILING_BASE)
        chosen = Selection(not no_tissue, exclude_artefacts, None if roi is None else Roi.read(roi), regions)
        selected = chosen.apply(opened, grid)
        screen.say_plan(opened, _plan_of(selected, grid, out, kept, class_map), quiet)
        drawn = [*regions, *selected.unstated(class_map, beyond_roi=False)] if class_map is not None else []
        tile_slide(
            opened, grid, selected.tiles, out, classes=class_map, regions=drawn, sources=sources | selected.identity,
            pixels=kept, workers=workers, overwrite=overwrite, report=report,
        )  # fmt: skip
    click.echo(describe(out))
    say_next("tile", quiet=quiet)


def _plan_of(selected: Selected, grid: Grid, out: Path, pixels: str, classes: ClassMap | None) -> str:
    """What will be stored where; how large the pixels are before they are compressed."""
    size = 3 * grid.size**2 * len(selected.tiles) / 1e6
    labels = "" if classes is None else f" with labels of {', '.join(classes.names[1:])}"
    how = {"zstd": f"compressed from {size:,.0f} MB", "reference": "as references to the slide"}.get(pixels, pixels)
    return (
        f"{len(selected.tiles)} of {len(grid)} tiles of {grid.size} px at {grid.frame.mpp:g} µm/px{labels} go to {out}, "
        f"{how}"
    )


def _check_meaning_of_mpp(slide: Slide, mpp: float) -> None:
    """SlideError where --mpp may be meant for the tiles, as it was in version 0.1: the slide states another one."""
    from wsiseg.errors import SlideError

    stated = slide.stated_mpp
    if stated is not None and any(abs(mpp / own - 1) > SAME_MPP for own in stated):
        raise SlideError(
            f"{slide.name} states {stated[0]:g} µm/px, and --mpp {mpp:g} is about the slide, not about the tiles: "
            f"choose the resolution of the tiles with --tile-mpp {mpp:g}, or correct that of the slide with "
            f"--slide-mpp {mpp:g}."
        )
