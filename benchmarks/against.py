"""The same prediction by others: time, processor time, peak memory, and whether the masks agree.

    python benchmarks/peers/install.py ENVIRONMENTS
    python benchmarks/against.py --environments ENVIRONMENTS [--size 20000] [--folder DIR] [--only NAME,…] [--quick]

One slide (Aperio's layout, a square of generated kidney repeated, 1.5 µm/px), one grid (tiles of 512 px that overlap by
128 px at 3 µm/px, no tissue mask, so that all are predicted), one network (TorchScript, the same file), two threads.
Once with the network of the demonstration model, DeepLabV3+, once with one that costs next to nothing: a 1 × 1
convolution that tells tissue from glass by its colour. Each program runs in a process of its own from the slide's file
to outlines as GeoJSON, and wsiseg to its label map besides. It tells how long it took without its imports and the
loading of its network; everything is measured from outside too.

What was measured is kept in DIR/results and not measured again (`--again` does); `--limit` ends a program that takes
too long. The grid begins half an overlap outside the slide in wsiseg and in the plain script, and at the slide's corner
in LazySlide and TIAToolbox, where that cannot be chosen; each shrinks and blends in its own way. So masks cannot agree
to the last pixel.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.processes import cost
from shared.results import record
from shared.slides import aperio
from torch import Tensor, nn

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.bundle import load_bundle
from wsiseg.data.augment import to_float
from wsiseg.geometry import Frame
from wsiseg.inference.engines import make_engine
from wsiseg.models import GLOMERULI
from wsiseg.selection.tissue import tissue_of
from wsiseg.slides.open import open_slide
from wsiseg.usage import Postprocessing, Usage

MPP, SLIDE_MPP = 3.0, 1.5
TILE, OVERLAP, BATCH, THREADS = 512, 128, 4, 2
HERE = Path(__file__).resolve().parent / "peers"
# Program -> the environment it runs in ("" is this one), its script, its engine
PROGRAMS = {
    "wsiseg, OpenVINO": ("", "by_wsiseg.py", "openvino"),
    "wsiseg, PyTorch": ("", "by_wsiseg.py", "torch"),
    "OpenSlide + PyTorch": ("plain", "by_plain.py", ""),
    "LazySlide": ("lazyslide", "by_lazyslide.py", ""),
    "TIAToolbox": ("tiatoolbox", "by_tiatoolbox.py", ""),
}
NETWORKS = {"nearly free": 8.0, "DeepLabV3+": 3.0}  # and how many times faster than the others wsiseg shall be
GREEN = 0.82  # of tissue and glass, between which the nearly free network divides


class Colour(nn.Module):
    """Tissue where there is less green than in glass: the first object class, and never another."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 1)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.bias.fill_(-20)
            self.conv.weight[:2, 1, 0, 0] = torch.tensor([40.0, -40.0])
            self.conv.bias[:2] = torch.tensor([-40 * GREEN, 40 * GREEN])

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


class FromPixels(nn.Module):
    """A network from (n, t, t, 3) uint8 to (n, classes, t, t) probabilities."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(to_float(pixels)).softmax(1)


def prepare(folder: Path) -> tuple[Path, dict[str, Path]]:
    """The bundle with this comparison's batch, every object as it is, and the networks as TorchScript."""
    bundle = folder / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(GLOMERULI, bundle)
    about = json.loads((bundle / "model.json").read_text())
    usage = Usage.from_json(about["usage"])
    usage = replace(usage, mpp=MPP, tile=TILE, overlap=OVERLAP, batch=BATCH, postprocessing=Postprocessing())
    about["usage"] = usage.to_json()
    (bundle / "model.json").write_text(json.dumps(about))
    loaded = load_bundle(bundle)
    made = {}
    for name, net in {"nearly free": Colour(len(loaded.classes)), "DeepLabV3+": loaded.network()}.items():
        made[name] = folder / f"{name.split()[0].lower().strip('+')}.pt"
        example = torch.zeros((BATCH, TILE, TILE, 3), dtype=torch.uint8)
        with torch.inference_mode():
            torch.jit.trace(FromPixels(net).eval(), example).save(str(made[name]))
    make_engine(loaded, "openvino", "cpu")  # converted once, and found in the cache by what is measured
    return bundle, made


def place(args: argparse.Namespace, program: str, network: str) -> Path:
    """The folder of what a program writes."""
    _, script, engine = PROGRAMS[program]
    parts = [str(args.size), network.split()[0].strip("+"), script.removesuffix(".py").removeprefix("by_"), engine]
    return args.folder / "out" / "-".join(part for part in parts if part)


