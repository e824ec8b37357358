"""The most memory that a process has held."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_mib() -> float:
    """The most memory that this process has held so far, MiB; 0 on Windows, which does not tell."""
    if sys.platform == "win32":
        return 0.0
    status = Path("/proc/self/status")  # Linux; getrusage there counts what the parent held when it started this one
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) / 2**10 if found else 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
