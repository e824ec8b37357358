"""The experiment of README.md in this folder: arms × seeds on real biopsies, resumed where it was stopped.

    python pipelines/experiments/semi_supervised.py run --out RUNS --arms main --seeds 1-6 --labelled 8
    python pipelines/experiments/semi_supervised.py tune --out RUNS
    python pipelines/experiments/semi_supervised.py table --out RUNS

RUNS/stores/      one labelled TileStore per slide, for all runs (stores-2um/ for the runs at 2 µm/px)
RUNS/ARM-N-SEED/  checkpoint and log.csv of a run while it lasts, and its result.json

Several such processes may work on the same RUNS: each takes what no other has. Runs that the committed per-slide.csv
already holds are not done again.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.trace import trace
from wsiseg.data.slides import SlideEntry, read_slides
from wsiseg.errors import WsisegError
from wsiseg.evaluation.evaluate import SlideEvaluation, evaluate_slide
from wsiseg.geometry import Box
from wsiseg.grid import Grid
from wsiseg.inference.blend import Blender
from wsiseg.inference.engines.engine import infer
from wsiseg.inference.engines.torch import TorchEngine
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.progress import silent
from wsiseg.recipe import Recipe, load_recipe
from wsiseg.selection.select import Selection
from wsiseg.slides.open import open_slide
from wsiseg.stores.tiles import TileStore
from wsiseg.training.run import make_fabric, tile_row, usage_of
from wsiseg.training.trainer import Trainer, TrainingSlides

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "semi_supervised.toml"
TEST, TEST_SEED = 16, 4
HELD_BACK = 10  # pool slides that judge a tuning run

# Arm -> (what its unlabelled crops come from, overrides of the recipe)
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "supervised": ("none", ()),
    "adversarial": ("pool", ("method.name=adversarial",)),
    "patch": ("pool", ("method.name=adversarial", "method.discriminator=patch")),
    "consistency": ("pool", ("method.name=consistency",)),
    "adversarial-placebo": ("labelled", ("method.name=adversarial",)),
    "consistency-placebo": ("labelled", ("method.name=consistency",)),
    "mean_teacher": ("pool", ("method.name=mean_teacher",)),
    "self_training": ("pool", ("method.name=self_training",)),
    "oracle": ("none", ()),
    "supervised-long": ("none", ("training.steps=1000",)),  # the time that consistency takes
    **{
        f"{name}-2um": (source, (f"method.name={name}", "data.mpp=2.0", "training.crop=256"))
        for name, source in (("supervised", "none"), ("adversarial", "pool"), ("consistency", "pool"))
    },
}
MAIN = ("supervised", "adversarial", "consistency", "adversarial-placebo", "consistency-placebo")
TRIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "supervised": tuple((f"method.learning_rate={rate}",) for rate in ("2e-3", "4e-3", "8e-3")),
    "adversarial": (
        ("method.unlabelled_weight=0.001",),
        ("method.unlabelled_weight=0.01",),
        ("method.unlabelled_weight=0.001", "method.self_taught_weight=0.1"),
    ),
    "consistency": tuple(
        (f"method.confidence_threshold={c}",) for c in ("[0.95]", "[0.8]", "[0.95, 0.7, 0.7]")
    ),
}  # fmt: skip
TUNING_SEEDS = (100,)
COUNTED = ("both_px", "truth_px", "said_px", "found", "missed", "unmatched")
Key = tuple[str, int, int]  # arm, outlined slides, seed


@dataclass(frozen=True)
class Split:
    """Which slides a seed learns from and is judged on."""

    labelled: tuple[SlideEntry, ...]
    unlabelled: tuple[SlideEntry, ...]
    judged: tuple[SlideEntry, ...]


def split_of(rows: Sequence[SlideEntry], seed: int, labelled: int, *, tuning: bool) -> Split:
    """The split that the plan describes."""
    choice = [r for r in rows if r.split != "test"]
    test = {choice[i].name for i in np.random.default_rng(TEST_SEED).choice(len(choice), TEST, replace=False)}
    pool = [r for r in rows if r.name not in test]
    rng = np.random.default_rng((seed, 8))
    while True:
        order = [pool[i] for i in rng.permutation(len(pool))]
        if any("Sclerotic glomerulus" in labels_of(r) for r in order[:labelled]):
            break
    first, rest = tuple(order[:labelled]), tuple(order[labelled:])
    if tuning:
        return Split(first, rest[HELD_BACK:], rest[:HELD_BACK])
    return Split(first, rest, tuple(r for r in rows if r.name in test))


def labels_of(row: SlideEntry) -> set[str | None]:
    """The classes outlined on a slide."""
    assert row.annotations is not None
    return {r.label for r in read_annotations(row.annotations).polygons}


def run_one(out: Path, arm: str, seed: int, labelled: int, extra: tuple[str, ...] = (), name: str = "") -> None:
    """One arm with one seed, from the start or from its checkpoint, to result.json. No-op where another is at it."""
    folder = out / (name or f"{arm}-{labelled}-{seed}")
    folder.mkdir(parents=True, exist_ok=True)
    with taken(folder) as mine:
        if mine and not (folder / "result.json").exists():
            _run_one(out, folder, arm, seed, labelled, extra)


@contextmanager
def taken(folder: Path) -> Iterator[bool]:
    """Whether this process alone works in the folder until the end of the block."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _run_one(out: Path, folder: Path, arm: str, seed: int, labelled: int, extra: tuple[str, ...]) -> None:
    source, overrides = ARMS[arm]
    tuning = seed in TUNING_SEEDS
    recipe = load_recipe(RECIPE, (*overrides, *extra, f"training.seed={seed}"))
    rows = read_slides(Path(recipe.data.slides), Path(recipe.data.root))
    split = split_of(rows, seed, labelled, tuning=tuning)
    tiles = out / ("stores" if recipe.data.mpp == 4.0 else f"stores-{recipe.data.mpp:g}um")
    stores = {r.name: tile_row(r, recipe, recipe.classes.class_map(), tiles, print) for r in rows}
    teach = split.labelled + (split.unlabelled if arm == "oracle" else ())
    pool = {"none": (), "pool": split.unlabelled, "labelled": split.labelled}[source]
    net = train_one(recipe, [stores[r.name] for r in teach], [stores[r.name] for r in pool], folder)
    engine = TorchEngine(net, torch.device("cpu"))
    slides = {r.name: counts(judge(r, stores[r.name], recipe, engine), recipe) for r in split.judged}
    result = {
        "arm": arm, "seed": seed, "labelled": labelled, "settings": list(extra), "teach": [r.name for r in teach],
        "unlabelled": [r.name for r in pool], "slides": slides,
    }  # fmt: skip
    (folder / "result.partial").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "result.partial").rename(folder / "result.json")
    shutil.rmtree(folder / "checkpoint")
    print(
        f"{folder.name}: Dice {dice(slides.values(), 'any'):.3f}, recall {recall(slides.values(), 'any'):.3f}",
        flush=True,
    )


