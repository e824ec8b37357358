"""From a few slides on this machine to many on many workers: what is measured, and what is computed from it.

    python benchmarks/scale.py [--slides 12] [--folder DIR] [--price 0.04] [--quick]

Measured, on generated slides of several sizes, with one thread for each worker:

- `wsiseg run` with one worker and with two: seconds of each slide and stage, slides an hour, bytes of results
- the same command once more: seconds to find a slide finished
- where the processor's time of a slide goes: decoding, network, blending, outlines, disk, and how many bytes are read
- slides a second that a Dask scheduler, and this command before it, take if there is nothing to do with them
- folders a second that this disk makes and opens, among few and among many

Computed, by simulate.py: 10,000 and 1,000,000 slides on N workers. Writes scaling.json and scaling.md into --out.
--quick is for seeing that it works: two small slides, and fewer of everything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from simulate import add_options, tables

from wsiseg.models import GLOMERULI

ROOT = Path(__file__).resolve().parents[1]
MPP = 0.5
SIZES_MM = ((2, 2), (3, 2), (4, 3), (6, 4))
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
NETWORK = "network"
THREADS = 16  # of each of the two workers that the scheduler is measured with


def make(folder: Path, count: int, mpp: float) -> None:
    """Generated slides, drawn once."""
    from wsiseg.synthetic import SlideSpec, generate, write_slide

    (folder / "slides").mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE)
    for i in range(count):
        path = folder / "slides" / f"s{i:03d}.svs"
        if not path.exists():
            width, height = SIZES_MM[i % len(SIZES_MM)]
            write_slide(generate(SlideSpec(1000 + i, width * 1000, height * 1000, "pas", mpp)), path)


def run(folder: Path, out: Path, workers: int) -> dict[str, Any]:
    """run.json of `wsiseg run` with so many workers."""
    command = [sys.executable, "-c", "from wsiseg.cli import main; main()", "run", folder / "recipe.toml", "--slides",
               f"{folder}/slides/*.svs", "--model", GLOMERULI, "--out", out, "--workers", workers, "--executor",
               "processes", "-q"]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True, capture_output=True, env=environment())
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def environment() -> dict[str, str]:
    """One thread for each worker, whatever library asks for them."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


class Clock:
    """Seconds that named functions take; what one calls of another in its own thread counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside: dict[int, list[float]] = defaultdict(list)  # thread -> seconds of inner calls, for each open call

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed: by the thread's processor time, or by the clock where threads of others do the work."""
        import threading

        now = time.perf_counter if name == NETWORK else time.thread_time

        def timed(*args: Any, **kwargs: Any) -> Any:
            stack = self.inside[threading.get_ident()]
            stack.append(0.0)
            before = now()
            try:
                return function(*args, **kwargs)
            finally:
                took = now() - before
                self.seconds[name] += took - stack.pop()
                if stack:
                    stack[-1] += took

        return timed


@contextmanager
def patched(clock: Clock) -> Iterator[None]:
    """The parts of a prediction, timed."""
    import wsiseg.inference.blend
    import wsiseg.inference.engines.openvino
    import wsiseg.inference.engines.torch
    import wsiseg.inference.predict
    import wsiseg.run.stages
    import wsiseg.slides.slide
    import wsiseg.stores.labels

    parts: list[tuple[str, Any, str]] = [
        ("reading the slide", wsiseg.slides.slide.Slide, "read"),
        (NETWORK, wsiseg.inference.engines.torch.TorchEngine, "probabilities"),
        (NETWORK, wsiseg.inference.engines.openvino.OpenVinoEngine, "probabilities"),
        ("blending", wsiseg.inference.blend.Blender, "add"),
        ("label map on disk", wsiseg.stores.labels.LabelWriter, "write_row"),
        ("label map on disk", wsiseg.stores.labels.LabelWriter, "finish"),
        ("tracing and writing outlines", wsiseg.inference.predict, "write_prediction"),
        ("finding tissue", wsiseg.selection.select, "tissue_of"),
        ("measuring", wsiseg.run.stages, "measure_files"),
    ]
    before = [(place, name, getattr(place, name)) for _, place, name in parts]
    try:
        for (label, place, name), (_, _, function) in zip(parts, before, strict=True):
            setattr(place, name, clock.wrap(label, function))
        yield
    finally:
        for place, name, function in before:
            setattr(place, name, function)


