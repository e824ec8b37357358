"""How long many slides take on many workers: computed, from the seconds that some slides were measured to take.

    python benchmarks/simulate.py [--measured docs/results/scaling.json] [--workers 16,128] [--simulated 10000] …
    python benchmarks/simulate.py --order

The model. Each slide's seconds are drawn from the measured ones. A worker takes the next slide of the list when it is
free. It needs `start_s` before its first slide, and again after each loss. Workers are lost at a steady rate per hour,
whatever they do (a Poisson process); `again` of what was done of the slide in work is then done again, by whoever is
free next, after the restart. Some slides take `slower` times as long. Some fail at their end for a cause that passes,
and are done once more when all others are through, as by a second call of the same command.

`--order` prints the table of decision 6, for which nothing is measured: times in proportion to area, of 999 slides of 6
to 48 mm² and one of 625 mm² in a thousand, nothing going wrong, in multiples of all work divided by the workers.

What it leaves out: disk, network and scheduler that workers share. `limits` says from how many workers on each of these
would be the bottleneck.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

MEASURED = Path(__file__).resolve().parents[1] / "docs" / "results" / "scaling.json"


@dataclass(frozen=True, slots=True)
class Chances:
    """What goes wrong, and how often.

    Attributes:
        start_s: seconds until a new worker begins its first slide
        lost_per_hour: losses of each worker in an hour
        again: share of the work done of a slide that a loss costs: 0 where finished rows of tiles are kept, which they
            are in a folder that all workers share, 1 where nothing is
        stragglers, slower: share of slides that take so many times as long
        failing: share of slides that fail once
    """

    start_s: float = 20.0
    lost_per_hour: float = 0.01
    again: float = 1.0
    stragglers: float = 1e-3
    slower: float = 10.0
    failing: float = 1e-3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it, in hours.

    Attributes:
        hours: until the last slide is done
        worker_hours: all workers, from the first slide to the last
        useful: what the slides would take if nothing went wrong but the stragglers
        lost: work done again, and restarts, of lost workers
        retried: work on slides that failed
        losses: workers lost
    """

    hours: float
    worker_hours: float
    useful: float
    lost: float
    retried: float
    losses: int

    @property
    def efficiency(self) -> float:
        """Share of the workers' time that the slides needed."""
        return self.useful / self.worker_hours


def simulate(
    times: Sequence[float], slides: int, workers: int, chances: Chances, *, seed: int = 0, largest_first: bool = False
) -> Outcome:
    """One run, drawn with a seed.

    Args:
        times: measured seconds of slides
        slides, workers: how many
        chances: what goes wrong
        seed: the same gives the same
        largest_first: slides come in the order of the seconds drawn, the longest first; else as drawn
    """
    rng = np.random.default_rng(seed)
    seconds = rng.choice(np.asarray(times, float), slides)
    if largest_first:
        seconds = np.sort(seconds)[::-1]
    seconds = seconds * np.where(rng.random(slides) < chances.stragglers, chances.slower, 1.0)
    retries = seconds[rng.random(slides) < chances.failing]
    free = [chances.start_s] * min(workers, slides)
    lost, losses = 0.0, 0
    for work in (seconds, retries):
        # Losses are rare: they are drawn for all slides at once, and gone through one by one only where there are any.
        hits = rng.poisson(work * chances.lost_per_hour / 3600)
        where = rng.random(int(hits.sum()))
        extra = np.zeros(len(work))
        place = 0
        for i in np.flatnonzero(hits):
            done = where[place : place + hits[i]] * work[i]
            place += hits[i]
            extra[i] = chances.again * done.sum() + chances.start_s * hits[i]
        lost, losses = lost + extra.sum(), losses + int(hits.sum())
        for busy in (work + extra).tolist():
            heapq.heapreplace(free, free[0] + busy)
        if len(retries) and work is seconds:  # the second call begins when the first has ended
            free = [max(free) + chances.start_s] * len(free)
    end = max(free)
    return Outcome(
        end / 3600, end * workers / 3600, seconds.sum() / 3600, lost / 3600, retries.sum() / 3600, losses
    )  # fmt: skip


def limits(measured: dict[str, Any], disk_mb_s: float) -> dict[str, float]:
    """How many workers, of the measured speed, would fill what they share.

    Args:
        measured: of scaling.json
        disk_mb_s: what the shared disk delivers, in MB/s
    """
    seconds = float(np.mean(measured["seconds"]))
    return {
        "disk": disk_mb_s * 1e6 / (measured["read_bytes_per_slide"] / seconds),
        "scheduler": measured["units_per_second"] * seconds,
    }


