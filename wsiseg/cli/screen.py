"""What people see while they wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def progress_bar(title: str, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left on the error stream; yields `report(done, all)`."""
    if quiet:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    ]  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=None, rate="")
        began, first = time.monotonic(), -1

        def report(done: int, total: int) -> None:
            nonlocal began, first
            if first < 0:  # what an earlier run had finished does not count as speed
                began, first = time.monotonic(), done
            elapsed = time.monotonic() - began
            rate = f"{(done - first) / elapsed:.1f} {unit}/s" if elapsed > 0 and done > first else ""
            progress.update(task, completed=done, total=total, rate=rate)

        yield report
