"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wsiseg.errors import OutputError


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer did.

    Attributes:
        objects: how many are in the file
        repaired: how many of them were invalid, or became so by rounding, and were made valid
        dropped: how many had no area left and are not in the file
    """

    objects: int = 0
    repaired: int = 0
    dropped: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.objects + other.objects, self.repaired + other.repaired, self.dropped + other.dropped)

    def __str__(self) -> str:
        notes = [f"{self.objects} outlines"]
        if self.repaired:
            notes.append(f"{self.repaired} repaired")
        if self.dropped:
            notes.append(f"{self.dropped} without area dropped")
        return ", ".join(notes)


class Sink:
    """Takes bytes; every failure of the disk is an OutputError that names the final file."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._path = path

    def write(self, data: bytes) -> int:
        """Append bytes; returns how many, as files do."""
        with _told(self._path):
            return self._file.write(data)

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        with _told(self._path):
            self._file.flush()

    def finish(self) -> None:
        """Everything onto the disk, then close. A full disk may show only here."""
        with _told(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def abandon(self) -> None:
        """Close without caring for what is still buffered, which is about to be deleted."""
        with contextlib.suppress(OSError):
            self._file.close()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Sink]:
    """Write a file under a hidden name beside its final one, and rename it when the block ends well.

    After any exception the hidden file is gone and whatever had the final name before is untouched. A process that is
    killed leaves at most `.NAME.<random>.part`, never a partial file of the final name.

    Raises:
        OutputError: the folder is missing or closed to us, or the disk is full.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with _told(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    sink = Sink(descriptor, path)
    try:
        yield sink
        sink.finish()
        with _told(path):
            os.replace(part, path)
    except BaseException:
        sink.abandon()
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the operating system says into one sentence for people."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"The disk is full, so {path} was not written: make room and run it again.") from error
        if error.errno == errno.ENOENT:
            raise OutputError(f"The folder {path.parent} does not exist: create it or choose another.") from error
        why = error.strerror or str(error)
        raise OutputError(
            f"{path} cannot be written ({why}): choose another place or change its permissions."
        ) from error
