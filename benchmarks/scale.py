"""From a few slides on this machine to many on many workers: what is measured, and what is computed from it.

    python benchmarks/scale.py [--slides 12] [--folder DIR] [--price 0.04]

Measured: `wsiseg run` over generated slides of several sizes with one worker and with two, one thread each. From
run.json come the seconds of each slide and stage, the bytes of its results, and how much faster two workers are.

Computed: 10,000 and 1,000,000 slides on N workers. Each slide's time is drawn from the measured ones; a worker takes
the next slide when it is free. One slide in a thousand loses its worker and half of its time, one in ten thousand takes
ten times as long, and a worker needs a start of its own. Nothing is said of a network or a disk that all workers share.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import heapq
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

MPP = 0.5
SIZES_MM = ((3, 2), (4, 3), (6, 4), (8, 6))
RECIPE = """
name = "scale"
[classes]
names = ["Background", "Glomerulus", "Sclerotic glomerulus"]
[data]
slides = "none.csv"
mpp = 3.0
[training]
steps = 1
[run]
stages = ["predict", "measure"]
"""
LOST, LOST_COSTS = 1e-3, 0.5  # share of slides whose worker dies, and what of their time is done twice
STRAGGLERS, SLOWER = 1e-4, 10.0
START_S = 20.0  # a worker's first slide waits for its imports and its network


def make(folder: Path, count: int) -> None:
    """Generated slides, drawn once."""
    from wsiseg.synthetic import SlideSpec, generate, write_slide

    (folder / "slides").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / "slides" / f"s{i:03d}.svs"
        if not path.exists():
            width, height = SIZES_MM[i % len(SIZES_MM)]
            write_slide(generate(SlideSpec(1000 + i, width * 1000, height * 1000, "pas", MPP)), path)


def measure(folder: Path, workers: int) -> dict[str, Any]:
    """run.json of a run with so many workers, on results of its own."""
    from wsiseg.models import GLOMERULI

    (folder / "recipe.toml").write_text(RECIPE)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        code = "from wsiseg.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", code, "run", str(folder / "recipe.toml"), "--slides", f"{folder}/slides/*.svs",
             "--model", str(GLOMERULI), "--out", out, "--workers", str(workers), "-q"],
            check=True, capture_output=True,
        )  # fmt: skip
        found: dict[str, Any] = json.loads((Path(out) / "run.json").read_text())
        return found


def simulate(times: np.ndarray, slides: int, workers: int, seed: int = 0) -> tuple[float, float]:
    """Hours until the last slide, and the share of the workers' time in which they work."""
    rng = np.random.default_rng(seed)
    work = rng.choice(times, slides)
    work *= np.where(rng.random(slides) < STRAGGLERS, SLOWER, 1.0)
    work *= np.where(rng.random(slides) < LOST, 1 + LOST_COSTS, 1.0)
    free = [START_S] * min(workers, slides)
    for seconds in work:
        heapq.heapreplace(free, free[0] + seconds)
    end = max(free)
    return end / 3600, float(work.sum() / (end * workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slides", type=int, default=12)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour, in any currency")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = args.folder or Path(place)
        make(folder, args.slides)
        runs = {workers: measure(folder, workers) for workers in (1, 2)}
    one = runs[1]["slides"]
    times = np.array([s["seconds"] for s in one])
    tiles = np.array([s["stages"]["predict"]["tiles"] for s in one])
    kept = np.array([sum(o["bytes"] for o in s["outputs"].values()) for s in one])
    print("## Measured\n\n| workers | slides | s | slides/h | tiles/s |\n|--:|--:|--:|--:|--:|")
    for workers, run in runs.items():
        seconds = run["seconds"]
        rates = f"{len(times) / seconds * 3600:.0f} | {tiles.sum() / seconds:.2f}"
        print(f"| {workers} | {len(times)} | {seconds:.0f} | {rates} |")
    stages = {k: sum(s["times"]["stages"][k] for s in one) for k in one[0]["times"]["stages"]}
    print("\n" + ", ".join(f"{k} {v / sum(stages.values()):.0%}" for k, v in stages.items()) + " of a slide's time;")
    print(f"{np.median(times):.1f} s a slide (median; {times.min():.1f} to {times.max():.1f}),")
    print(f"{kept.mean() / 1e3:.0f} kB of results.\n\n## Computed\n")
    print("| slides | workers | hours | workers busy | core-hours | price | results, GB |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for slides in (10_000, 1_000_000):
        core, size = slides * times.mean() / 3600, slides * kept.mean() / 1e9
        for workers in (2, 16, 128, 1024):
            hours, busy = simulate(times, slides, workers)
            spent = f"{core:,.0f} | {core * args.price:,.0f} | {size:,.1f}"
            print(f"| {slides:,} | {workers:,} | {hours:,.1f} | {busy:.0%} | {spent} |")


if __name__ == "__main__":
    main()
