"""The command `view`."""

from __future__ import annotations

from pathlib import Path

import click

from wsiseg.cli import screen
from wsiseg.cli.renamed import Renamed

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("slide", type=PATH)
@click.argument("layers", type=PATH, nargs=-1, metavar="[OUTLINES.geojson | LABELS.zarr]...")
@click.option(
    "--reference", cls=Renamed, was="--truth", type=PATH, metavar="FILE",
    help="The reference: annotations to compare the first file of objects with.",
)  # fmt: skip
@screen.names_option("--classes", help="More classes to choose from during the review.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, metavar="N", help="Port to listen on; 0 takes any free one."
)
@click.option(
    "--host", default="127.0.0.1", metavar="ADDRESS",
    help="Address to listen on. With another address, other machines can connect; they need the token in the printed "
    "address.",
)  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@screen.class_option
@screen.max_input_option
@screen.slide_mpp_option
@screen.series_option
def view(
    slide: Path, layers: tuple[Path, ...], reference: Path | None, classes: tuple[str, ...], port: int, host: str, no_browser: bool,
    class_of_rest: str | None, slide_mpp: float | None, series: int | None,
) -> None:  # fmt: skip
    """Show SLIDE in the browser, with predictions over it, and review them."""
    from wsiseg.slides.open import open_slide
    from wsiseg.viewer.scene import open_scene
    from wsiseg.viewer.serve import listen, serve

    def say(line: str) -> None:
        click.echo(line, err=True)

    say(f"{slide.name}: starting …")
    with listen(host, port) as listener, open_slide(slide, mpp=slide_mpp, series=series) as opened:
        screen.say_cautions(opened)
        scene = open_scene(opened, layers, reference=reference, classes=classes, class_of_rest=class_of_rest, say=say)
        serve(scene, listener, host, browse=not no_browser, say=say)