def tables(measured: dict[str, Any], args: argparse.Namespace) -> str:
    """The computed part of the results, in Markdown."""
    times, chances = measured["seconds"], chances_of(args)
    lines = [
        f"Each worker is lost once in {1 / chances.lost_per_hour:,.0f} h and needs {chances.start_s:.0f} s to start; "
        f"{chances.again:.0%} of the slide in work is done again. {chances.stragglers:.1%} of the slides take "
        f"{chances.slower:.0f} times as long, {chances.failing:.1%} fail once. A core costs {args.price:g} an hour.",
        "",
        "| slides | workers | hours | efficiency | workers lost | lost, h | retried, h | core-hours | cost | results, GB |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for slides in args.slides:
        for workers in args.workers:
            o = simulate(times, slides, workers, chances, largest_first=True)
            stored = slides * measured["result_bytes_per_slide"] / 1e9
            lines.append(
                f"| {slides:,} | {workers:,} | {o.hours:,.1f} | {o.efficiency:.0%} | {o.losses:,} | {o.lost:,.1f} | "
                f"{o.retried:,.1f} | {o.worker_hours:,.0f} | {o.worker_hours * args.price:,.2f} | {stored:,.1f} |"
            )
    lines += [
        "",
        "The same, nothing going wrong but the time that workers wait for the last slide; `bands` is a slide that all "
        "workers share, the least that any cutting up could reach:",
        "",
        "| slides | workers | as they come, h | largest first, h | bands, h |",
        "|--:|--:|--:|--:|--:|",
    ]
    calm = replace(chances, lost_per_hour=0.0, failing=0.0, stragglers=0.0)
    for slides in (100, *args.slides):
        for workers in (w for w in args.workers if w < slides):
            came, sorted_ = (simulate(times, slides, workers, calm, largest_first=x) for x in (False, True))
            least = sorted_.useful / workers + calm.start_s / 3600
            lines.append(f"| {slides:,} | {workers:,} | {came.hours:,.2f} | {sorted_.hours:,.2f} | {least:,.2f} |")
    full = limits(measured, args.disk_mb_s)
    mean, million = float(np.mean(times)), 1e6 * measured["facts_bytes_per_slide"] / 1e9
    lines += [
        "",
        "What workers share, and how many of them fill it:",
        "",
        "| shared | what it bears | a worker takes | full with |",
        "|---|--:|--:|--:|",
        f"| disk of {args.disk_mb_s:,.0f} MB/s (given) | {args.disk_mb_s:,.0f} MB/s | "
        f"{measured['read_bytes_per_slide'] / mean / 1e6:,.2f} MB/s | {full['disk']:,.0f} workers |",
        f"| scheduler and command | {measured['units_per_second']:,.0f} slides/s | {1 / mean:,.3f} slides/s | "
        f"{full['scheduler']:,.0f} workers |",
        "",
        f"A slide takes {mean / 3600:.5f} core-hours (mean) and so costs {mean / 3600 * args.price:.6f} / efficiency.",
        "",
        f"A million slides make a run.json of {million:,.1f} GB, which the command holds in memory until its end. To "
        f"find a million slides finished takes {1e6 * measured['already_seconds'] / 3600:,.1f} worker-hours.",
    ]
    return "\n".join(lines)


def order(draws: int = 20) -> str:
    """How much longer a run takes than work that could be cut up at will, in the list's order and the largest first."""
    areas = [*np.linspace(6, 48, 999).tolist(), 625.0]
    calm = Chances(start_s=0, lost_per_hour=0, stragglers=0, failing=0)
    lines = ["| slides | workers | in the list's order | largest first |", "|--:|--:|--:|--:|"]
    for slides, workers in ((100, 16), (1000, 16), (1000, 128), (10_000, 16), (10_000, 128), (10_000, 1024)):
        ratios = []
        for largest_first in (False, True):
            runs = [simulate(areas, slides, workers, calm, seed=s, largest_first=largest_first) for s in range(draws)]
            ratios.append(np.mean([1 / run.efficiency for run in runs]))
        lines.append(f"| {slides:,} | {workers:,} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    return "\n".join(lines)


def chances_of(args: argparse.Namespace) -> Chances:
    """The options that `add_options` knows, as chances."""
    return Chances(args.start_s, args.lost_per_hour, args.again, args.stragglers, args.slower, args.failing)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is given, not measured."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    own = Chances()
    parser.add_argument("--simulated", dest="slides", type=numbers, default=[10_000, 1_000_000], metavar="N,…")
    parser.add_argument("--workers", type=numbers, default=[2, 16, 128, 1024], metavar="N,…")
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour, in any currency")
    parser.add_argument("--disk-mb-s", type=float, default=1000.0, help="of the disk that all workers share")
    for name in ("start_s", "lost_per_hour", "again", "stragglers", "slower", "failing"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(own, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measured", type=Path, default=MEASURED)
    parser.add_argument("--order", action="store_true", help="whether the largest go first: the table of decision 6")
    add_options(parser)
    args = parser.parse_args()
    if args.order:
        print(order())
        return
    print(tables(json.loads(args.measured.read_text()), args))


if __name__ == "__main__":
    main()
