"""Peak memory of a whole prediction against the slide's size.

    python benchmarks/predict_memory.py [--sizes 20000,100000] [--network colour|demonstration] [--folder DIR] [--quick]

Each size runs in a process of its own, from the file to GeoJSON: a slide in Aperio's layout at 0.25 µm/px, a square of
generated kidney repeated. `colour` is a network that costs next to nothing, with three classes at 1 µm/px: reading,
blending, label map and outlines are measured. `demonstration` is the model that comes along, run by PyTorch, made to
work at 4 µm/px: what a user's process holds. Slides are kept in DIR; 100,000 × 100,000 px take about 1.5 GB. Prints the
table and writes it into docs/results/speed.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from shared.processes import own_peak
from shared.results import record
from shared.slides import aperio

from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.classes import ClassMap
from wsiseg.inference.engines import make_engine
from wsiseg.inference.engines.engine import Engine
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.memory import BASE, estimate
from wsiseg.models import GLOMERULI
from wsiseg.nets.segmentation import Architecture
from wsiseg.slides.open import open_slide
from wsiseg.usage import Postprocessing, Usage

GOAL = 1.2
LARGE_UM2 = 400.0  # smaller specks of colour are no objects


class Colour:
    """An engine that looks at one colour: dark is an object, of one of two kinds."""

    identity = {"name": "colour"}  # noqa: RUF012
    streams = 1

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        dark = (images[..., 1] < 150).astype(np.float32)
        return np.stack([1 - dark, 0.7 * dark, 0.3 * dark], 1)


def model(network: str) -> tuple[ModelBundle, Engine]:
    """The bundle and what runs it."""
    if network == "colour":
        usage = Usage(1.0, 512, 128, 4, foreground_threshold=0.5, postprocessing=Postprocessing(LARGE_UM2))
        architecture = Architecture("none", 3, (0.5,) * 3, (0.5,) * 3)
        return ModelBundle("colour", ClassMap(("Background", "A", "B")), usage, architecture, "none"), Colour()
    bundle = load_bundle(GLOMERULI)
    bundle = replace(bundle, usage=replace(bundle.usage, mpp=4.0))
    return bundle, make_engine(bundle, "torch", "cpu")


def one(path: Path, network: str) -> None:
    """Predict, and print what it took as JSON."""
    bundle, engine = model(network)
    if network != "colour":  # once, so that what comes before the slide is all there
        engine.probabilities(np.zeros((bundle.usage.batch, bundle.usage.tile, bundle.usage.tile, 3), np.uint8))
    before = own_peak()
    with tempfile.TemporaryDirectory() as folder, open_slide(path) as slide:
        start = time.perf_counter()
        made = predict_slide(slide, bundle, engine, PredictOptions(Path(folder) / "out.geojson"))
        seconds = time.perf_counter() - start
        promised = BASE + estimate(slide, [bundle.identity])
    print(json.dumps([made.objects, seconds, before, own_peak(), promised]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=lambda text: [int(s) for s in text.split(",")], default=[20_000, 100_000])
    parser.add_argument("--network", choices=("colour", "demonstration"), default="colour")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "wsiseg-memory")
    parser.add_argument("--quick", action="store_true", help="slides of 4096 and 8192 px, and nothing is written down")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one, args.network)
        return
    lines = [
        "| slide, px | objects | s | MiB before | peak MiB | `--max-ram` asks for, MiB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    print("\n".join(lines), flush=True)
    peaks = []
    for size in [4096, 8192] if args.quick else args.sizes:
        path = aperio(args.folder, size)
        command = [sys.executable, __file__, "--one", str(path), "--network", args.network]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        objects, seconds, before, peak, promised = json.loads(done.stdout.splitlines()[-1])
        peaks.append(peak)
        mib = " | ".join(f"{value / 2**20:.0f}" for value in (before, peak, promised))
        lines.append(f"| {size} × {size} | {objects:,} | {seconds:.0f} | {mib} |")
        print(lines[-1], flush=True)
    lines.append(f"\nLast against first: {peaks[-1] / peaks[0]:.2f} × (goal {GOAL} for 100,000 against 20,000 px).")
    command = f"python benchmarks/predict_memory.py --network {args.network}"
    record("speed.md", command, "\n".join(lines), quick=args.quick)


if __name__ == "__main__":
    main()
