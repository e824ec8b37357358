"""Where the time of training goes: how long it waits for data, and what it does the rest of the time.

    python benchmarks/training.py [--recipe pipelines/demo.toml] [--steps 200] [--folder DIR] [--quick]

A recipe's network learns from labelled slides alone (the method that has the least to compute beside its data), on
generated slides and from random weights, for fewer steps. The loop itself tells
which share of the time it waits for a batch; a method that holds a clock tells the rest. The first 20 steps, in which
the loading processes start and all slides are read for the first time, are left out. Prints the table and writes it
into docs/results/speed.md.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.results import record

from wsiseg.annotations.formats import write_annotations
from wsiseg.methods.context import Batches, Context
from wsiseg.methods.supervised.method import Supervised
from wsiseg.methods.supervised.options import SupervisedOptions
from wsiseg.progress import silent
from wsiseg.recipe import load_recipe
from wsiseg.synthetic import CLASSES, SlideSpec, generate, write_slide
from wsiseg.training.run import train
from wsiseg.training.trainer import LOG_EVERY

SLIDES = {"train": 4, "validation": 1}
SIDES_UM = (6000, 5000)
SPENT: Counter[str] = Counter()  # part -> s, of the steps that count


def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with its time added to a part."""

    def clocked(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*args, **options)
        finally:
            SPENT[part] += time.perf_counter() - start

    return clocked


class Timed(Supervised):
    """Supervised learning that holds a clock."""

    steps = 0

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.views.weak = timed("augmentation", self.views.weak)  # type: ignore[method-assign]
        self.student.fabric.backward = timed("backward", self.student.fabric.backward)
        self.student.optimiser.step = timed("step", self.student.optimiser.step)
        self.student.ema.update = timed("averaging", self.student.ema.update)  # type: ignore[method-assign]
        start = [0.0]
        net = self.student.net.module
        net.register_forward_pre_hook(lambda *_: start.__setitem__(0, time.perf_counter()))
        net.register_forward_hook(lambda *_: SPENT.update({"forward": time.perf_counter() - start[0]}))

    def update(self, batches: Batches, progress: float) -> dict[str, float]:
        if self.steps == LOG_EVERY:
            SPENT.clear()
        self.steps += 1
        metrics: dict[str, float] = timed("whole", super().update)(batches, progress)
        return metrics


def slides(folder: Path, quick: bool) -> Path:
    """The list of generated slides, made where it is not there; fewer and smaller ones for a smoke run."""
    folder = folder / ("quick" if quick else "whole")
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "slides.csv"
    if listed.exists():
        return listed
    lines, seed = ["slide,annotations,patient,split,tags"], 0
    for split, count in SLIDES.items():
        for _ in range(1 if quick else count):
            made = generate(SlideSpec(7000 + seed, *((2000, 2000) if quick else SIDES_UM), "pas", 1.0, ()))
            write_slide(made, folder / f"s{seed}.svs")
            write_annotations(folder / f"s{seed}.geojson", made.truth, classes=CLASSES, frame=made.frame)
            tags = ";".join(sorted({polygon.label or "" for polygon in made.truth}))
            lines.append(f"s{seed}.svs,s{seed}.geojson,p{seed},{split},{tags}")
            seed += 1
    listed.write_text("\n".join(lines) + "\n")
    return listed


def run(recipe_path: Path, folder: Path, steps: int, quick: bool) -> str:
    """Train, and tell where the time went."""
    changes = [f"data.slides={slides(folder, quick)}", f"training.steps={steps}", "model.weights=none"]
    changes += ['method={name="supervised"}']
    changes += [f"training.{name}_every={steps}" for name in ("evaluate", "checkpoint")]
    if quick:
        changes += ["training.batch=2", "training.crop=64"]
    recipe = load_recipe(recipe_path, tuple(changes))
    SupervisedOptions.implementation = f"{__name__}:Timed"
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = Path(place) / "run"
        train(recipe, out, device="auto", resume=False, overwrite=False, report=silent)
        with (out / "log.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["name"] == "waiting" and int(row["step"]) > LOG_EVERY]
    share = sum(float(row["value"]) for row in rows) / len(rows)
    whole = SPENT.pop("whole")
    total = whole / (1 - share)
    SPENT["losses and metrics"] = whole - sum(SPENT.values())
    SPENT["waiting for data"] = total - whole
    lines = [
        f"`{recipe_path.name}`, supervised: {recipe.model.encoder}, batches of {recipe.training.batch} crops of "
        f"{recipe.training.crop} px, {recipe.training.loaders} loading process; {steps - LOG_EVERY} steps, "
        f"{(steps - LOG_EVERY) / total:.2f} steps/s\n",
        "| part | share of the time |",
        "|---|--:|",
        *(f"| {part} | {seconds / total:.1%} |" for part, seconds in SPENT.most_common()),
    ]
    learning = sum(SPENT[part] for part in ("forward", "backward", "step")) / total
    lines.append(f"\nForward, backward and step: {learning:.1%} (goal 90 %); waiting for data: {share:.1%}.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).resolve().parents[1] / "pipelines" / "demo.toml")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "wsiseg-training")
    parser.add_argument("--quick", action="store_true", help="22 steps, and nothing is written down")
    args = parser.parse_args()
    steps = LOG_EVERY + 2 if args.quick else max(args.steps, 2 * LOG_EVERY)
    text = run(args.recipe, args.folder, steps, args.quick)
    record("speed.md", "python benchmarks/training.py", text, quick=args.quick)


if __name__ == "__main__":
    main()