def profile(folder: Path, out: Path) -> dict[str, Any]:
    """Where the time of the processor goes, and how many bytes are read; called in a process of its own."""
    from wsiseg.bundle import load_bundle
    from wsiseg.recipe import load_recipe
    from wsiseg.run.listed import list_slides
    from wsiseg.run.one_slide import process
    from wsiseg.run.plan import Plan, identity_of

    bundle = load_bundle(GLOMERULI)
    recipe = load_recipe(folder / "recipe.toml", ("run.labels=true",), places=False)  # the map is made in any case
    plan = Plan(recipe, str(out), str(GLOMERULI), identity_of(bundle), device="cpu")
    entries = list_slides(f"{folder}/slides/*.svs")
    process(entries[0], plan, lambda event: None)  # imports, network, compiled loops
    clock = Clock()
    with patched(clock):
        read, began, maps = bytes_read(), time.process_time(), 0
        for entry in entries[1:]:
            facts = process(entry, plan, lambda event: None)
            assert facts["state"] == "done", facts
            maps += facts["outputs"]["labels.zarr"]["bytes"]
        whole, read = time.process_time() - began, bytes_read() - read
    parts = dict(sorted(clock.seconds.items(), key=lambda part: -part[1]))
    # Opening, hashing, and all that is in no list.
    parts["the rest"] = whole - sum(parts.values())
    count = len(entries) - 1
    return {
        "cpu_seconds": {k: v / count for k, v in parts.items()},
        "read_bytes_per_slide": read / count,
        "label_map_bytes_per_slide": maps / count,
    }


def seconds_of(facts: dict[str, Any]) -> float:
    """What a slide takes a worker that has its network already; a worker's first slide waits for it."""
    stages = sum(facts["times"]["stages"].values())
    return float(facts["seconds"] - facts["times"]["seconds"] + stages)


def bytes_read() -> int:
    """By this process with system calls, from the disk or its cache."""
    return int(Path("/proc/self/io").read_text().split()[1])


def scheduler_rate(folder: Path, count: int) -> float:
    """Slides a second through `wsiseg.run.cluster.on_dask`, for entries that their worker answers at once."""
    from distributed import LocalCluster

    from wsiseg.data.slides import SlideEntry
    from wsiseg.recipe import load_recipe
    from wsiseg.run.cluster import on_dask
    from wsiseg.run.plan import Plan

    plan = Plan(load_recipe(folder / "recipe.toml", places=False), str(folder / "nowhere"))
    entries = [SlideEntry(Path(f"/somewhere/s{i}.svs"), fault="Nothing to do.") for i in range(count + THREADS)]
    with LocalCluster(
        n_workers=2, threads_per_worker=THREADS, processes=True, host="127.0.0.1", dashboard_address=":0"
    ) as cluster:
        answers = on_dask(entries, plan, lambda event: None, scheduler=cluster.scheduler_address)
        for _ in range(THREADS):  # workers import what they need
            next(answers)
        began = time.perf_counter()
        done = sum(1 for _ in answers)
        return done / (time.perf_counter() - began)


