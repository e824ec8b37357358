"""The peak memory of this process, and how to return memory to the system."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from pathlib import Path

UNLIMITED = 2**60  # bytes: what version 1 says where there is no limit is larger


def peak_mib() -> float:
    """The most memory that this process has held so far, MiB."""
    status = Path("/proc/self/status")  # Linux; getrusage there counts what the parent held when it started this one
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) / 2**10 if found else 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def container_memory(
    root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")
) -> tuple[int, int] | None:
    """(limit, free) in bytes of the memory that this process's control groups allow; None without a limit.

    Both versions of the kernel's control groups are known, and every group above the process's own counts: see
    "Control Group v2" and "Memory Resource Controller" in the documentation of Linux. A container sees its own group
    as the root.
    """
    if not groups.exists():
        return None
    found = []
    for line in groups.read_text().splitlines():
        _, kind, group = line.split(":", 2)
        if kind == "":
            top, limit, used, pages = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in kind.split(","):
            top, limit, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            pages = "total_inactive_file"
        else:
            continue
        inner = top / group.strip("/")
        for folder in (inner, *inner.parents):
            most = _number(folder / limit)
            if most is not None and most < UNLIMITED:
                stat = folder / "memory.stat"
                cache = re.search(rf"^{pages} (\d+)$", stat.read_text() if stat.exists() else "", re.MULTILINE)
                taken = (_number(folder / used) or 0) - (int(cache[1]) if cache else 0)  # the cache is given back
                found.append((most, max(0, most - taken)))
            if folder == top:
                break
    return (min(most for most, _ in found), min(free for _, free in found)) if found else None


def _number(file: Path) -> int | None:
    """The number in a file; None if there is no such file, or a word in it ("max")."""
    text = file.read_text().strip() if file.exists() else ""
    return int(text) if text.isdigit() else None


def trim_heap() -> None:
    """Return what lies free in the C library's heap to the system; glibc by itself returns only what lies at its end.

    After large arrays that are needed once. Does nothing with other C libraries.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
