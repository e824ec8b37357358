"""A control group of our own, for what happens when memory runs out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Group:
    """A control group.

    Attributes:
        folder: into whose `cgroup.procs` processes are written
        limit, use: its files with the limit and the use of memory, in bytes
    """

    folder: Path
    limit: Path
    use: Path


@contextmanager
def control_group() -> Iterator[Group]:
    """A group without a limit of its own; the test is skipped where none can be made."""
    for top, limit, use in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    ):
        folder = top / f"wsiseg-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limit).exists():
            try:
                yield Group(folder, folder / limit, folder / use)
            finally:
                folder.rmdir()
            return
        folder.rmdir()
    pytest.skip("no control group can be made here")