def folder_rates(place: Path, counts: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Folders a second that are made, renamed and looked for as a slide's is, with so many in one folder already."""
    found, there = {}, 0
    slides = place / "many"
    slides.mkdir()
    batch = 500
    for count in counts:
        for i in range(there, count):
            (slides / f"slide-{i:07d}").mkdir()
        began = time.perf_counter()
        for i in range(count, count + batch):
            (slides / f"slide-{i:07d}.partial").mkdir()
            (slides / f"slide-{i:07d}.partial" / "record.json").write_bytes(b"{}")
            (slides / f"slide-{i:07d}.partial").rename(slides / f"slide-{i:07d}")
        made = batch / (time.perf_counter() - began)
        began = time.perf_counter()
        for i in range(count, count + batch):
            (slides / f"slide-{i:07d}" / "record.json").read_bytes()
        found[str(count)] = {"made": made, "opened": batch / (time.perf_counter() - began)}
        there = count + batch
    return found


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    """All that is measured."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        runs = {workers: run(folder, Path(place) / str(workers), workers) for workers in (1, 2)}
        again = run(folder, Path(place) / "1", 1)["slides"]
        told = [sys.executable, __file__, "--profile", folder, Path(place) / "profile"]
        done = subprocess.run(
            [str(word) for word in told], check=True, capture_output=True, text=True, env=environment()
        )
        results |= json.loads(done.stdout.splitlines()[-1])
        results["folders"] = folder_rates(Path(place), (0, 2_000) if quick else (0, 20_000))
    results["units_per_second"] = scheduler_rate(folder, 100 if quick else 2000)
    slides = runs[1]["slides"]
    assert all(s["state"] == "already" for s in again)
    stages = {k: float(np.mean([s["times"]["stages"][k] for s in slides])) for k in slides[0]["times"]["stages"]}
    return results | {
        "quick": quick,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores used",
        "engine": slides[0]["engine"],
        "seconds": [seconds_of(s) for s in slides],
        "load_seconds": max(s["seconds"] - seconds_of(s) for s in slides),
        "stage_seconds": stages,
        "slide_bytes": [p.stat().st_size for p in sorted((folder / "slides").glob("*.svs"))],
        "tiles": [s["stages"]["predict"]["tiles"] for s in slides],
        "result_bytes_per_slide": float(np.mean([sum(o["bytes"] for o in s["outputs"].values()) for s in slides])),
        "facts_bytes_per_slide": float(np.mean([len(json.dumps(s, indent=1)) for s in slides])),
        "already_seconds": float(np.median([s["seconds"] for s in again])),
        "runs": {str(w): {"seconds": r["seconds"], "slides": [seconds_of(s) for s in r["slides"]]}
                 for w, r in runs.items()},
    }  # fmt: skip


def measured_tables(found: dict[str, Any]) -> str:
    """The measured part of the results, in Markdown."""
    seconds, tiles = np.array(found["seconds"]), sum(found["tiles"])
    lines = []
    if found["quick"]:
        lines += ["**A trial of the program on two small slides; its figures mean nothing.**", ""]
    lines += [
        f"{len(seconds)} generated slides of {np.mean(found['slide_bytes']) / 1e6:,.0f} MB (mean); "
        f"{found['engine']['name']}, {found['machine']}.",
        "",
        "| workers | s | slides/h | tiles/s | slides/h of each worker | s of a slide, mean |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for workers, r in found["runs"].items():
        rate = len(seconds) / r["seconds"] * 3600
        lines.append(
            f"| {workers} | {r['seconds']:,.0f} | {rate:,.0f} | {tiles / r['seconds']:,.1f} | "
            f"{rate / int(workers):,.0f} | {np.mean(r['slides']):,.1f} |"
        )
    whole = sum(found["cpu_seconds"].values())
    q = np.percentile(seconds, (0, 50, 90, 100))
    stages = ", ".join(f"{name} {s / sum(found['stage_seconds'].values()):.0%}" for name, s in
                       found["stage_seconds"].items())  # fmt: skip
    lines += [
        "",
        f"A slide takes {q[1]:.1f} s (median; {q[0]:.1f} to {q[3]:.1f}, nine of ten below {q[2]:.1f}): {stages}.",
        "",
        "| where the processor's time goes | s a slide | share |",
        "|---|--:|--:|",
        *(f"| {name} | {s:.2f} | {s / whole:.0%} |" for name, s in found["cpu_seconds"].items()),
        "",
        "| | |",
        "|---|--:|",
        f"| read of a slide's file | {found['read_bytes_per_slide'] / 1e6:,.1f} MB |",
        f"| kept of a slide | {found['result_bytes_per_slide'] / 1e3:,.0f} kB |",
        f"| more for its label map, if that is kept | {found['label_map_bytes_per_slide'] / 1e3:,.0f} kB |",
        f"| kept in run.json besides | {found['facts_bytes_per_slide'] / 1e3:,.1f} kB |",
        f"| to load the network, before a worker's first slide | {found['load_seconds']:,.1f} s |",
        f"| to find a slide finished | {found['already_seconds'] * 1e3:,.0f} ms |",
        f"| slides a second through Dask, with nothing to do | {found['units_per_second']:,.0f} |",
        *(
            f"| folders a second made / opened, beside {int(count):,} others | {r['made']:,.0f} / {r['opened']:,.0f} |"
            for count, r in found["folders"].items()
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slides", dest="count", type=int, default=12, help="slides to measure with")
    parser.add_argument("--folder", type=Path, help="where slides are kept for the next time")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--quick", action="store_true", help="two small slides; figures mean nothing")
    parser.add_argument("--profile", nargs=2, type=Path, help=argparse.SUPPRESS)
    add_options(parser)
    args = parser.parse_args()
    if args.profile:
        print(json.dumps(profile(*args.profile)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = args.folder or Path(place)
        make(folder, 2 if args.quick else args.count, 2.0 if args.quick else MPP)
        found = measure(folder, args.quick)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scaling.json").write_text(json.dumps(found, indent=1) + "\n")
    text = f"# Scaling: figures\n\nMade by `python benchmarks/scale.py`; what they mean is in [scaling](../scaling.md).\n\n## Measured\n\n{measured_tables(found)}\n\n## Computed\n\n{tables(found, args)}\n"  # fmt: skip
    (args.out / "scaling.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
