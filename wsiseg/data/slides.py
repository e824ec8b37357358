"""The list of slides that a recipe names, and its split into training, validation and test."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.errors import RecipeError, SplitError

SPLITS = ("train", "validation", "test")
COLUMNS = ("slide", "annotations", "patient", "split", "mpp", "within")


@dataclass(frozen=True, slots=True)
class SlideRow:
    """One line of a slide list.

    Attributes:
        slide: the slide's file
        annotations: its outlines; None for a slide that nobody outlined
        patient: whoever it was taken from; the slide's own name where the list has no such column
        split: "train", "validation" or "test"
        mpp: µm/px where the slide itself does not say it
        within: outlines inside which alone a recipe with `data.within` learns; None: those of the annotations
    """

    slide: Path
    annotations: Path | None
    patient: str
    split: str = "train"
    mpp: float | None = None
    within: Path | None = None

    @property
    def name(self) -> str:
        """The slide's file name without its ending."""
        return self.slide.stem


def read_slides(path: Path, root: Path | None = None, *, present: bool = True) -> tuple[SlideRow, ...]:
    """Read a slide list.

    Args:
        path: CSV with the columns slide and, as needed, annotations, patient, split, mpp, within
        root: folder that relative paths start from; the list's own by default
        present: every slide and every outline file must be there; otherwise nobody looks

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
    unknown = {str(column) for column in lines[0]} - set(COLUMNS)
    if "slide" not in lines[0] or unknown:
        raise RecipeError(
            f"The slide list {path} has the columns {', '.join(map(str, lines[0]))}: "
            f"it needs `slide` and may have {', '.join(COLUMNS[1:])}."
        )
    rows = tuple(_row(line, root, f"{path}, line {i}", present) for i, line in enumerate(lines, 2))
    check_split(rows)
    return rows


def _row(line: dict[str, str | None], root: Path, where: str, present: bool) -> SlideRow:
    text = {column: (line.get(column) or "").strip() for column in COLUMNS}
    if not text["slide"]:
        raise RecipeError(f"{where}: the slide is missing.")
    slide = root / text["slide"]
    if present and not slide.exists():
        raise RecipeError(f"{where}: there is no slide at {slide}.")
    annotations, within = (root / text[c] if text[c] else None for c in ("annotations", "within"))
    for outlines in (annotations, within):
        if present and outlines is not None and not outlines.exists():
            raise RecipeError(f"{where}: there are no outlines at {outlines}.")
    split = text["split"] or "train"
    if split not in SPLITS:
        raise RecipeError(f"{where}: the split {split!r} is not one of {', '.join(SPLITS)}.")
    try:
        mpp = float(text["mpp"]) if text["mpp"] else None
    except ValueError:
        raise RecipeError(f"{where}: {text['mpp']!r} is no number of µm/px.") from None
    return SlideRow(slide, annotations, text["patient"] or slide.stem, split, mpp, within)


def write_slides(path: Path, rows: Sequence[SlideRow]) -> None:
    """Write a slide list that `read_slides` reads as the same rows; paths start from its folder.

    Args:
        path: the CSV; its folder is made
        rows: the slides

    Raises:
        OutputError: the place cannot be written
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        slide, annotations, within = (
            "" if p is None else os.path.relpath(p, path.parent) for p in (row.slide, row.annotations, row.within)
        )
        table.writerow((slide, annotations, row.patient, row.split, row.mpp or "", within))
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as sink:
        sink.write(text.getvalue().encode())


def check_split(rows: Sequence[SlideRow]) -> None:
    """SplitError if a slide is listed twice or a patient stands on two sides of the split."""
    seen: set[Path] = set()
    for row in rows:
        path = row.slide.resolve()
        if path in seen:
            raise SplitError(f"The slide {row.slide} is listed twice: keep one line of it.")
        seen.add(path)
    side: dict[str, str] = {}
    for row in rows:
        if side.setdefault(row.patient, row.split) != row.split:
            raise SplitError(
                f"The patient {row.patient!r} is in {side[row.patient]} and in {row.split}: results would flatter; "
                "put all slides of a patient on one side."
            )
