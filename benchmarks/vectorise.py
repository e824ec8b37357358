"""How fast outlines are, next to rasterio, and how much memory they take.

    python benchmarks/vectorise.py speed [--size 20000] [--objects 45000]
    python benchmarks/vectorise.py memory [--sizes 10000 20000 50000 100000]

Both make their label maps themselves, the same ones every time: one object in every cell of a lattice, of four classes,
with a wavy outline; some have a hole, and some a nucleus of another class in it. `speed` needs `rasterio`, which comes
with `pip install wsiseg[bench]`. Each prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import shapely

from wsiseg.annotations.contours import trace_pixels
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.annotations.trace import trace
from wsiseg.classes import ClassMap
from wsiseg.geometry import Frame

CLASSES = ClassMap(("background", "tubule", "glomerulus", "vessel", "nucleus"))
BAND = 512  # rows, for `speed`


def stamps(largest: int) -> list[np.ndarray]:
    """Objects to choose from, uint8, at most `largest` px wide and high."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(200):
        size = int(rng.uniform(0.25, 1) * largest)
        y, x = np.mgrid[0:size, 0:size] - (size - 1) / 2
        angle, distance = np.arctan2(y, x), np.hypot(x, y) / (size / 2)
        waves = [rng.uniform(0, 0.12) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5, 9)]
        label = 1 + i % 4
        stamp = np.where(distance < 0.75 + sum(waves), label, 0)
        if i % 5 == 0:
            stamp[distance < 0.3] = 0
        if i % 10 == 0:
            stamp[distance < 0.2] = 1 + label % 4
        out.append(stamp.astype(np.uint8))
    return out


def strips(size: int, cell: int) -> Iterator[np.ndarray]:
    """The rows of the lattice, uint8 (cell, size), the last one cut."""
    choice = stamps(cell - 2)
    for top in range(0, size, cell):
        rng = np.random.default_rng(top)
        strip = np.zeros((cell, size), np.uint8)
        for left in range(0, size - cell + 1, cell):
            stamp = choice[rng.integers(len(choice))]
            free = cell - 1 - len(stamp)
            x, y = left + rng.integers(free), rng.integers(free)
            strip[y : y + len(stamp), x : x + len(stamp)] = stamp
        yield strip[: size - top]


def bands(size: int, cell: int) -> Iterator[np.ndarray]:
    """The map in bands that cut through the objects."""
    for strip in strips(size, cell):
        yield strip[: cell // 3]
        yield strip[cell // 3 :]


def timed(*streams: Callable[[], Iterator[Any]], repeat: int) -> list[tuple[float, float]]:
    """The shortest seconds of the clock and of the processor that it takes to run through each stream, in turns."""
    runs: list[list[tuple[float, float]]] = [[] for _ in streams]
    for _ in range(repeat):
        for stream, times in zip(streams, runs, strict=True):
            start, cpu = time.perf_counter(), time.process_time()
            deque(stream(), maxlen=0)
            times.append((time.perf_counter() - start, time.process_time() - cpu))
    return [tuple(map(min, zip(*times, strict=True))) for times in runs]


def speed(size: int, objects: int, repeat: int) -> None:
    """Times both on one map in memory and compares what they found."""
    from rasterio.features import shapes

    labels = np.concatenate(list(strips(size, round(size / objects**0.5))))
    mask = labels > 0
    corner = np.s_[:512, :512]
    list(trace_pixels([labels[corner]]))  # compiles
    list(shapes(labels[corner], mask=mask[corner]))

    def theirs() -> Iterator[Any]:
        return shapes(labels, mask=mask, connectivity=4)

    def ours() -> Iterator[Any]:
        return trace_pixels(labels[y : y + BAND] for y in range(0, size, BAND))

    times = timed(theirs, ours, repeat=repeat)
    found = [[(int(value), shapely.geometry.shape(shape)) for shape, value in theirs()], list(ours())]
    print(f"{size} × {size} px, {len(found[1])} objects, best of {repeat}\n")
    print("| | s (clock) | s (processor) | Mpx/s | objects | corners | valid | exact |")
    print("|---|--:|--:|--:|--:|--:|--:|---|")
    frame = Frame(size, size, 1.0)
    for name, objects_found, (clock, cpu) in zip(
        ("rasterio.features.shapes", "wsiseg.annotations.trace"), found, times, strict=True
    ):
        polygons = np.array([polygon for _, polygon in objects_found])
        regions = [LabelledPolygon(polygon, CLASSES.names[label]) for label, polygon in objects_found]
        exact = np.array_equal(rasterise(regions, CLASSES, frame.box, frame, frame), labels)
        print(
            f"| {name} | {clock:.2f} | {cpu:.2f} | {size * size / cpu / 1e6:.0f} | {len(polygons)} "
            f"| {shapely.get_num_coordinates(polygons).sum()} | {shapely.is_valid(polygons).mean():.2%} "
            f"| {'yes' if exact else 'no'} |",
            flush=True,
        )
    same = fingerprint(found[0]) == fingerprint(found[1])
    ratios = [slow / fast for slow, fast in zip(*times, strict=True)]
    print(
        f"\nThe same objects: {'yes' if same else 'no'}. Ratio: {ratios[1]:.1f} (processor), {ratios[0]:.1f} (clock)."
    )


def fingerprint(found: list[tuple[int, shapely.Polygon]]) -> list[tuple[float, ...]]:
    """Label, area and bounds of every object, sorted."""
    polygons = np.array([polygon for _, polygon in found])
    columns = np.column_stack([[label for label, _ in found], shapely.area(polygons), shapely.bounds(polygons)])
    return sorted(map(tuple, columns.tolist()))


def memory(sizes: list[int], cell: int) -> None:
    """Vectorises maps of growing size, each in a process of its own."""
    print("| map | objects | corners | s (processor) | map per band | peak memory before | peak memory |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for size in sizes:
        command = [sys.executable, __file__, "one", "--size", str(size), "--cell", str(cell)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"| {size} × {size} | {row['objects']} | {row['corners']} | {row['seconds']:.1f} "
            f"| {cell * size / 1e6:.0f} MB | {row['before']:.0f} MB | {row['peak']:.0f} MB |",
            flush=True,
        )


def one(size: int, cell: int) -> None:
    """Vectorises one map that is made on the way, and prints what that took."""
    list(trace_pixels([np.ones((3, 3), np.uint8)]))  # loads what is compiled
    before, start = peak(), time.process_time()
    frame = Frame(size, size, 1.0)
    objects = corners = 0
    for region in trace(bands(size, cell), CLASSES, frame, frame):
        objects += 1
        corners += shapely.get_num_coordinates(region.polygon)
    seconds = time.process_time() - start
    row = {"objects": objects, "corners": int(corners), "seconds": seconds, "before": before, "peak": peak()}
    print(json.dumps(row))


def peak() -> float:
    """The most memory that this process has had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed", help="next to rasterio")
    fast.add_argument("--size", type=int, default=20_000, help="px of each side")
    fast.add_argument("--objects", type=int, default=45_000, help="cells of the lattice")
    fast.add_argument("--repeat", type=int, default=3, help="runs of each, of which the best counts")
    large = commands.add_parser("memory", help="peak memory against the size of the map")
    large.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 20_000, 50_000, 100_000], help="px of each side"
    )
    large.add_argument("--cell", type=int, default=98, help="px from one object to the next")
    single = commands.add_parser("one", help="one row of `memory`")
    single.add_argument("--size", type=int, required=True)
    single.add_argument("--cell", type=int, required=True)
    options = vars(parser.parse_args())
    {"speed": speed, "memory": memory, "one": one}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