def run(args: argparse.Namespace, program: str, network: str, slide: Path) -> dict[str, Any]:
    """What one program took, measured now or earlier."""
    environment, script, engine = PROGRAMS[program]
    out = place(args, program, network)
    kept = args.folder / "results" / f"{out.name}.json"
    if kept.exists() and not args.again:
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    python = args.environments / environment / "bin" / "python" if environment else Path(sys.executable)
    if not python.exists():
        return {"failed": "its environment is not there: python benchmarks/peers/install.py"}
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [
        str(python), str(HERE / script), "--slide", str(slide), "--network", str(args.networks[network]),
        "--mpp", f"{MPP}", "--tile", f"{TILE}", "--overlap", f"{OVERLAP}", "--batch", f"{BATCH}",
        "--threads", f"{THREADS}", "--classes", ",".join(args.classes), "--out", str(out), "--model", str(args.bundle),
        "--engine", engine if network != "nearly free" else "",
    ]  # fmt: skip
    variables = {k: v for k, v in os.environ.items() if not environment or k != "PYTHONPATH"}
    took = cost(command, variables | {"OMP_NUM_THREADS": f"{THREADS}"}, args.limit)
    if took.code != 0:
        why = "took longer than allowed" if took.code is None else (took.errors.strip().splitlines() or ["?"])[-1]
        return {"failed": why, "wall": took.wall}
    told = json.loads(took.output.strip().splitlines()[-1])
    result = {"wall": took.wall, "cpu": took.cpu, "peak": took.peak, **told}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result))
    return result


def mask(args: argparse.Namespace, program: str, network: str, frame: Frame, level0: Frame) -> np.ndarray:
    """The labels that a program found, in wsiseg's frame: its label map, or its outlines where it keeps none."""
    out = place(args, program, network)
    labels = np.zeros(frame.box.shape, np.uint8)
    if (out / "labels.npy").exists():
        found = np.load(out / "labels.npy", mmap_mode="r")[: frame.height, : frame.width]
        labels[: found.shape[0], : found.shape[1]] = found
        return labels
    regions = read_annotations(out / "outlines.geojson").polygons
    return Rasteriser(regions, load_bundle(args.bundle).classes, frame, level0).read(frame.box)


def rows(args: argparse.Namespace, slide: Path) -> Iterator[str]:
    """The table's rows, as they are measured."""
    with open_slide(slide) as opened:
        frame, level0 = opened.frame.at(MPP), opened.frame
        inside = tissue_of(opened)
        small = inside.frame
    y, x = (np.minimum(np.arange(n) * m // n, m - 1) for n, m in zip(frame.box.shape, inside.mask.shape, strict=True))
    assert small.mpp >= MPP
    tissue = inside.mask[y[:, None], x]
    for network in NETWORKS:
        ours: dict[str, Any] = {}
        reference = None
        for program in args.only:
            if network == "nearly free" and program == "wsiseg, OpenVINO":
                continue  # it has no bundle; the same script with PyTorch runs it
            got = run(args, program, network, slide)
            if "failed" in got:
                yield f"| {network} | {program} | | | | | | | | {got['failed']} |"
                continue
            there = mask(args, program, network, frame, level0)
            if not ours:
                ours, reference = got, there
            a, b = (m[tissue] for m in (reference, there))
            union = ((a > 0) | (b > 0)).sum()
            overlap = ((a > 0) & (a == b)).sum() / union if union else 1.0
            times = f"{got['wall']:.1f} | {got['seconds']:.1f} | {got['seconds'] / ours['seconds']:.1f}"
            costs = f"{got['cpu']:.1f} | {got['peak'] / 2**30:.2f} | {overlap:.4f}, {(a == b).mean():.2%}"
            yield f"| {network} | {program} | {got['tiles']} | {got['objects']:,} | {times} | {costs} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=Path("environments"), help="made by peers/install.py")
    parser.add_argument("--size", type=int, default=20_000, help="px of each side of the slide")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "wsiseg-against")
    parser.add_argument("--only", type=lambda text: text.split(";"), default=list(PROGRAMS), help="with semicolons")
    parser.add_argument("--limit", type=float, default=3600, help="s for one program")
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--quick", action="store_true", help="a slide of 2048 px, and nothing is written down")
    args = parser.parse_args()
    if args.quick:
        args.size = 2048
    args.environments = args.environments.resolve()
    args.folder.mkdir(parents=True, exist_ok=True)
    slide = aperio(args.folder, args.size, SLIDE_MPP)
    args.bundle, args.networks = prepare(args.folder)
    args.classes = load_bundle(args.bundle).classes.names
    lines = [
        f"{args.size} × {args.size} px at {SLIDE_MPP} µm/px, predicted at {MPP} µm/px, {THREADS} threads. Without "
        "start is without imports and loading; times compares it with the first row of the network; IoU and agreeing "
        "pixels are on tissue, against that row's mask.\n",
        "| network | program | tiles | objects | s | s without start | times | CPU s | peak GiB | IoU, same pixels |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    print("\n".join(lines), flush=True)
    for row in rows(args, slide):
        lines.append(row)
        print(row, flush=True)
    goals = " and ".join(f"{times:g} times with {name}" for name, times in NETWORKS.items())
    lines.append(f"\nGoals: {goals}, peak memory of wsiseg at most 2.5 GiB.")
    record("against-others.md", "python benchmarks/against.py", "\n".join(lines), quick=args.quick)


if __name__ == "__main__":
    main()
