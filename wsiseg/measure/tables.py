"""Write tables, one file each: CSV, or Parquet if pyarrow is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wsiseg.annotations.table import csv_parts, parquet
from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.errors import OutputError
from wsiseg.extras import require_extra
from wsiseg.measure import profiles
from wsiseg.measure.column import Table

FORMATS = ("csv", "parquet")


def check_folder(folder: Path, format: str, *, overwrite: bool) -> None:
    """Check, before anything is measured, that tables can be written; MissingExtraError or OutputError."""
    if format == "parquet":
        require_extra("pyarrow", "Parquet", otherwise="write CSV")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: choose a folder for the tables.")
    there = [path.name for path in _ours(folder)]
    if there and not overwrite:
        raise OutputError(f"{folder} holds {', '.join(there)} already: choose another folder, or use --overwrite.")


def write_tables(folder: Path, tables: Mapping[str, Table], format: str, *, overwrite: bool = False) -> None:
    """Write `NAME.csv` or `NAME.parquet` for each table.

    CSV is UTF-8 with commas, a point in numbers of at most ten digits, `true` and `false`, and empty fields for what is
    not known; in Parquet these are null. No file is half-written, and tables of an earlier run do not stay beside
    these.

    Args:
        folder: made if it is not there
        tables: name -> columns of one length
        format: one of `FORMATS`
        overwrite: replace the tables that are there

    Raises:
        OutputError: tables are there already, pyarrow is missing, or the place cannot be written
    """
    check_folder(folder, format, overwrite=overwrite)
    packed = {
        f"{name}.{format}": b"".join(csv_parts(table)) if format == "csv" else parquet(table)
        for name, table in tables.items()
    }
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in packed.items():
        with atomic_write(folder / name) as sink:
            sink.write(data)
    with translate_os_errors(folder):
        for path in _ours(folder):
            if path.name not in packed:
                path.unlink()


def _ours(folder: Path) -> list[Path]:
    """The tables in a folder."""
    return [
        path for name in profiles.TABLE_NAMES for format in FORMATS if (path := folder / f"{name}.{format}").exists()
    ]
