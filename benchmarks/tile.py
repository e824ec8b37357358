"""From a slide to Zarr: time and bytes against the straightforward loop, and memory against the slide's size.

    python benchmarks/tile.py [speed] [--size 20000] [--folder DIR] [--quick]
    python benchmarks/tile.py memory [--sizes 20000,100000] [--folder DIR] [--quick]

`speed` tiles the tissue of a generated Aperio slide at its own 0.25 µm/px: the straightforward loop (OpenSlide's
`read_region` tile by tile into an array with Zarr's default codec, tissue by a threshold on the thumbnail), and
`wsiseg tile` with each way of keeping pixels. Every row runs in a process of its own, on all cores. `memory` tiles a
slide whose JPEG bytes are those of one square repeated, at 1 µm/px. Slides are kept in DIR. Each prints its table and
writes it into docs/results/speed.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np
from shared.processes import own_peak
from shared.results import record
from shared.slides import aperio

SIZE = 512  # px of a tile
MPP = 0.25
WAYS = ("straightforward", "zstd", "jpeg", "slide", "reference")


def make(folder: Path, side: int) -> Path:
    """A generated slide of side × side px, drawn once."""
    from wsiseg.synthetic import SlideSpec, generate, write_slide

    path = folder / f"tissue-{side}.svs"
    if not path.exists():
        write_slide(generate(SlideSpec(3, side * MPP, side * MPP, "pas", MPP, ())), path)
    return path


def straightforward(path: Path, out: Path) -> None:
    """What anybody writes first."""
    import openslide
    import zarr

    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        small = np.asarray(slide.get_thumbnail((width // 64, height // 64)).convert("L"))
        wanted = []
        for y in range(0, height, SIZE):
            for x in range(0, width, SIZE):
                part = small[y // 64 : (y + SIZE) // 64, x // 64 : (x + SIZE) // 64]
                if part.size and part.min() < 215:
                    wanted.append((x, y))
        array = zarr.open(str(out), mode="w", shape=(len(wanted), SIZE, SIZE, 3), chunks=(1, SIZE, SIZE, 3), dtype="u1")
        for i, (x, y) in enumerate(wanted):
            array[i] = np.asarray(slide.read_region((x, y), 0, (SIZE, SIZE)).convert("RGB"))


def ours(path: Path, out: Path, pixels: str) -> None:
    """The same with this project."""
    from wsiseg.grid import Grid
    from wsiseg.selection.select import Selection
    from wsiseg.selection.tiling import tile_slide
    from wsiseg.slides.open import open_slide

    with open_slide(path) as slide:
        grid = Grid(slide.frame, SIZE, 0)
        tile_slide(slide, grid, Selection().apply(slide, grid).tiles, out, pixels=pixels, workers=2)


def work(way: str, path: Path, out: Path) -> None:
    """One row: seconds without imports, tiles and bytes, as JSON."""
    import zarr

    import_module("wsiseg.selection.tiling")  # what is imported is not timed
    start = time.perf_counter()
    straightforward(path, out) if way == "straightforward" else ours(path, out, way)
    seconds = time.perf_counter() - start
    found = zarr.open(str(out), mode="r")
    tiles = (found["index"] if isinstance(found, zarr.Group) else found).shape[0]
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(json.dumps({"seconds": seconds, "tiles": tiles, "bytes": size}))


def speed(folder: Path, side: int, quick: bool) -> None:
    """The table of `speed`."""
    path = make(folder, side)
    lines = []
    first = 0.0
    for way in WAYS:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            command = [
                sys.executable,
                __file__,
                "work",
                "--way",
                way,
                "--slide",
                str(path),
                "--out",
                f"{place}/out.zarr",
            ]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(run.stdout.splitlines()[-1])
        px = row["tiles"] * SIZE * SIZE
        rate = px / row["seconds"] / 1e6
        first = first or rate
        cells = (f"{row['seconds']:.1f}", f"{rate:.0f}", f"{rate / first:.1f}", f"{row['bytes'] / px:.3f}")
        lines.append(f"| {way} | {row['tiles']} | {' | '.join(cells)} |")
    text = "\n".join(
        [
            f"{side} × {side} px at {MPP} µm/px, {path.stat().st_size / side / side:.3f} bytes/px in the slide\n",
            "| pixels | tiles | s | Mpx/s | times the first | bytes/px |",
            "|---|--:|--:|--:|--:|--:|",
            *lines,
            "\nGoal: 5 times the straightforward loop.",
        ]
    )
    record("speed.md", "python benchmarks/tile.py speed", text, quick=quick)


def memory(folder: Path, sizes: list[int], quick: bool) -> None:
    """The table of `memory`."""
    lines = ["| px | tiles at 1 µm/px | s | peak MiB |", "|--:|--:|--:|--:|"]
    peaks = []
    for side in sizes:
        command = [sys.executable, __file__, "peak", "--slide", str(aperio(folder, side))]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        tiles, seconds, most = json.loads(run.stdout.splitlines()[-1])
        peaks.append(most)
        lines.append(f"| {side} × {side} | {tiles:,} | {seconds:.0f} | {most / 2**20:.0f} |")
        print(lines[-1], flush=True)
    lines.append(f"\nLast against first: {peaks[-1] / peaks[0]:.2f} ×.")
    record("speed.md", "python benchmarks/tile.py memory", "\n".join(lines), quick=quick)


def peak(path: Path) -> None:
    """One row of `memory`, as JSON."""
    from wsiseg.grid import Grid
    from wsiseg.selection.select import Selection
    from wsiseg.selection.tiling import tile_slide
    from wsiseg.slides.open import open_slide

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as place, open_slide(path) as slide:
        grid = Grid(slide.frame.at(1.0), SIZE, 0)
        store = tile_slide(slide, grid, Selection().apply(slide, grid).tiles, Path(place) / "store.zarr", workers=2)
        print(json.dumps([len(store), time.perf_counter() - start, own_peak()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("speed", "memory", "work", "peak"), default="speed")
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--sizes", type=lambda text: [int(s) for s in text.split(",")], default=[20_000, 100_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "wsiseg-tile")
    parser.add_argument("--quick", action="store_true", help="slides of 4096 px and more, and nothing is written down")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.what == "work":
        work(args.way, args.slide, args.out)
    elif args.what == "peak":
        peak(args.slide)
    elif args.what == "memory":
        memory(args.folder, [4096, 8192] if args.quick else args.sizes, args.quick)
    else:
        speed(args.folder, 4096 if args.quick else args.size, args.quick)


if __name__ == "__main__":
    main()
