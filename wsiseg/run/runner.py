"""Run an executor over all slides, and write run.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from wsiseg import __version__
from wsiseg.data.slides import SlideEntry
from wsiseg.errors import OutputError, SchedulerError
from wsiseg.run.cluster import LOCAL, check_dask, on_dask
from wsiseg.run.one_slide import process
from wsiseg.run.plan import FORMAT, Facts, Plan, Tell
from wsiseg.run.processes import in_processes
from wsiseg.run.results import Results

Executor = Callable[[Iterable[SlideEntry], Plan, Tell], Iterator[Facts]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a run.

    Attributes:
        slides: the facts of each slide, in the order of the list
        seconds: the whole run
    """

    slides: tuple[Facts, ...]
    seconds: float

    def count(self, state: str) -> int:
        """Slides that are "done", "already" or "failed"."""
        return sum(facts["state"] == state for facts in self.slides)


def one_by_one(entries: Iterable[SlideEntry], plan: Plan, tell: Tell) -> Iterator[Facts]:
    """Process entries in this very process."""
    for entry in entries:
        yield process(entry, plan, tell)


def largest_first(entries: Iterable[SlideEntry]) -> list[SlideEntry]:
    """Units by the size of their file: no slide that takes long is begun when all others are through."""

    def size(entry: SlideEntry) -> int:
        try:
            return entry.slide.stat().st_size
        except OSError:  # its worker will say what is wrong with it
            return 0

    return sorted(entries, key=size, reverse=True)


def executor(name: str, *, scheduler: str | None, workers: int) -> Executor:
    """The executor of a name.

    Args:
        name: serial, processes or dask
        scheduler: for dask, see `wsiseg.run.cluster.on_dask`
        workers: processes on this machine

    Raises:
        SchedulerError: Dask is not installed, or a scheduler was named for another executor
    """
    if name == "dask":
        check_dask()
        return partial(on_dask, scheduler=scheduler or LOCAL, workers=workers)
    if scheduler is not None:
        raise SchedulerError(f"--scheduler is for --executor dask, not for {name}: leave one of them out.")
    return one_by_one if name == "serial" else partial(in_processes, workers=workers)


def run(entries: Sequence[SlideEntry], plan: Plan, execute: Executor, tell: Tell) -> Summary:
    """Process all entries, and write run.json whatever happens.

    Args:
        entries: the slides
        plan: what to make of them
        execute: by whom
        tell: told {"event": "start" | "slide" | "end", …}, and whatever the executor tells

    Raises:
        OutputError: the results cannot be written, or would be lost with the workers' memory
        SchedulerError, EngineError
    """
    results = Results(plan.results)
    if results.in_memory and execute is not one_by_one:
        raise OutputError(f"{plan.results} is the memory of one process: use --executor serial, or another place.")
    began, clock = datetime.now(UTC), time.monotonic()
    tell({"event": "start", "slides": len(entries), "stages": list(plan.recipe.run.stages), "results": plan.results})
    found: dict[str, Facts] = {}
    try:
        for facts in execute(entries if execute is one_by_one else largest_first(entries), plan, tell):
            if facts["name"] not in found:
                found[facts["name"]] = facts
                tell({"event": "slide", **facts})
    finally:
        summary = Summary(tuple(found[u.name] for u in entries if u.name in found), round(time.monotonic() - clock, 3))
        results.write("run.json", _report(summary, entries, plan, began))
    tell({"event": "end", "seconds": summary.seconds, **_counts(summary)})
    return summary


def _counts(summary: Summary) -> dict[str, int]:
    return {state: summary.count(state) for state in ("done", "already", "failed")}


def _report(summary: Summary, entries: Sequence[SlideEntry], plan: Plan, began: datetime) -> bytes:
    names = {facts["name"] for facts in summary.slides}
    value = {
        "kind": "run",
        "format": FORMAT,
        "version": __version__,
        "recipe": plan.recipe.name,
        "run": plan.recipe.run.model_dump(mode="json"),
        "measure": plan.recipe.measure.stated,
        "model": plan.identity or None,
        "engine": plan.engine,
        "device": plan.device,
        "threads": plan.threads,
        "began": began.isoformat(timespec="seconds"),
        "seconds": summary.seconds,
        "counts": {**_counts(summary), "not reached": len(entries) - len(names)},
        "slides": list(summary.slides),
    }
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
