"""The peak memory of this process, and how to return memory to the system."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from pathlib import Path


def peak_mib() -> float:
    """The most memory that this process has held so far, MiB."""
    status = Path("/proc/self/status")  # Linux; getrusage there counts what the parent held when it started this one
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) / 2**10 if found else 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def trim_heap() -> None:
    """Return what lies free in the C library's heap to the system; glibc by itself returns only what lies at its end.

    After large arrays that are needed once. Does nothing with other C libraries.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
