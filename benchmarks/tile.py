"""From a slide to Zarr: time and bytes against the straightforward loop, and memory against the slide's size.

    python benchmarks/tile.py speed [--size 20000] [--folder DIR]
    python benchmarks/tile.py memory [--sizes 20000,50000,100000]

`speed` tiles the tissue of a generated Aperio slide at its own 0.25 µm/px: the straightforward loop (OpenSlide's
`read_region` tile by tile into an array with Zarr's default codec, tissue by a threshold on the thumbnail), and
`wsiseg tile` with each way of keeping pixels. Every row runs in a process of its own, on all cores. `memory` tiles a
slide whose pixels are painted when they are asked for, all of it tissue, at 1 µm/px. Each prints a Markdown table.
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
    from wsiseg.slides.open import open_slide
    from wsiseg.tiling import select_tiles, tile_slide
    from wsiseg.tissue import tissue_of

    with open_slide(path) as slide:
        grid = Grid(slide.frame, SIZE, 0)
        tile_slide(slide, grid, select_tiles(grid, tissue_of(slide)), out, pixels=pixels, workers=2)


def work(way: str, path: Path, out: Path) -> None:
    """One row: seconds without imports, tiles and bytes, as JSON."""
    import zarr

    import_module("wsiseg.tiling")  # what is imported is not timed
    start = time.perf_counter()
    straightforward(path, out) if way == "straightforward" else ours(path, out, way)
    seconds = time.perf_counter() - start
    found = zarr.open(str(out), mode="r")
    tiles = (found["index"] if isinstance(found, zarr.Group) else found).shape[0]
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(json.dumps({"seconds": seconds, "tiles": tiles, "bytes": size}))


def speed(folder: Path, side: int) -> None:
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
    print(f"{side} × {side} px at {MPP} µm/px, {path.stat().st_size / side / side:.3f} bytes/px in the slide\n")
    print("| pixels | tiles | s | Mpx/s | times the first | bytes/px |\n|---|--:|--:|--:|--:|--:|\n" + "\n".join(lines))


def memory(sizes: list[int]) -> None:
    """The table of `memory`."""
    print("| px | tiles at 1 µm/px | peak MiB |\n|--:|--:|--:|")
    for side in sizes:
        run = subprocess.run(
            [sys.executable, __file__, "peak", "--size", str(side)], capture_output=True, text=True, check=True
        )
        print(f"| {side} × {side} | {run.stdout.strip()} |", flush=True)


def peak(side: int) -> None:
    """One row of `memory`."""
    import resource

    from predict_memory import Painted

    from wsiseg.grid import Grid
    from wsiseg.slides.slide import Slide
    from wsiseg.tiling import select_tiles, tile_slide
    from wsiseg.tissue import tissue_of

    slide = Slide(Painted(side))
    grid = Grid(slide.frame.at(1.0), SIZE, 0)
    with tempfile.TemporaryDirectory() as place:
        store = tile_slide(slide, grid, select_tiles(grid, tissue_of(slide)), Path(place) / "store.zarr", workers=2)
        print(f"{len(store)} | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("speed", "memory", "work", "peak"), default="speed")
    parser.add_argument("--size", type=int, default=20000)
    parser.add_argument("--sizes", type=lambda text: [int(s) for s in text.split(",")], default=[20000, 50000, 100000])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.what == "work":
        work(args.way, args.slide, args.out)
    elif args.what == "peak":
        peak(args.size)
    elif args.what == "memory":
        memory(args.sizes)
    elif args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
        speed(args.folder, args.size)
    else:
        with tempfile.TemporaryDirectory() as place:
            speed(Path(place), args.size)


if __name__ == "__main__":
    main()
