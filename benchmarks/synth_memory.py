"""Peak memory of `wsiseg synth` against the size of the slide.

    python benchmarks/synth_memory.py [--sizes 10000,40000] [--mpp 0.25]

The whole command, slide and truth with all nuclei, each size in a process of its own that tells its own peak
(`VmHWM` of Linux). Of the coarser levels the encoded tiles are held until their page is written, about a sixteenth of
the file, which is stated beside the peak; what changes slowly is held on a grid of 16 µm, all glomeruli in a list.
Nothing else may grow. Writes docs/results/synth-memory.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# Generating slides: memory

Made by `python benchmarks/synth_memory.py`: the whole of `wsiseg synth` at {mpp:g} µm/px, with the truth of all nuclei.
Held in memory, and growing with the slide, are: of the coarser levels the encoded tiles, about a sixteenth of the file;
what changes slowly, on a grid of 16 µm; and the list of glomeruli.

"""


def run(side: int, mpp: float, folder: Path) -> None:
    """Generate one slide and print a line of the table."""
    from wsiseg.cli import main as command

    slide, truth, mm = folder / "slide.svs", folder / "truth.geojson", side * mpp / 1000
    start = time.perf_counter()
    words = ["synth", "--out", slide, "--truth", truth, "--size-mm", f"{mm:g}x{mm:g}", "--mpp", f"{mpp:g}", "-q"]
    sys.argv = ["wsiseg", *map(str, words)]
    try:
        command()
    except SystemExit as end:
        if end.code:
            raise
    took, written = time.perf_counter() - start, slide.stat().st_size
    print(
        f"| {side:,} × {side:,} | {took:,.0f} | {written / 1e6:,.0f} | {truth.stat().st_size / 1e6:,.0f} | "
        f"{written / 16 / 2**20:,.0f} | {peak_mib():,.0f} |"
    )


def peak_mib() -> float:
    """Of this process alone; ru_maxrss would begin with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="10000,40000", help="px of level 0, with commas")
    parser.add_argument("--mpp", type=float, default=0.25, help="µm/px of level 0")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "synth-memory.md")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        with tempfile.TemporaryDirectory() as folder:
            run(args.one, args.mpp, Path(folder))
        return
    lines = [
        "| slide, px | s | slide, MB | truth, MB | a sixteenth of the slide, MiB | peak, MiB |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for size in args.sizes.split(","):
        told = [sys.executable, __file__, "--one", size, "--mpp", str(args.mpp)]
        done = subprocess.run(told, check=True, stdout=subprocess.PIPE, text=True)
        lines.append(done.stdout.splitlines()[-1])
        print(lines[-1], flush=True)
    trial = "**A trial of the program on small slides, on a busy machine.**\n\n"
    small = max(map(int, args.sizes.split(","))) < 10_000
    args.out.write_text(HEAD.format(mpp=args.mpp) + (trial if small else "") + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
