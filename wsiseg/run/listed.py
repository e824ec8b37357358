"""The slides of a run: a pattern of file names, a slide list, or a QuPath project."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from wsiseg.data.qupath import ProjectSlide, read_project
from wsiseg.data.slides import SlideEntry, read_slides
from wsiseg.errors import RecipeError


def list_slides(slides: str) -> tuple[SlideEntry, ...]:
    """The slides of a run, in the order of their names' first appearance.

    Args:
        slides: a pattern such as "slides/*.svs", a .csv (`wsiseg.data.slides`), or a QuPath project (.qpproj)

    Raises:
        RecipeError: there is no such list, it is not a list, or two slides have the same name
        SplitError: a slide is listed twice
    """
    suffix = Path(slides).suffix.lower()
    if suffix == ".csv":
        entries = [entry.absolute() for entry in read_slides(Path(slides), present=False)]
    elif suffix == ".qpproj":
        entries = _from_project(Path(slides))
    else:
        entries = [SlideEntry(Path(path).absolute()) for path in sorted(glob.glob(slides, recursive=True))]
        if not entries:
            raise RecipeError(f"No slide matches {slides!r}: put the pattern in quotes, as in --slides 'slides/*.svs'.")
    _check_names(entries)
    return tuple(entries)


def _from_project(path: Path) -> list[SlideEntry]:
    entries = [_of_image(image) for image in read_project(path)]
    if not entries:
        raise RecipeError(f"The QuPath project {path} has no images: add some in QuPath, or give a CSV.")
    return list(dict.fromkeys(entries))  # several images of one file are one slide here


def _of_image(image: ProjectSlide) -> SlideEntry:
    fault = ""
    if image.changed or not image.uri:
        fault = f"In QuPath it is {image.changed or 'uri'!r} and no plain file: list the file itself."
    elif image.slide is None:
        fault = f"It is at {image.uri}, and slides are read from files alone: list a file."
    if fault or image.slide is None:
        return SlideEntry(Path(image.name), fault=fault)
    return SlideEntry(image.slide, mpp=image.mpp)


def _check_names(entries: Iterable[SlideEntry]) -> None:
    seen: dict[str, Path] = {}
    for entry in entries:
        if seen.setdefault(entry.name, entry.slide) != entry.slide:
            raise RecipeError(
                f"{seen[entry.name]} and {entry.slide} would both go to the folder {entry.name!r}: "
                "rename one, or run them with different --out."
            )
