"""Peak memory of a whole prediction against the slide's size.

    python benchmarks/predict_memory.py [--sizes 20000,50000,100000]

Each size runs in a process of its own: `predict_slide` from tissue to GeoJSON, on a slide at 0.25 µm/px whose pixels
are painted when they are asked for (discs on a lattice, all of it tissue), with an engine that costs nearly nothing and
a model of three classes at 1 µm/px. So reading, blending, label map and outlines are measured, not a network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg.bundle import ModelBundle, Usage
from wsiseg.classes import ClassMap
from wsiseg.geometry import Box
from wsiseg.nets.generator import Architecture
from wsiseg.predict import Job, predict_slide
from wsiseg.slides.slide import Slide

MPP = 0.25
PITCH_UM, RADIUS_UM = 150.0, 50.0  # of the discs: a glomerulus each


class Painted:
    """A slide of any size that takes no memory: see `wsiseg.slides.backend.Backend`."""

    name, path, vendor, mpp_doubt = "painted", "painted.slide", "painted", ""
    bounds: Box | None = None
    properties: Mapping[str, str] = {}  # as the protocol has it

    def __init__(self, side: int) -> None:
        self.levels = tuple((side // n, side // n) for n in (1, 4, 16))
        self.mpp = (MPP, MPP)

    def read(self, level: int, box: Box) -> np.ndarray:
        um = MPP * self.levels[0][0] / self.levels[level][0]
        x = ((np.arange(box.x, box.right) + 0.5) * um) % PITCH_UM - PITCH_UM / 2
        y = ((np.arange(box.y, box.bottom) + 0.5) * um) % PITCH_UM - PITCH_UM / 2
        inside = (x * x)[None, :] + (y * y)[:, None] < RADIUS_UM * RADIUS_UM
        return np.where(inside[..., None], np.uint8((120, 60, 140)), np.uint8((230, 160, 200)))

    def identity(self) -> dict[str, Any]:
        return {"name": "painted", "size": self.levels[0][0], "hash": "none"}

    def close(self) -> None:
        pass


class Threshold:
    """An engine that looks at one colour: dark is an object, of a kind that its place decides."""

    identity = {"name": "threshold"}  # noqa: RUF012

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        dark = (images[..., 0] < 180).astype(np.float32)
        return np.stack([1 - dark, 0.7 * dark, 0.3 * dark], 1)


def run(side: int) -> None:
    """Predict and print size, objects, seconds and peak MiB."""
    bundle = ModelBundle(
        "threshold", ClassMap(("Background", "A", "B")), Usage(1.0, 512, 128, 4, object_above=0.5),
        Architecture("none", 3, (0.5,) * 3, (0.5,) * 3), "none",
    )  # fmt: skip
    before = peak_mib()
    with tempfile.TemporaryDirectory() as folder, Slide(Painted(side)) as slide:
        start = time.perf_counter()
        made = predict_slide(slide, bundle, Threshold(), Job(Path(folder) / "out.geojson"))
        took = time.perf_counter() - start
    print(f"| {side} × {side} | {made.objects:,} | {took:.0f} | {before:.0f} | {peak_mib():.0f} |", flush=True)


def peak_mib() -> float:
    """Of this process alone; ru_maxrss would begin with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="20000,50000,100000", help="px of level 0, with commas")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run(args.one)
        return
    print("| slide, px | objects | seconds | MiB before | peak MiB |\n|---|---|---|---|---|", flush=True)
    for size in args.sizes.split(","):
        subprocess.run([sys.executable, __file__, "--one", size], check=True)


if __name__ == "__main__":
    main()
