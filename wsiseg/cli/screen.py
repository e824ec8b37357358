"""What people see while they wait."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Start anew where another output is in the way.")
slide_mpp_option = click.option(
    "--mpp", "--slide-mpp", "slide_mpp", type=float, metavar="µM/PX",
    help="Resolution of the slide's level 0, where the file does not state it (or states it wrongly).",
)  # fmt: skip
engine_option = click.option(
    "--engine", default="auto", show_default=True, metavar="ENGINE",
    help="torch, openvino, or auto: OpenVINO on a CPU where it is installed. Results differ in their last bits.",
)  # fmt: skip
full_decoding_option = click.option(
    "--full-decoding", is_flag=True,
    help="Between two levels of the slide, decode all pixels and shrink them afterwards: slower, and exact means.",
)  # fmt: skip
exclude_artifacts_option = click.option(
    "--exclude-artifacts", is_flag=True, help="Leave out what `wsiseg qc` takes for blur and pen; folds stay."
)


class _Memory(click.ParamType):
    """A size such as 8GB or 1.5GiB, in bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from wsiseg.memory import parse_size

        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


MEMORY = _Memory()
max_ram_option = click.option(
    "--max-ram", type=MEMORY, metavar="SIZE",
    help="Stay below this much memory, as 4GB, with smaller batches where that helps; refused beforehand where it "
    "cannot be.",
)  # fmt: skip
tiling_ram_option = click.option(
    "--max-ram", type=MEMORY, metavar="SIZE",
    help="Stay below this much memory, as 2GB; refused beforehand where it cannot be.",
)  # fmt: skip
log_option = click.option(
    "--log-json", type=click.Path(path_type=Path), metavar="FILE", help="Append the progress as JSON lines."
)


@contextmanager
def progress_bar(title: str, unit: str, quiet: bool, log: Path | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate, time left and peak memory on the error stream; yields `report(done, all)`.

    Args:
        title: what is going on
        unit: of what is counted
        quiet: show no bar
        log: append {"time", "event": "start" | "progress" | "end" | "failed", "title", …} to this file, a line at most
            once a second
    """
    with ExitStack() as stack:
        tellers = []
        if log is not None:
            tellers.append(_lines(title, unit, log, stack))
        if not quiet:
            tellers.append(_bar(title, unit, stack))

        def report(done: int, total: int) -> None:
            for tell in tellers:
                tell(done, total)

        yield report


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


def _bar(title: str, unit: str, stack: ExitStack) -> Callable[[int, int], None]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), TextColumn("{task.fields[memory]}"),
    ]  # fmt: skip
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True)))
    task = progress.add_task(title, total=None, rate="", memory="")
    pace = _Pace()

    def report(done: int, total: int) -> None:
        rate = pace.rate(done)
        shown = f"{rate:.1f} {unit}/s" if rate else ""
        memory = f"{peak_mib():.0f} MiB" if peak_mib() else ""
        progress.update(task, completed=done, total=total, rate=shown, memory=memory)

    return report


def _lines(title: str, unit: str, log: Path, stack: ExitStack) -> Callable[[int, int], None]:
    from wsiseg.outputs import writing

    with writing(log):
        file = stack.enter_context(log.open("a", encoding="utf-8"))
    pace, last = _Pace(), 0.0

    def line(event: str, **facts: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        file.write(json.dumps({"time": now, "event": event, "title": title, **facts}) + "\n")
        file.flush()

    def end(kind: type[BaseException] | None, *_: object) -> None:
        line("end" if kind is None else "failed", peak_mib=round(peak_mib(), 1))

    def report(done: int, total: int) -> None:
        nonlocal last
        rate = pace.rate(done)
        if done == total or time.monotonic() - last >= 1:
            last = time.monotonic()
            line("progress", done=done, all=total, unit=unit, rate=round(rate, 3), peak_mib=round(peak_mib(), 1))

    line("start")
    stack.push(end)
    return report


class _Pace:
    """Things a second; what an earlier run had finished does not count as speed."""

    def __init__(self) -> None:
        self.began, self.first = time.monotonic(), -1

    def rate(self, done: int) -> float:
        if self.first < 0:
            self.began, self.first = time.monotonic(), done
        elapsed = time.monotonic() - self.began
        return (done - self.first) / elapsed if elapsed > 0 and done > self.first else 0.0
