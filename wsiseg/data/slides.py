"""The slide list of a recipe, and its split into training, validation and test."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.errors import RecipeError, SplitError

SPLITS = ("train", "validation", "test")
COLUMNS = ("slide", "annotations", "patient", "split", "mpp", "roi", "tags", "series")
OLD_NAMES = {"within": "roi"}  # of columns, in lists of version 0.1


@dataclass(frozen=True, slots=True)
class SlideEntry:
    """One slide of a list, for training as for a run.

    Attributes:
        slide: its file
        annotations: file of its annotations; None for a slide that nobody annotated
        patient: whoever it was taken from; in a slide list without this column the slide's own name
        split: "train", "validation" or "test"
        mpp: µm/px of level 0 where the list states it
        roi: file of the regions of interest, inside which alone a recipe with `data.roi` works; None: those of the
            annotations
        tags: what is known of the whole slide, such as "pas" or "sclerosis"; methods see them beside each crop
        series: number of the image to read in a file of several; None: the largest
        fault: why this entry cannot be processed at all; empty for all others
    """

    slide: Path
    annotations: Path | None = None
    patient: str = ""
    split: str = "train"
    mpp: float | None = None
    roi: Path | None = None
    fault: str = ""
    tags: tuple[str, ...] = ()
    series: int | None = None

    @property
    def name(self) -> str:
        """The slide's file name without its suffix: of its tile store, and of its folder in the results of a run."""
        return self.slide.stem

    def absolute(self) -> SlideEntry:
        """The same with absolute paths, for other processes and machines."""
        annotations, roi = (None if p is None else p.absolute() for p in (self.annotations, self.roi))
        return replace(self, slide=self.slide.absolute(), annotations=annotations, roi=roi)


def read_slides(path: Path, root: Path | None = None, *, present: bool = True) -> tuple[SlideEntry, ...]:
    """Read a slide list.

    Args:
        path: CSV with the columns slide and, as needed, annotations, patient, split, mpp, roi, tags
            (separated by semicolons), series
        root: folder that relative paths start from; the list's own by default
        present: check that every slide and every file of annotations is there

    Raises:
        RecipeError: the list is not there, or a line of it makes no sense
        SplitError: a slide or a patient stands on two sides of the split
    """
    root = root or path.parent
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"The slide list {path} cannot be read: {error}.") from error
    if not lines:
        raise RecipeError(f"The slide list {path} is empty: give one slide a line below the column names.")
    lines = [_with_new_names(line, path) for line in lines]
    unknown = {str(column) for column in lines[0]} - set(COLUMNS)
    if "slide" not in lines[0] or unknown:
        raise RecipeError(
            f"The slide list {path} has the columns {', '.join(map(str, lines[0]))}: "
            f"it needs `slide` and may have {', '.join(COLUMNS[1:])}."
        )
    entries = tuple(_entry(line, root, f"{path}, line {i}", present) for i, line in enumerate(lines, 2))
    check_split(entries)
    return entries


def _with_new_names(line: dict[str, str | None], path: Path) -> dict[str, str | None]:
    """A line with today's column names."""
    for old, new in OLD_NAMES.items():
        if old in line and new in line:
            raise RecipeError(
                f"The slide list {path} has the columns {new} and {old}, which mean the same: keep {new}."
            )
    return {OLD_NAMES.get(column, column): value for column, value in line.items()}


def _entry(line: dict[str, str | None], root: Path, where: str, present: bool) -> SlideEntry:
    text = {column: (line.get(column) or "").strip() for column in COLUMNS}
    if not text["slide"]:
        raise RecipeError(f"{where}: the slide is missing.")
    slide = root / text["slide"]
    if present and not slide.exists():
        raise RecipeError(f"{where}: there is no slide at {slide}.")
    annotations, roi = (root / text[c] if text[c] else None for c in ("annotations", "roi"))
    for file in (annotations, roi):
        if present and file is not None and not file.exists():
            raise RecipeError(f"{where}: there are no annotations at {file}.")
    split = text["split"] or "train"
    if split not in SPLITS:
        raise RecipeError(f"{where}: the split {split!r} is not one of {', '.join(SPLITS)}.")
    try:
        mpp = float(text["mpp"]) if text["mpp"] else None
    except ValueError:
        raise RecipeError(f"{where}: {text['mpp']!r} is not a number of µm/px.") from None
    tags = tuple(tag.strip() for tag in text["tags"].split(";") if tag.strip())
    if text["series"] and not (text["series"].isascii() and text["series"].isdigit() and len(text["series"]) < 10):
        raise RecipeError(f"{where}: {text['series']!r} is not the number of an image in the slide's file.")
    series = int(text["series"]) if text["series"] else None
    return SlideEntry(slide, annotations, text["patient"] or slide.stem, split, mpp, roi, tags=tags, series=series)


def write_slides(path: Path, entries: Sequence[SlideEntry]) -> None:
    """Write a slide list that `read_slides` reads as the same entries; paths start from its folder.

    Args:
        path: the CSV; its folder is made
        entries: the slides

    Raises:
        OutputError: the place cannot be written
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for entry in entries:
        slide, annotations, roi = (
            "" if p is None else os.path.relpath(p, path.parent) for p in (entry.slide, entry.annotations, entry.roi)
        )
        tags, series = ";".join(entry.tags), "" if entry.series is None else entry.series
        table.writerow((slide, annotations, entry.patient, entry.split, entry.mpp or "", roi, tags, series))
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as sink:
        sink.write(text.getvalue().encode())


def check_split(entries: Sequence[SlideEntry]) -> None:
    """SplitError if a slide is listed twice or a patient stands on two sides of the split."""
    seen: set[Path] = set()
    for entry in entries:
        path = entry.slide.resolve()
        if path in seen:
            raise SplitError(f"The slide {entry.slide} is listed twice: keep one line of it.")
        seen.add(path)
    side: dict[str, str] = {}
    for entry in entries:
        if side.setdefault(entry.patient, entry.split) != entry.split:
            raise SplitError(
                f"The patient {entry.patient!r} is in {side[entry.patient]} and in {entry.split}: "
                "put all slides of a patient into one split, or the results look too good."
            )