def train_one(recipe: Recipe, labelled: list[TileStore], unlabelled: list[TileStore], folder: Path) -> SegmentationNet:
    """The recipe's method on these stores; the EMA."""
    fabric = make_fabric(torch.device("cpu"), 1, recipe.training.precision)
    slides = TrainingSlides(labelled, unlabelled)
    return Trainer(recipe, slides, folder, fabric=fabric, usage=usage_of(recipe), about={}, report=silent).run()


def judge(row: SlideEntry, store: TileStore, recipe: Recipe, engine: TorchEngine) -> SlideEvaluation:
    """Predict a slide from its store and compare it with its outlines, at the resolution of the prediction."""
    classes, usage = recipe.classes.class_map(), usage_of(recipe)
    grid = Grid(store.grid.frame, usage.tile, usage.overlap)
    labels = np.zeros((grid.frame.height, grid.frame.width), np.uint8)
    blender = Blender(grid, len(classes), foreground_threshold=usage.foreground_threshold)
    with open_slide(row.slide, mpp=row.mpp) as slide:
        level0 = slide.frame
        tiles = Selection().apply(slide, grid).tiles

    def keep(before: int) -> None:
        for number, part, _ in blender.rows(before=before):
            labels[number * grid.stride : number * grid.stride + len(part)] = part

    for i in range(0, len(tiles), usage.batch):
        part = tiles[i : i + usage.batch]
        images = [store.read(t.read) for t in part]
        images += [images[0]] * (usage.batch - len(part))
        for tile, scores in zip(part, infer(engine, np.stack(images), tta=usage.tta), strict=False):
            keep(tile.row)
            blender.add(tile, scores)
    keep(grid.shape[0])
    sizes = {"min_area_um2": usage.postprocessing.min_object_um2, "min_hole_um2": usage.postprocessing.min_hole_um2}
    said: list[LabelledPolygon] = list(trace(iter([labels]), classes, grid.frame, level0, **sizes))
    assert row.annotations is not None
    truth = [r for r in read_annotations(row.annotations).polygons if r.label is not None]

    def read(box: Box) -> np.ndarray:
        return labels[box.slices]

    return evaluate_slide(row.name, truth, said, classes, grid.frame, level0, labels=read)


def counts(found: SlideEvaluation, recipe: Recipe) -> dict[str, Any]:
    """What all figures follow from: pixels and objects of each class, and of any."""
    c = found.confusion
    parts = {name: (c[i, i], c[i].sum(), c[:, i].sum()) for i, name in enumerate(recipe.classes.names) if i}
    parts["any"] = (c[1:, 1:].sum(), c[1:].sum(), c[:, 1:].sum())
    objects = found.objects | {"any": found.any_object}
    return {
        name: {
            "both_px": int(both), "truth_px": int(truth), "said_px": int(said),
            "found": len(objects[name].found), "missed": len(objects[name].missed),
            "unmatched": len(objects[name].unmatched),
        }
        for name, (both, truth, said) in parts.items()
    }  # fmt: skip


def dice(slides: Iterable[dict[str, Any]], name: str) -> float:
    """Pooled over slides."""
    rows = [s[name] for s in slides]
    return 2 * sum(r["both_px"] for r in rows) / max(1, sum(r["truth_px"] + r["said_px"] for r in rows))


