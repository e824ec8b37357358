"""Read the tables of `wsiseg measure`, and format numbers for people."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import StoreError
from wsiseg.measure.column import Column, expanded
from wsiseg.measure.profiles import PROFILES

Columns = dict[str, list[str]]

# The table of objects by which a profile is told.
OBJECTS = {"kidney": "glomeruli", "generic": "objects"}


@dataclass(frozen=True, slots=True)
class Measurements:
    """The content of a folder of tables; every field is text, and empty if unknown.

    Attributes:
        profile: of which the tables are
        slides: one row
        objects: one row for each glomerulus, or for each object of any class
        classes: one row for each class; None with the kidney profile
    """

    profile: str
    slides: Columns
    objects: Columns
    classes: Columns | None = None


def read_measurements(folder: Path) -> Measurements:
    """The tables of one slide.

    Raises:
        StoreError: the folder holds no CSV tables of `wsiseg measure`, or they are damaged
    """
    profile = "generic" if (folder / "objects.csv").exists() else "kidney"
    found = Measurements(
        profile, _read(folder / "slides.csv"), _read(folder / f"{OBJECTS[profile]}.csv"),
        _read(folder / "classes.csv") if profile == "generic" else None,
    )  # fmt: skip
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
        raise StoreError(f"{path} is not a table of `wsiseg measure`: measure again.")
    # Version 0.1 said "share" for a fraction.
    return {name.replace("_share", "_fraction"): [row[i] for row in rows] for i, name in enumerate(head)}


def numbers(column: list[str]) -> NDArray[np.float64]:
    """The finite numbers of a column."""
    return np.array([value for value in map(number, column) if value is not None], np.float64)


def number(field: str) -> float | None:
    """A field as a finite number; None for other fields."""
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def declared(profile: str, table: str, classes: Iterable[str] = ()) -> dict[str, Column]:
    """Name -> column of a table, those of a class once for each class."""
    return {column.name: column for column in expanded(PROFILES[profile][table], classes)}


def explained(table: Columns, columns: Mapping[str, Column], row: int = 0) -> list[tuple[str, str, str, str]]:
    """Name, value with its unit, 95 % interval, meaning of each field of a row, in the order of the columns."""
    rows = []
    for column in columns.values():
        if column.name in ("slide", "class") or column.name not in table:
            continue
        value = number(table[column.name][row])
        unit = "" if column.unit == "0 to 1" else f" {column.unit}"
        rows.append(
            (column.name, f"{shown(value)}{unit}" if value is not None else "–", interval(table, column.name, row),
             column.meaning.replace("`", ""))
        )  # fmt: skip
    return rows


def interval(table: Columns, name: str, row: int = 0) -> str:
    """The 95 % interval of a field in words; empty if there is none."""
    ends = [number(table[f"{name}_{end}"][row]) if f"{name}_{end}" in table else None for end in ("low", "high")]
    return "" if None in ends else f"{shown(ends[0])} to {shown(ends[1])}"


def with_interval(table: Columns, name: str, row: int = 0) -> str:
    """A field with its interval in brackets; a dash if it is empty or absent."""
    if name not in table:
        return "–"
    span = interval(table, name, row)
    value = shown(number(table[name][row]))
    return f"{value} ({span})" if span else value


def shown(value: float | None) -> str:
    """A number with four digits; a dash if it is unknown."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
