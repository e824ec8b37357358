"""What people and programs see of a run over many slides."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from wsiseg.outputs import writing
from wsiseg.run.job import Facts
from wsiseg.run.runner import Summary

SHOWN = 50  # failed slides in the table at most; run.json has all


class RunScreen:
    """A bar over all slides with tiles a second, a line for each that fails, and the same as JSON lines in a file."""

    def __init__(self, slides: int, quiet: bool, log: Path | None) -> None:
        """Prepare for so many slides; `log` is appended to."""
        self.slides, self.quiet, self.log = slides, quiet, log
        self.stack, self.lock = ExitStack(), Lock()
        self.file: IO[str] | None = None
        self.tiles: dict[str, int] = {}  # slide -> tiles done
        self.failed, self.began = 0, time.monotonic()

    def __enter__(self) -> RunScreen:
        if self.log is not None:
            with writing(self.log):
                self.file = self.stack.enter_context(self.log.open("a", encoding="utf-8"))
        self.console = Console(stderr=True)
        columns = [
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), TextColumn("[red]{task.fields[failed]}"),
        ]  # fmt: skip
        self.bar = self.stack.enter_context(Progress(*columns, console=self.console, disable=self.quiet))
        self.task = self.bar.add_task("Slides", total=self.slides, rate="", failed="")
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def tell(self, event: Facts) -> None:
        """See `wsiseg.run.job.Tell`."""
        with self.lock:  # Dask tells of tiles in a thread of its own
            self._tell(event)

    def _tell(self, event: Facts) -> None:
        if self.file is not None:
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
            self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.file.flush()
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
            self._say("The scheduler has no workers; they are waited for: start some with `dask worker`.")
        elif kind == "lost":
            self._say(f"{event['name']} is tried again: its worker was lost ({event['why']}).")
        elif kind == "scheduler lost":
            self._say(f"The scheduler is gone; it is waited for, {event['seconds']:.0f} s at most.")
        done = sum(self.tiles.values())
        rate = f"{done / (time.monotonic() - self.began):.1f} tiles/s" if done else ""
        self.bar.update(self.task, rate=rate, failed=f"{self.failed} failed" if self.failed else "")

    def _slide(self, event: Facts) -> None:
        if event["state"] == "failed":
            self.failed += 1
            self._say(f"{event['name']}: {event['error']}")

    def _say(self, line: str) -> None:
        self.console.print(escape(line), highlight=False, soft_wrap=True)


def render(summary: Summary) -> str:
    """The end of a run as a table: how many slides are done, were done already, and failed and why."""
    counts = {state: summary.count(state) for state in ("done", "already", "failed")}
    table = Table("slides", "", title=None, show_header=False, box=None, pad_edge=False)
    table.add_row(str(counts["done"]), f"done in {summary.seconds:.0f} s")
    table.add_row(str(counts["already"]), "already done")
    table.add_row(str(counts["failed"]), "failed")
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
