"""What a command costs, with all that it starts: time, processor time, peak memory. Linux only."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PERIOD = 0.1  # s between two looks at the memory


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took.

    Attributes:
        code: exit code; None where it took longer than it was allowed
        output, errors: what it printed
        wall, cpu: s; cpu counts all processes that it waited for
        peak: bytes, of all its processes at one moment
    """

    code: int | None
    output: str
    errors: str
    wall: float
    cpu: float
    peak: int


def cost(command: Sequence[str], environment: Mapping[str, str] | None = None, limit: float | None = None) -> Cost:
    """Run a command and measure it.

    Memory is looked at ten times a second: the sum over the process and its descendants of what they hold. Pages that
    two of them share count twice. A single process tells its own peak exactly, however short it was.

    Args:
        command: the program and its arguments
        environment: all of it; this process's own where None
        limit: s, after which it is ended
    """
    start = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    peak, done = [0], threading.Event()
    late = False

    def watch() -> None:
        nonlocal late
        while not done.wait(PERIOD):
            peak[0] = max(peak[0], held(child.pid))
            if limit is not None and time.perf_counter() - start > limit and not late:
                late = True
                os.killpg(child.pid, 9)

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = os.times()
    try:
        output, errors = child.communicate()
    finally:
        done.set()
        watcher.join()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    code = None if late else child.returncode
    return Cost(code, output, errors, time.perf_counter() - start, cpu, peak[0])


def held(pid: int) -> int:
    """Bytes that a process and its descendants hold now; of one that is alone, the most it has ever held."""
    family = _family(pid)
    if len(family) == 1:
        return _memory(family[0], "VmHWM")
    return sum(_memory(member, "VmRSS") for member in family)


def _family(pid: int) -> list[int]:
    members = [pid]
    for member in members:  # grows while it is walked through
        for listed in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                members += [int(child) for child in listed.read_text().split()]
            except OSError:  # it has just ended
                continue
    return members


def _memory(pid: int, name: str) -> int:
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:  # it has just ended
        return 0
    return int(found[1]) * 1024 if found else 0


def own_peak() -> int:
    """The most bytes that this process has held; `ru_maxrss` would begin with what its parent held."""
    return _memory(os.getpid(), "VmHWM")
