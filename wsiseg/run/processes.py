"""Process slides in worker processes of this machine.

A process pool of the standard library is of no use once one of its processes is killed; here a killed worker costs its
slide alone, which another one goes on with. Workers are started again ("spawn"): no lock, thread or open slide is
inherited. A worker that nobody talks to any more finishes its slide and ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from wsiseg.data.slides import SlideEntry
from wsiseg.run.one_slide import process
from wsiseg.run.plan import Facts, Plan, Tell

ATTEMPTS = 3  # workers that may be lost over one slide
EVERY_S = 1.0  # between two messages about one slide's tiles


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    entry: SlideEntry | None = None


def in_processes(entries: Iterable[SlideEntry], plan: Plan, tell: Tell, *, workers: int) -> Iterator[Facts]:
    """Process entries in so many processes; yields facts in the order in which slides are finished.

    Args:
        entries, plan: see `wsiseg.run.plan`
        tell: told of tiles, and {"event": "lost", "name", "attempt", "why"} of each worker that died
        workers: processes
    """
    waiting, lost = deque(entries), Counter[str]()
    team = [_start(plan) for _ in range(min(workers, len(waiting)))]
    try:
        while waiting or any(worker.entry for worker in team):
            for worker in team:
                if worker.entry is None and waiting:
                    worker.entry = waiting.popleft()
                    with contextlib.suppress(OSError):  # it died while it had nothing to do: seen below
                        worker.pipe.send(worker.entry)
            ready = wait([worker.pipe for worker in team])
            for i, worker in enumerate(team):
                if worker.pipe not in ready:
                    continue
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):  # it is dead, and perhaps died in the middle of a message
                    team[i] = _start(plan)
                    entry, why = worker.entry, _end(worker)
                    if entry is None:
                        continue
                    lost[entry.name] += 1
                    tell({"event": "lost", "name": entry.name, "attempt": lost[entry.name], "why": why})
                    if lost[entry.name] < ATTEMPTS:
                        waiting.appendleft(entry)
                    else:
                        yield given_up(entry, why, ATTEMPTS)
                    continue
                if "event" in message:
                    tell(message)
                else:
                    worker.entry = None
                    yield message
    finally:
        for worker in team:
            worker.process.terminate()
            _end(worker)


def given_up(entry: SlideEntry, why: str, times: int) -> Facts:
    """The facts of a slide that was tried so many times, and never came to an end."""
    error = f"It was tried {times} times and its worker was lost each time ({why}), perhaps for lack of memory."
    return {
        "name": entry.name,
        "path": str(entry.slide),
        "state": "failed",
        "error": error,
        "seconds": 0.0,
        "peak_mib": 0.0,
    }


def throttled(tell: Tell, every_s: float = EVERY_S) -> Tell:
    """Let a message pass only so often; the last of a slide's tiles always."""
    last = -every_s

    def sparing(event: Facts) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s or event.get("done") == event.get("all"):
            last = time.monotonic()
            tell(event)

    return sparing


def _start(plan: Plan) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, plan), daemon=True)
    child.start()
    theirs.close()  # so that ours ends when the child does
    return _Worker(child, ours)


def _end(worker: _Worker) -> str:
    """Wait for a worker that is dead or told to die; returns how it ended."""
    worker.process.join()
    worker.pipe.close()
    code = worker.process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(pipe: Any, plan: Plan) -> None:
    """The loop of a worker: entries in, facts out, until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process decides
    try:
        while True:
            entry = pipe.recv()
            pipe.send(process(entry, plan, throttled(pipe.send)))
    except (EOFError, BrokenPipeError):
        return
