"""A measurement is one declared `Column`; everything else about it is derived from the declaration.

The declaration says what the measurement is called, its unit, what it means, how it is computed, whether evaluation
compares it and whether the slide's table has its mean. The header of CSV and Parquet, the page docs/measurements.md,
the names in QuPath, the comparison of two measurements and the means all come from it. To add a measurement, add one
`Column` to the table of its profile (`wsiseg.measure.generic` or `wsiseg.measure.kidney`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Column name -> one value a row: text (None where there is none), integers, booleans, or floats (NaN where none).
Table: TypeAlias = dict[str, NDArray[Any]]

CLASS = "CLASS"  # in a name or meaning: stands for each class in turn


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: in CSV and Parquet; with `CLASS` in it, there is one such column for each class
        unit: as text; empty for text, counts and pure numbers
        meaning: one sentence
        compute: how it is computed. In a table of objects: `Objects` -> (n,) values. In a summary: `Summary` -> one
            value; with `interval`: `Sample` -> (k,) values, one for each resampling. A column with `CLASS` gets the
            class as its second argument. None as a result means that the column is absent.
        absent: when the whole column is absent; empty if it never is
        empty: when a single field is empty
        source: of the definition, see the end of docs/measurements.md; empty where the meaning says it all
        shown: its name among the measurements of an object in QuPath; empty for what is not shown there
        compared: whether `wsiseg evaluate --measurements` compares it with the reference
        averaged: in a table of objects, whether the summary has its mean, as `mean_NAME`
        interval: in a summary, whether NAME_low and NAME_high follow, a 95 % interval
    """

    name: str
    unit: str
    meaning: str
    compute: Callable[..., Any]
    absent: str = ""
    empty: str = ""
    source: str = ""
    shown: str = ""
    compared: bool = False
    averaged: bool = False
    interval: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the column and, if it has an interval, of both ends."""
        return (self.name, f"{self.name}_low", f"{self.name}_high") if self.interval else (self.name,)

    def of_class(self, label: str) -> Column:
        """This column for one class."""
        return replace(
            self, name=self.name.replace(CLASS, label), shown=self.shown.replace(CLASS, label),
            meaning=self.meaning.replace(CLASS, label), compute=lambda rows: self.compute(rows, label),
        )  # fmt: skip


def expanded(columns: Iterable[Column], classes: Iterable[str]) -> tuple[Column, ...]:
    """The columns, those with `CLASS` in their name once for each class."""
    labels = tuple(classes)
    return tuple(one for c in columns for one in ([c.of_class(label) for label in labels] if CLASS in c.name else [c]))


def means_of(columns: Iterable[Column], over: str, empty: str) -> tuple[Column, ...]:
    """The summary's columns `mean_NAME` for all columns of a table of objects that are averaged.

    Args:
        columns: of the table of objects
        over: the objects that the mean is over, in words
        empty: when there is no mean, in words
    """
    return tuple(
        Column(
            f"mean_{column.name}", column.unit, f"Mean of `{column.name}` over {over}.", partial(_mean, column.name),
            absent=column.absent, empty=empty, source=column.source, compared=column.compared, interval=True,
        )
        for column in columns
        if column.averaged
    )  # fmt: skip


def _mean(name: str, sample: Any, label: str | None = None) -> Any:
    values = sample.values(name if label is None else name.replace(CLASS, label))
    return None if values is None else sample.mean(values)


def tabulated(columns: Iterable[Column], rows: Any) -> Table:
    """The table of some columns; those that compute to None are left out.

    Args:
        columns: of a table of objects
        rows: an `Objects`, which computes each column once
    """
    found: Table = {}
    for column in columns:
        values = rows.values(column.name)
        assert values is not None or column.absent, f"{column.name} has no values, and does not say when"
        if values is not None:
            found[column.name] = values
    return found


def text(values: Iterable[str | None]) -> NDArray[Any]:
    """(n,) object array of text."""
    return np.array([*values], dtype=object)
