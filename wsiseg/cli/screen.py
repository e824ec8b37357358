"""Progress bars, logs and options that several commands share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsiseg.atomic import translate_os_errors
from wsiseg.cli.renamed import Renamed
from wsiseg.process_memory import container_memory, peak_mib
from wsiseg.progress import Progress as Event
from wsiseg.progress import Report

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

    from wsiseg.slides.slide import Slide

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Change a value of the recipe: TABLE.KEY=VALUE, with VALUE as in TOML.",
)  # fmt: skip
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress bar and no hints.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an output that exists already.")
slide_mpp_option = click.option(
    "--mpp", "slide_mpp", cls=Renamed, was="--slide-mpp", type=float, metavar="µM/PX",
    help="Resolution of the slide's level 0, if the file does not state it or states it wrongly.",
)  # fmt: skip
series_option = click.option(
    "--series", type=click.IntRange(0), metavar="N",
    help="Image to read if the slide's file holds several, counted from 0 (default: the largest).",
)  # fmt: skip
device_option = click.option("--device", default="auto", help="Where the network runs: auto, cpu, cuda, cuda:1, …")
engine_option = click.option(
    "--engine", default="auto", metavar="ENGINE",
    help="What runs the network: torch, openvino, or auto (OpenVINO on a CPU if it is installed). Results differ in "
    "their last bits.",
)  # fmt: skip
full_decoding_option = click.option(
    "--full-decoding", is_flag=True,
    help="Decode every pixel and then reduce the image, also between two levels: slower, but exact means.",
)  # fmt: skip
exclude_artefacts_option = click.option(
    "--exclude-artefacts", cls=Renamed, was="--exclude-artifacts", is_flag=True,
    help="Leave out blur, pen and bubbles as `wsiseg qc` finds them; folds stay.",
)  # fmt: skip


def echo_json(value: object) -> None:
    """Print a value as JSON on the standard output."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def say_cautions(slide: Slide) -> None:
    """Print what a person should know about a slide before using its pixels, on the error stream."""
    for caution in slide.cautions:
        click.echo(f"{slide.name}: {caution}.", err=True)


def as_path(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """Let the shell complete a value as a path if it is a path or something else, such as a pattern or a URL."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(typed, type="file")]


def say_plan(slide: Slide, plan: str, quiet: bool = False) -> None:
    """Print, before the work, the size of a slide and what a command will do with it, on the error stream."""
    level0 = slide.frame
    if not quiet:
        click.echo(f"{slide.name}, {level0.width} × {level0.height} px at {level0.mpp:g} µm/px: {plan}", err=True)


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


def within_container(context: click.Context, parameter: click.Parameter, size: int | None) -> int | None:
    """A promise of memory cannot be larger than what the container or the batch system allows."""
    container = container_memory()
    if size is None or container is None or size <= container[0]:
        return size
    click.echo(
        f"--max-ram: this container or job may use {container[0] / 2**30:.1f} GiB, which is taken instead.", err=True
    )
    return container[0]


def _limit_input(context: click.Context, parameter: click.Parameter, size: int | None) -> None:
    if size is not None:
        from wsiseg.annotations.json_file import set_input_limit

        set_input_limit(size)


max_input_option = click.option(
    "--max-input", type=MEMORY, metavar="SIZE", expose_value=False, callback=_limit_input,
    help="Read annotation files up to this size, unpacked (default: 4GB).",
)  # fmt: skip
class_option = click.option(
    "--class", "class_of_rest", metavar="NAME", help="Give this class to all annotations without one."
)


def names_option(*names: str, help: str) -> Callable[..., Any]:
    """An option of names that may be given together, separated by commas, or one by one; a tuple of text."""

    def split(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
        found = (name.strip() for words in given for name in words.split(","))
        return tuple(dict.fromkeys(filter(None, found)))

    return click.option(*names, multiple=True, callback=split, metavar="A,B,…", help=help)


log_option = click.option(
    "--log-json", type=click.Path(path_type=Path), metavar="FILE",
    help="Append the progress to this file, one JSON object per line.",
)  # fmt: skip


@contextmanager
def progress_bar(title: str, unit: str, quiet: bool, log: Path | None = None) -> Iterator[Report]:
    """A bar with rate, time left and peak memory on the error stream; yields what takes the events.

    Args:
        title: what is going on
        unit: of what is counted
        quiet: show no bar
        log: append {"time", "event": "start" | "progress" | "end" | "failed", "title", …} to this file, a line at most
            once a second
    """
    from rich.console import Console

    pace, written, ending = _Pace(), float("-inf"), "failed"
    with JsonLines(log) as lines, bar(Console(stderr=True), quiet=quiet) as shown:
        task = shown.add_task(title, total=None, rate="", memory="")

        def report(now: Event) -> None:
            nonlocal written
            rate, peak = pace.rate(now.done), peak_mib()
            shown.update(
                task, description=f"{title}: {now.task}" if now.task else title, completed=now.done, total=now.total,
                rate=f"{rate:.1f} {unit}/s" if rate else "", memory=peak_text(peak),
            )  # fmt: skip
            if now.done == now.total or time.monotonic() - written >= 1:
                written = time.monotonic()
                facts = {"done": now.done, "all": now.total, "unit": unit, "rate": round(rate, 3)}
                lines.write({"event": "progress", "title": title, **facts, "peak_mib": round(peak, 1)})

        lines.write({"event": "start", "title": title})
        try:
            yield report
            ending = "end"
        finally:
            lines.write({"event": ending, "title": title, "peak_mib": round(peak_mib(), 1)})


def bar(console: Console, *extra: ProgressColumn, quiet: bool = False) -> Progress:
    """The bar of every command: what, how far, rate, time left and peak memory (the fields "rate" and "memory")."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), TextColumn("{task.fields[memory]}"), *extra, console=console, disable=quiet,
    )  # fmt: skip


def peak_text(mib: float) -> str:
    """Peak memory for people; empty where it is not known."""
    return f"{mib:.0f} MiB" if mib else ""


class JsonLines(AbstractContextManager["JsonLines"]):
    """A file to which events are appended, a JSON object a line, each with its "time" (UTC); nothing without a path."""

    def __init__(self, path: Path | None) -> None:
        """Open it; OutputError where it cannot be written."""
        self._path = path or Path(os.devnull)
        with translate_os_errors(self._path):
            self._file = self._path.open("a", encoding="utf-8")

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, facts: dict[str, Any]) -> None:
        """Append a line."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}
        with translate_os_errors(self._path):
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()


class _Pace:
    """Units a second; what an earlier run had finished does not count as speed."""

    def __init__(self) -> None:
        self.began, self.first = time.monotonic(), -1

    def rate(self, done: int) -> float:
        if self.first < 0:
            self.began, self.first = time.monotonic(), done
        elapsed = time.monotonic() - self.began
        return (done - self.first) / elapsed if elapsed > 0 and done > self.first else 0.0
