"""Progress and summary of a run over many slides, for people and for programs."""

from __future__ import annotations

import time
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import TextColumn
from rich.table import Table

from wsiseg.cli.screen import JsonLines, bar, peak_text
from wsiseg.run.plan import Facts
from wsiseg.run.runner import Summary

SHOWN = 50  # failed slides in the table at most; run.json has all


class RunScreen:
    """A bar over all slides with tiles a second and the memory of the largest worker, a line for each that fails, and
    all of it as JSON lines in a file.
    """

    def __init__(self, slides: int, quiet: bool, log: Path | None) -> None:
        """Prepare for so many slides; `log` is appended to."""
        self.slides, self.quiet, self.log = slides, quiet, log
        self.stack, self.lock = ExitStack(), Lock()
        self.tiles: dict[str, int] = {}  # slide -> tiles done
        self.failed, self.peak, self.began = 0, 0.0, time.monotonic()

    def __enter__(self) -> RunScreen:
        self.lines = self.stack.enter_context(JsonLines(self.log))
        self.console = Console(stderr=True)
        self.bar = self.stack.enter_context(
            bar(self.console, TextColumn("[red]{task.fields[failed]}"), quiet=self.quiet)
        )
        self.task = self.bar.add_task("Slides", total=self.slides, rate="", memory="", failed="")
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def tell(self, event: Facts) -> None:
        """See `wsiseg.run.plan.Tell`."""
        with self.lock:  # Dask tells of tiles in a thread of its own
            self._tell(event)

    def _tell(self, event: Facts) -> None:
        self.lines.write(event)
        kind = event["event"]
        if kind == "tiles":
            self.tiles[event["name"]] = event["done"]
        elif kind == "slide":
            self.bar.advance(self.task)
            self._slide(event)
        elif kind == "dashboard":
            missing = f" (it is empty until {event['missing']} is installed)" if event["missing"] else ""
            self._say(f"Dask's dashboard: {event['url']}{missing}")
        elif kind == "no workers":
            self._say("The scheduler has no workers; the run waits for them: start some with `dask worker`.")
        elif kind == "lost":
            self._say(f"{event['name']} is tried again: its worker was lost ({event['why']}).")
        elif kind == "scheduler lost":
            self._say(f"The scheduler is gone; it is waited for, {event['seconds']:.0f} s at most.")
        done = sum(self.tiles.values())
        rate = f"{done / (time.monotonic() - self.began):.1f} tiles/s" if done else ""
        failed = f"{self.failed} failed" if self.failed else ""
        self.bar.update(self.task, rate=rate, memory=peak_text(self.peak), failed=failed)

    def _slide(self, event: Facts) -> None:
        self.peak = max(self.peak, event["peak_mib"])  # of the worker that held most
        if event["state"] == "failed":
            self.failed += 1
            self._say(f"{event['name']}: {event['error']}")

    def _say(self, line: str) -> None:
        self.console.print(escape(line), highlight=False, soft_wrap=True)


def render(summary: Summary) -> str:
    """The end of a run as a table: how many slides are done, were done already, and failed and why."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for state, says in (
        ("done", f"done in {summary.seconds:.0f} s"),
        ("already", "already done"),
        ("failed", "failed"),
    ):
        table.add_row(str(summary.count(state)), says)
    text = StringIO()
    console: Any = Console(file=text, width=110)
    console.print(table)
    failed = [facts for facts in summary.slides if facts["state"] == "failed"]
    if failed:
        why = Table("failed slide", "why", show_lines=False, box=None, pad_edge=False)
        for facts in failed[:SHOWN]:
            why.add_row(escape(facts["name"]), escape(facts["error"]))
        if len(failed) > SHOWN:
            why.add_row("…", f"and {len(failed) - SHOWN} more")
        console.print()
        console.print(why)
    return text.getvalue().rstrip()
