"""Units in worker processes of this machine.

A process pool of the standard library is of no use once one of its processes is killed; here a killed worker costs its
slide alone, which another one goes on with. Workers are started anew ("spawn"): no lock, thread or open slide is
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

from wsiseg.run.job import Facts, Plan, Tell, Unit
from wsiseg.run.unit import process

ATTEMPTS = 3  # workers that may be lost over one slide
EVERY_S = 1.0  # between two messages about one slide's tiles


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    unit: Unit | None = None


def in_processes(units: Iterable[Unit], plan: Plan, tell: Tell, *, workers: int) -> Iterator[Facts]:
    """Process units in so many processes; yields facts in the order in which slides are finished.

    Args:
        units, plan: see `wsiseg.run.job`
        tell: told of tiles, and {"event": "lost", "name", "attempt", "why"} of each worker that died
        workers: processes
    """
    waiting, lost = deque(units), Counter[str]()
    team = [_start(plan) for _ in range(min(workers, len(waiting)))]
    try:
        while waiting or any(worker.unit for worker in team):
            for worker in team:
                if worker.unit is None and waiting:
                    worker.unit = waiting.popleft()
                    with contextlib.suppress(OSError):  # it died while it had nothing to do: seen below
                        worker.pipe.send(worker.unit)
            ready = wait([worker.pipe for worker in team])
            for i, worker in enumerate(team):
                if worker.pipe not in ready:
                    continue
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):  # it is dead, and perhaps died in the middle of a message
                    team[i] = _start(plan)
                    unit, why = worker.unit, _end(worker)
                    if unit is None:
                        continue
                    lost[unit.name] += 1
                    tell({"event": "lost", "name": unit.name, "attempt": lost[unit.name], "why": why})
                    if lost[unit.name] < ATTEMPTS:
                        waiting.appendleft(unit)
                    else:
                        yield given_up(unit, why, ATTEMPTS)
                    continue
                if "event" in message:
                    tell(message)
                else:
                    worker.unit = None
                    yield message
    finally:
        for worker in team:
            worker.process.terminate()
            _end(worker)


def given_up(unit: Unit, why: str, times: int) -> Facts:
    """The facts of a slide that was tried so many times, and never came to an end."""
    error = f"It was tried {times} times and its worker was lost each time ({why}), perhaps for want of memory."
    return {"name": unit.name, "path": unit.slide, "state": "failed", "error": error, "seconds": 0.0, "peak_mib": 0.0}


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
    """The life of a worker: units in, facts out, until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process decides
    try:
        while True:
            unit = pipe.recv()
            pipe.send(process(unit, plan, throttled(pipe.send)))
    except (EOFError, BrokenPipeError):
        return