def recall(slides: Iterable[dict[str, Any]], name: str) -> float:
    """Of objects, pooled over slides."""
    rows = [s[name] for s in slides]
    return sum(r["found"] for r in rows) / max(1, sum(r["found"] + r["missed"] for r in rows))


def f1(slides: Iterable[dict[str, Any]], name: str) -> float:
    """Of objects, pooled over slides."""
    rows = [s[name] for s in slides]
    found = 2 * sum(r["found"] for r in rows)
    return found / max(1, found + sum(r["missed"] + r["unmatched"] for r in rows))


def tune(out: Path, labelled: int, results: Path, arms: Sequence[str]) -> None:
    """Run what the tuning of these arms still lacks and keep the best settings of each by Dice of any object.

    The supervised arm comes first: all others learn at its rate.
    """
    for arm in arms:
        first = () if arm == "supervised" else settings_for("supervised", results)
        files = []
        for i, settings in enumerate(TRIES[arm]):
            for seed in TUNING_SEEDS:
                name = f"tune-{arm}-{i}-{labelled}-{seed}"
                run_one(out, arm, seed, labelled, (*first, *settings), name)
                files.append(out / name / "result.json")
        if not all(f.exists() for f in files):
            print(f"Another process is still tuning {arm}: call this again when it has ended.")
            continue
        each = [dice(json.loads(f.read_text())["slides"].values(), "any") for f in files]
        scores = np.reshape(each, (-1, len(TUNING_SEEDS))).mean(1)
        tuned = json.loads((results / "tuned.json").read_text()) if (results / "tuned.json").exists() else {}
        tuned[arm] = {
            "tries": TRIES[arm], "dice": scores.round(4).tolist(), "best": TRIES[arm][int(scores.argmax())]
        }  # fmt: skip
        results.mkdir(parents=True, exist_ok=True)
        (results / "tuned.json").write_text(json.dumps(tuned, indent=1) + "\n")
        print(f"{arm}: {tuned[arm]}", flush=True)


def settings_for(arm: str, results: Path) -> tuple[str, ...]:
    """The tuned settings of an arm: the supervised rate for all, and the method's own."""
    if not (results / "tuned.json").exists():
        raise WsisegError(f"{results} has no tuned.json: run `tune` first.")
    tuned = json.loads((results / "tuned.json").read_text())
    method = arm.removesuffix("-placebo").removesuffix("-2um").removesuffix("-long").replace("patch", "adversarial")
    own = tuned.get(method, {"best": []})
    return tuple(dict.fromkeys([*tuned["supervised"]["best"], *own["best"]]))


def committed(results: Path) -> dict[Key, list[dict[str, str]]]:
    """The lines of per-slide.csv, for each run that it holds."""
    found: dict[Key, list[dict[str, str]]] = {}
    path = results / "per-slide.csv"
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault((row["arm"], int(row["labelled"]), int(row["seed"])), []).append(row)
    return found


def table(out: Path, results: Path) -> None:
    """All results as a CSV of one line per arm, seed, slide and class, beside those that it already holds."""
    found = committed(results)
    for path in sorted(out.glob("*/result.json")):
        r = json.loads(path.read_text())
        if r["seed"] in TUNING_SEEDS:
            continue
        run = {"arm": r["arm"], "labelled": r["labelled"], "seed": r["seed"]}
        found[r["arm"], r["labelled"], r["seed"]] = [
            run | {"slide": slide, "class": name} | {c: row[c] for c in COUNTED}
            for slide, classes in r["slides"].items()
            for name, row in classes.items()
        ]
    results.mkdir(parents=True, exist_ok=True)
    order = {arm: i for i, arm in enumerate(ARMS)}
    with (results / "per-slide.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["arm", "labelled", "seed", "slide", "class", *COUNTED], lineterminator="\n")
        writer.writeheader()
        for key in sorted(found, key=lambda k: (-k[1], order[k[0]], k[2])):
            writer.writerows(found[key])


def numbers(text: str) -> list[int]:
    """ "1-3,7" -> [1, 2, 3, 7]"""
    parts = [p.split("-") for p in text.split(",")]
    return [n for p in parts for n in range(int(p[0]), int(p[-1]) + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "tune", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", default="main", help="main, or names with commas")
    parser.add_argument("--seeds", type=numbers, default=numbers("1-6"))
    parser.add_argument("--labelled", type=int, default=8)
    parser.add_argument("--results", type=Path, default=HERE.parents[1] / "docs" / "results" / "semi-supervised")
    args = parser.parse_args()
    try:
        if args.what == "tune":
            tune(args.out, args.labelled, args.results, list(TRIES) if args.arms == "main" else args.arms.split(","))
        elif args.what == "table":
            table(args.out, args.results)
        else:
            arms = MAIN if args.arms == "main" else args.arms.split(",")
            done = committed(args.results)
            for seed in args.seeds:
                for arm in arms:
                    if (arm, args.labelled, seed) not in done:
                        run_one(args.out, arm, seed, args.labelled, settings_for(arm, args.results))
    except WsisegError as error:
        print(f"semi_supervised: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
