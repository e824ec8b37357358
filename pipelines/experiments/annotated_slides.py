"""How many slides must a lab annotate? Trains on 1 to 36 biopsies, from ImageNet and from the bundled model.

    python pipelines/experiments/annotated_slides.py run --out RUNS --slides 8 2 16 --starts bundled --seeds 1
    python pipelines/experiments/annotated_slides.py table --out RUNS

A seed orders the 36 training biopsies once; a run takes the first ones, so that the smaller sets lie in the larger. An
order whose first two slides hold no sclerotic glomerulus is drawn again. Everything else is pipelines/kidney-glomeruli-2um.toml,
and the number of steps, which `STEPS` fixes for each number of slides whatever the start. The 21 test biopsies are
predicted once for each run, with the recipe's threshold; they choose nothing.

RUNS/START-SLIDES-SEED/    the slide list, the run of `wsiseg train`, test/evaluation.json when it is finished

Finished runs are not done again, and an interrupted one goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from wsiseg.annotations.formats import read_annotations

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parent / "kidney-glomeruli-2um.toml"
SLIDES = HERE.parent / "kidney-glomeruli.csv"
STEPS = {1: 400, 2: 400, 4: 600, 8: 800, 16: 1200, 36: 2000}
STARTS = {"bundled": HERE.parent.parent / "wsiseg" / "models" / "kidney-glomeruli", "imagenet": "imagenet"}
RARE = "Sclerotic glomerulus"
RESAMPLES = 10_000


def order(rows: list[dict[str, str]], root: Path, seed: int) -> list[dict[str, str]]:
    """The training biopsies in the order of a seed."""
    rng = np.random.default_rng((seed, 19))
    while True:
        drawn = [rows[i] for i in rng.permutation(len(rows))]
        labels = {p.label for row in drawn[:2] for p in read_annotations(root / row["annotations"]).polygons}
        if RARE in labels:
            return drawn


def run(out: Path, start: str, count: int, seed: int, settings: Iterable[str]) -> None:
    """Train and evaluate, from where an earlier call was stopped."""
    folder = out / f"{start}-{count}-{seed}"
    if (folder / "test" / "evaluation.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(os.environ["WSISEG_TEST_DATA"]) / "kidney"
    with SLIDES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = order([r for r in rows if r["split"] == "train"], root, seed)[:count]
    with (folder / "slides.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(chosen + [r for r in rows if r["split"] == "validation"])
    training = folder / "run"
    values = {
        "data.slides": folder / "slides.csv",
        "model.weights": STARTS[start],
        "training.steps": STEPS[count],
        "training.seed": seed,
        "training.evaluate_every": STEPS[count],
    }
    words = ["train", RECIPE, "--out", training, *(["--resume"] if training.exists() else [])]
    for setting in (*(f"{key}={value}" for key, value in values.items()), *settings):
        words += ["--set", setting]
    command = [sys.executable, "-c", "from wsiseg.cli import main; main()", *map(str, words)]
    if not (training / "model").exists():
        subprocess.run([*command, "--log-json", str(folder / "log.jsonl")], check=True)
    evaluate = [sys.executable, HERE.parent / "evaluate_slides.py", RECIPE, "--model", training / "model"]
    subprocess.run([*evaluate, "--split", "test", "--out", folder / "test"], check=True)


def table(out: Path) -> str:
    """Pooled Dice, recall and F1 of each run with 95 % intervals that resample the slides, as Markdown."""
    lines = [
        "| start | slides | seed | Dice, any | Dice, glomerulus | Dice, sclerotic | recall, any | F1, any |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(out.glob("*/test/evaluation.json"), key=lambda p: _key(p.parents[1].name)):
        result = json.loads(path.read_text())
        slides = list(result["slides"].values())
        confusion = np.array([s["confusion"] for s in slides], float)
        counts = np.array([[s["objects"]["any"][k] for k in ("found", "missed", "unmatched")] for s in slides], float)
        found, missed, unmatched = counts.T
        cells = [
            (2 * confusion[:, 1:, 1:].sum((1, 2)), confusion[:, 1:].sum((1, 2)) + confusion[:, :, 1:].sum((1, 2))),
            *((2 * confusion[:, i, i], confusion[:, i].sum(1) + confusion[:, :, i].sum(1)) for i in (1, 2)),
            (found, found + missed),
            (2 * found, 2 * found + missed + unmatched),
        ]
        start, count, seed = path.parents[1].name.rsplit("-", 2)
        lines.append(f"| {start} | {count} | {seed} | " + " | ".join(_interval(*cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _key(name: str) -> tuple[str, int, int]:
    start, count, seed = name.rsplit("-", 2)
    return start, int(count), int(seed)


def _interval(part: np.ndarray, whole: np.ndarray) -> str:
    drawn = np.random.default_rng(0).integers(len(part), size=(RESAMPLES, len(part)))
    low, high = np.percentile(part[drawn].sum(1) / np.maximum(whole[drawn].sum(1), 1), [2.5, 97.5])
    return f"{part.sum() / whole.sum():.3f} ({low:.3f}–{high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="How many slides must a lab annotate?")
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slides", type=int, nargs="+", choices=tuple(STEPS), default=tuple(STEPS))
    parser.add_argument("--starts", nargs="+", choices=tuple(STARTS), default=tuple(STARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE for the recipe")
    args = parser.parse_args()
    if args.what == "table":
        print(table(args.out), end="")
        return
    for seed in args.seeds:
        for count in args.slides:
            for start in args.starts:
                run(args.out.resolve(), start, count, seed, args.settings)


if __name__ == "__main__":
    main()
