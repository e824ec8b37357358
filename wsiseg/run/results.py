"""The place for the results of a run: a folder, or any URL of fsspec (s3://, gs://, memory://, file://, …).

In a folder results are made in place, under the name NAME.partial, and renamed. A URL has no renaming and no locks, so
there they are made on a local disk and then sent, with `record.json` last: a slide without one is not finished.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec

from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.errors import OutputError, StoreError
from wsiseg.run.plan import Facts

RECORD = "record.json"


class Results:
    """A place for results."""

    def __init__(self, place: str) -> None:
        """Check the place; nothing is written yet.

        Raises:
            OutputError: the URL is of a kind that nothing installed here can write
        """
        self.place = place.rstrip("/")
        self.remote = "://" in place
        try:
            self._files: Any
            self._files, self._root = fsspec.core.url_to_fs(self.place)
        except (ImportError, ValueError) as error:
            raise OutputError(f"{place} cannot be written ({error}): install what is missing.") from error

    @property
    def in_memory(self) -> bool:
        """Whether the results would be lost with the process that makes them."""
        return self.place.startswith("memory:")

    def folder(self, name: str, scratch: str) -> Path:
        """The local folder in which a slide's results are made."""
        return (Path(scratch) if self.remote else Path(self.place)) / "slides" / name

    def record(self, name: str) -> Facts | None:
        """The record of a finished slide; None if it is not finished.

        Raises:
            StoreError: the record is damaged, or results that it names are gone or of another size
        """
        path = f"{self._root}/slides/{name}/{RECORD}"
        try:
            record: Facts = json.loads(self._files.cat_file(path))
            wanted = {key: value["bytes"] for key, value in record["outputs"].items()}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.place}/slides/{name}/{RECORD} is damaged: remove that folder.") from error
        lost = sorted(key for key, size in wanted.items() if self._size(f"{self._root}/slides/{name}/{key}") != size)
        if lost:
            raise StoreError(f"{', '.join(lost)} of {self.place}/slides/{name} changed or is gone: remove that folder.")
        return record

    def _size(self, path: str) -> int:
        """Bytes of a file, or of all files in a folder; -1 if there is neither."""
        if not self._files.exists(path):
            return -1
        return sum(self._files.size(p) for p in self._files.find(path))

    def publish(self, folder: Path, name: str) -> None:
        """Send a slide's finished folder to its URL, the record last; nothing to do where results are in place.

        Raises:
            OutputError: the place cannot be written
        """
        if not self.remote:
            return
        there = f"{self._root}/slides/{name}"
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != RECORD)
        try:
            for key in (RECORD, *self._made_before(there), *sorted(p.name for p in folder.iterdir())):
                if self._files.exists(f"{there}/{key}"):  # the record first: from here on the slide is not finished
                    self._files.rm(f"{there}/{key}", recursive=True)
            for file in (*files, folder / RECORD):
                path = f"{there}/{file.relative_to(folder).as_posix()}"
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(file), path)
        except Exception as error:  # every kind of storage has errors of its own
            raise OutputError(f"{self.place} cannot be written ({error}): run the same command again.") from error

    def _made_before(self, there: str) -> list[str]:
        """The results that a record to be replaced names; whatever else lies there is not ours to remove."""
        path = f"{there}/{RECORD}"
        return sorted(json.loads(self._files.cat_file(path))["outputs"]) if self._files.exists(path) else []

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside the slides' folders; OutputError if the place cannot be written."""
        if not self.remote:
            with translate_os_errors(Path(self.place)):
                Path(self.place).mkdir(parents=True, exist_ok=True)
            with atomic_write(Path(self.place) / name) as sink:
                sink.write(data)
            return
        try:
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(f"{self._root}/{name}", data)
        except Exception as error:
            raise OutputError(f"{self.place} cannot be written ({error}): run the same command again.") from error
