"""Write files so that no half-written file has its final name, and every failure is one sentence.

A file is written as `.NAME.part` beside its final name and renamed when it is whole. The part is locked while it is
written: the kernel drops the lock of a dead process, and the next one starts the part again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wsiseg.errors import BusyError, OutputError

# What an operating system says when a place cannot be written, and what to do then.
_ADVICE = {
    errno.ENOSPC: "the disk is full: make room and run the same command again, finished work is kept",
    errno.EDQUOT: "the disk quota is used up: make room and run the same command again, finished work is kept",
    errno.ENOENT: "its folder does not exist: create it or choose another",
    errno.EACCES: "permission denied: choose a place that you may write to",
    errno.EPERM: "permission denied: choose a place that you may write to",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.ENOTDIR: "a part of its path is a file, not a folder: choose another place",
    errno.EEXIST: "a file is in the way: choose another place",
    errno.EISDIR: "it is a folder: choose a file name",
    errno.ENAMETOOLONG: "its name is too long: choose a shorter one",
    errno.EFBIG: "the file grew beyond the limit set for this process: raise the limit (ulimit -f)",
}


@contextlib.contextmanager
def translate_os_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one OutputError that names the target."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        raise OutputError(f"{target} cannot be written, {_ADVICE[error.errno]}.") from error


def lock(path: Path, target: Path) -> BinaryIO:
    """Open a file for reading and appending, made when absent, and lock it against other processes.

    Args:
        path: the file
        target: what it stands for, named in the message

    Raises:
        BusyError: another process holds it
        OSError: it cannot be opened
    """
    while True:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise BusyError(f"Another process is making {target}: wait for it, or choose another output.") from None
        with contextlib.suppress(FileNotFoundError):  # another process may have renamed or removed it since
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


class Sink:
    """Takes bytes; every failure of the disk is an OutputError that names the final file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path

    def write(self, data: bytes) -> int:
        """Append bytes; returns how many, as files do."""
        with translate_os_errors(self._path):
            return self._file.write(data)

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        with translate_os_errors(self._path):
            self._file.flush()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Sink]:
    """Write a file that gets its name when the block ends well.

    After any exception the part is gone, and whatever had the final name before is untouched.

    Raises:
        OutputError: the folder is missing or closed to us, or the disk is full
        BusyError: another process is writing the same file
    """
    part = path.with_name(f".{path.name}.part")
    with translate_os_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file = lock(part, path)
    try:
        with translate_os_errors(path):
            file.truncate(0)
        yield Sink(file, path)
        with translate_os_errors(path):  # a full disk may show only here
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        with contextlib.suppress(OSError):  # of what was buffered for a part that is gone
            file.close()


def discard(folder: Path) -> None:
    """Remove a folder, if it is there; a kill in between leaves none of this name, never half of one."""
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
        shutil.rmtree(aside)
