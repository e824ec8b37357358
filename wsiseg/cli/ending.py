"""The hints at the end of a command: what you may want to do next."""

from __future__ import annotations

import shlex

import click

# Command -> the commands that may follow, each with its purpose. A word in braces is a value of the command that has
# ended; a hint without its values is left out. The user replaces words in capitals.
NEXT: dict[str, tuple[tuple[str, str], ...]] = {
    "tile": (("wsiseg train RECIPE.toml", "train on the slides of a recipe"),),
    "train": (
        ("wsiseg predict SLIDE --model {model}", "predict the objects of a slide"),
        ("wsiseg run {recipe} --slides 'SLIDES/*.svs' --model {model} --out RESULTS", "predict many slides"),
        ("wsiseg report {run} --out training.html", "see how the training went"),
    ),
    "audit": (
        ("wsiseg view {slide} {suggestions} --reference {annotations}", "look at the slide with the most suggestions"),
    ),
    "consensus": (("wsiseg view {slide} {out} --reference {first}", "look at the consensus beside the first file"),),
    "next": (("wsiseg view {slide} {regions}", "look at the regions of the first slide"),),
    "predict": (
        ("wsiseg view {slide} {outlines}", "look at the objects and review them in the browser"),
        ("wsiseg measure {slide} {outlines}", "measure the objects"),
        ("wsiseg report {slide} {outlines}", "make a page to read and send"),
    ),
    "measure": (("wsiseg report {slide} {outlines} --measurements {out}", "make a page to read and send"),),
    "run": (
        ("wsiseg report {results} --out report.html", "make one page about all slides"),
        ("wsiseg view SLIDE {results}/slides/NAME/{predicted}", "look at one slide in the browser"),
    ),
    "qc": (
        ("wsiseg view {slide} {artefacts}", "see the artefacts"),
        ("wsiseg predict {slide} --exclude-artefacts", "predict without blur, pen and bubbles"),
        ("wsiseg tile {slide} --exclude-artefacts", "tile without them"),
    ),
    "synth": (("wsiseg view {slide} {truth}", "look at the slide in the browser"),),
    "demo": (
        ("wsiseg view {slide} {outlines} --reference {truth}", "look at the objects in the browser"),
        ("wsiseg report {slide} {outlines} --reference {truth}", "make a page to read"),
    ),
}


def hints(
    command: str, *, slide_mpp: float | None = None, series: int | None = None, **values: object
) -> list[tuple[str, str]]:
    """The commands that may follow a command, as (command line, purpose).

    Args:
        command: the one that has ended
        slide_mpp: the resolution that the user gave for the slide, which the next command needs as well
        series: the image of the slide's file that the user chose, the same
        values: for the words in braces; a tuple for several words, None for a value that does not exist
    """
    many = {
        name: value if isinstance(value, tuple) else (value,) for name, value in values.items() if value is not None
    }
    words = {name: shlex.join(map(str, value)) for name, value in many.items()}
    found = []
    for line, purpose in NEXT[command]:
        try:
            filled = line.format_map(words)
        except KeyError:
            continue
        again = f" --slide-mpp {slide_mpp:g}" if slide_mpp is not None else ""
        again += f" --series {series}" if series is not None else ""
        found.append((filled + again if "{slide}" in line else filled, purpose))
    return found


def say_next(
    command: str, *, quiet: bool = False, slide_mpp: float | None = None, series: int | None = None, **values: object
) -> None:
    """Print the hints of a command on the error stream; see `hints`."""
    lines = [] if quiet else hints(command, slide_mpp=slide_mpp, series=series, **values)
    for line, purpose in lines:
        click.echo(f"Next, {purpose}:\n  {line}", err=True)
