"""How a command ends: after what it wrote, what is useful to do next. All these hints stand here."""

from __future__ import annotations

import shlex

import click

# Command -> the commands that may follow, and what for. A word in braces is a value of the command that has ended; a
# hint whose values it does not give is left out. A word in capitals is for the person to fill in.
NEXT: dict[str, tuple[tuple[str, str], ...]] = {
    "tile": (("wsiseg train RECIPE.toml", "learn from the slides that a recipe lists"),),
    "train": (
        ("wsiseg predict --model {model} --slide SLIDE", "outline the objects of a slide"),
        ("wsiseg run {recipe} --slides 'SLIDES/*.svs' --model {model} --out RESULTS", "of many slides"),
        ("wsiseg report {run} --out training.html", "how the training went"),
    ),
    "predict": (
        ("wsiseg view {slide} {outlines}", "look at them and review them in the browser"),
        ("wsiseg measure {slide} {outlines}", "tables of measurements"),
        ("wsiseg report {slide} {outlines}", "a page to read and send"),
    ),
    "measure": (("wsiseg report {slide} {outlines} --measurements {out}", "a page to read and send"),),
    "run": (
        ("wsiseg report {results} --out report.html", "one page about all slides"),
        ("wsiseg view SLIDE {results}/slides/NAME/{predicted}", "look at one in the browser"),
    ),
    "qc": (
        ("wsiseg view {slide} {artefacts}", "see where it is"),
        ("wsiseg predict --slide {slide} --exclude-artefacts", "predict without blur, pen and bubbles"),
        ("wsiseg tile {slide} --exclude-artefacts", "tile without them"),
    ),
    "synth": (("wsiseg view {slide} {truth}", "look at it in the browser"),),
    "demo": (
        ("wsiseg view {slide} {outlines} --reference {truth}", "look at them in the browser"),
        ("wsiseg report {slide} {outlines} --reference {truth}", "a page to read"),
    ),
}


def hints(command: str, *, slide_mpp: float | None = None, **values: object) -> list[tuple[str, str]]:
    """(command line, what for) of what is useful after a command.

    Args:
        command: which has ended
        slide_mpp: what it was told of the slide's resolution, which has to be said again
        values: for the words in braces, a tuple for several words; None stands for one that there is not
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
        again = f" --slide-mpp {slide_mpp:g}" if slide_mpp is not None and "{slide}" in line else ""
        found.append((filled + again, purpose))
    return found


def say_next(command: str, *, quiet: bool = False, slide_mpp: float | None = None, **values: object) -> None:
    """Print the hints of a command on the error stream; see `hints`."""
    lines = [] if quiet else hints(command, slide_mpp=slide_mpp, **values)
    for line, purpose in lines:
        click.echo(f"Next, {purpose}:\n  {line}", err=True)
