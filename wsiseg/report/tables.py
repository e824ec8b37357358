"""The tables of `wsiseg measure`, read again, and figures for people."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import StoreError
from wsiseg.measure.columns import SLIDES

Columns = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a folder of tables holds; every field is text, and empty where nothing is known.

    Attributes:
        slides: one row
        glomeruli: one row each
    """

    slides: Columns
    glomeruli: Columns


def read_measurements(folder: Path) -> Measurements:
    """The tables of one slide.

    Raises:
        StoreError: the folder holds no CSV tables of `wsiseg measure`, or they are damaged
    """
    found = Measurements(_read(folder / "slides.csv"), _read(folder / "glomeruli.csv"))
    if len(found.slides["slide"]) != 1:
        raise StoreError(f"{folder / 'slides.csv'} is not of one slide: name the folder that `wsiseg measure` made.")
    return found


def _read(path: Path) -> Columns:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path} cannot be read: name a folder with CSV tables of `wsiseg measure`.") from error
    if "slide" not in head or any(len(row) != len(head) for row in rows):
        raise StoreError(f"{path} is no table of `wsiseg measure`: make it anew.")
    return {name: [row[i] for row in rows] for i, name in enumerate(head)}


def numbers(column: list[str]) -> NDArray[np.float64]:
    """A column as finite numbers; what is empty or no number is left out."""
    return np.array([value for value in map(number, column) if value is not None], np.float64)


def number(field: str) -> float | None:
    """A field as a finite number, None for what is none."""
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def key_figures(slides: Columns) -> list[tuple[str, str, str, str]]:
    """Figure, value with its unit, 95 % interval, meaning: for a table, in the order of the columns."""
    rows = []
    for column in SLIDES:
        if column.name == "slide" or column.name not in slides:
            continue
        value = number(slides[column.name][0])
        ends = [number(slides.get(f"{column.name}_{end}", [""])[0]) for end in ("low", "high")]
        span = "" if None in ends else f"{shown(ends[0])} to {shown(ends[1])}"
        unit = "" if column.unit == "0 to 1" else f" {column.unit}"
        rows.append(
            (column.name, f"{shown(value)}{unit}" if value is not None else "–", span, column.meaning.replace("`", ""))
        )
    return rows


def shown(value: float | None) -> str:
    """Four digits, and a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
