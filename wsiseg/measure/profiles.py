"""The measurement profiles and their tables."""

from __future__ import annotations

from collections.abc import Mapping

from wsiseg.measure.column import Column, expanded
from wsiseg.measure.generic import TABLES as GENERIC
from wsiseg.measure.kidney.columns import TABLES as KIDNEY

Tables = Mapping[str, tuple[Column, ...]]

PROFILES: dict[str, Tables] = {"generic": GENERIC, "kidney": KIDNEY}
TABLE_NAMES = tuple(dict.fromkeys(name for tables in PROFILES.values() for name in tables))


def compared_columns(profile: str, table: str, classes: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of the columns of a table that evaluation compares, those for a class once for each class."""
    return tuple(column.name for column in expanded(PROFILES[profile][table], classes) if column.compared)
