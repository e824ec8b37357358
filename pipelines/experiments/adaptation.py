"""The experiment of adaptation.md in this folder: annotations on one stain, slides of another to segment.

    python pipelines/experiments/adaptation.py run --material MATERIAL --out RUNS --arms none copy_paste --seeds 1
    python pipelines/experiments/adaptation.py table --out RUNS
    python pipelines/experiments/adaptation.py pace --material MATERIAL --out RUNS

RUNS/stores/          one TileStore for each biopsy without annotations
RUNS/ARM-SEED/        checkpoint, log.csv, model/ and SPLIT/ with the predictions and result.json
RUNS/per-slide.csv    one line for each arm, seed, slide and class
RUNS/per-slide.png    Dice of every test slide, of each arm that has a placebo beside its placebo

Finished parts are not done again, and an interrupted training goes on from its checkpoint. `pace` measures three steps of
each arm. Several processes may work on the same RUNS: each takes what no other has.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from semi_supervised import COUNTED, counts, taken
from skimage.color import lab2rgb, rgb2lab
from torch.utils.data import Dataset

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "bundled_model")]

from evaluate_slides import judge  # noqa: E402
from train import KINDS, STAGES, Crops, Source  # noqa: E402

from wsiseg.bundle import load_bundle, save_bundle  # noqa: E402
from wsiseg.data.augment import to_float  # noqa: E402
from wsiseg.data.crops import Batch, CropDataset, Drawing, loader  # noqa: E402
from wsiseg.data.randomise import DARKEST, Palette, palette_of  # noqa: E402
from wsiseg.data.slides import SlideEntry, read_slides  # noqa: E402
from wsiseg.geometry import Box, Frame  # noqa: E402
from wsiseg.grid import Grid, Tile  # noqa: E402
from wsiseg.inference.engines.engine import Engine  # noqa: E402
from wsiseg.inference.engines.torch import find_device  # noqa: E402
from wsiseg.methods.context import Batches  # noqa: E402
from wsiseg.methods.parts.settle import settle_batch_norm  # noqa: E402
from wsiseg.nets.segmentation import SegmentationNet  # noqa: E402
from wsiseg.progress import silent  # noqa: E402
from wsiseg.recipe import Recipe, load_recipe  # noqa: E402
from wsiseg.slides.slide import Slide  # noqa: E402
from wsiseg.training.run import make_fabric, tile_row, usage_of  # noqa: E402
from wsiseg.training.trainer import Trainer, TrainingSlides  # noqa: E402

RECIPE = HERE / "adaptation.toml"
BUNDLED = HERE.parent.parent / "wsiseg" / "models" / "kidney-glomeruli"
DEVELOPMENT = 3  # every third training biopsy
PLACEBO_SLIDES = 24  # labelled slides in place of as many biopsies
SETTLING = (40, 8, 256)  # batches, crops in each and their width, for batch statistics
RESAMPLES = 10_000

warnings.filterwarnings("ignore", "Conversion from CIE-LAB", UserWarning)  # colours that no screen shows are clipped

# Trained arms: where the unlabelled crops come from, and what differs from the recipe.
_COPY = ("method.name=copy_paste",)
_ADAPT = ("method.name=adaptation", "method.unlabelled_weight=0.02", "method.discriminator=patch")
_BOTH = (*_ADAPT, "method.consistency_weight=1.0", "method.adaptive_threshold=true")
_SELF = (
    "method.name=self_training", "method.rounds=1", "method.taught_from_start=true", "method.adaptive_threshold=true",
    "method.choose_every=100", "method.choose_tiles=16", "method.rampup=0.2",  # its teacher looks at four flips of each
)  # fmt: skip
TRAINED: dict[str, tuple[str, tuple[str, ...]]] = {
    "supervised": ("none", ("method.name=supervised",)),
    "self_training": ("biopsies", _SELF),
    "copy_paste": ("biopsies", _COPY),
    "copy_paste-placebo": ("labelled", _COPY),
    "adaptation": ("biopsies", _ADAPT),
    "adaptation-placebo": ("labelled", _ADAPT),
    "both": ("biopsies", _BOTH),
    "both-placebo": ("labelled", _BOTH),
}
UNTRAINED = ("none", "batch-norm", "reinhard", "macenko")
ARMS = (*UNTRAINED, *TRAINED)


class LabelledCrops(Dataset[Batch]):
    """Item `step` is a batch of the section and of generated slides in the randomised colours of the bundled model."""

    def __init__(self, material: Path, crop: int, batch: int, seed: int) -> None:
        mix = STAGES[2]
        self.crops = Crops(material, seed, replace(mix, warp=replace(mix.warp, crop=crop)))
        self.batch, self.seed = batch, seed

    def __getitem__(self, step: int) -> Batch:
        if not self.crops.sources:
            self.crops.sources = [Source(path.parent) for path in sorted(self.crops.material.glob("*/source.json"))]
        places = range(step * self.batch, (step + 1) * self.batch)
        made = [self.crops.crop(KINDS[i % len(KINDS)], np.random.default_rng((self.seed, 20, i))) for i in places]
        images = torch.stack([(image.movedim(0, -1) * 255).round().to(torch.uint8) for image, _ in made])
        labels = torch.from_numpy(np.stack([label for _, label in made]))
        nowhere = torch.zeros(len(made), 2, dtype=torch.long)
        covered = torch.ones_like(labels, dtype=torch.bool)
        return Batch(images, labels, covered, nowhere[:, 0], nowhere, ((),) * len(made))


class ArrayStore:
    """A folder of prepare.py as `CropDataset` reads a tile store, without its labels: the unlabelled slides of a placebo."""

    labelled = False

    def __init__(self, folder: Path, mpp: float, tile: int) -> None:
        self.path, self.mpp, self.size = folder, mpp, tile
        pixels = np.load(folder / "image.npy", mmap_mode="r")
        about = json.loads((folder / "source.json").read_text())
        frame = Frame(pixels.shape[1], pixels.shape[0], about["mpp"]).at(mpp)
        self.image = np.asarray(Image.fromarray(pixels).resize((frame.width, frame.height), Image.Resampling.BOX))
        self.grid = Grid(frame, tile)
        dark = self.image.min(2) < 0.85 * 255 * min(about["white"])
        self.tiles = [t for t in self.grid if dark[t.keep.slices].mean() > 0.05]
        self._there = {(t.row, t.col) for t in self.tiles}

    def __reduce__(self) -> tuple[type[ArrayStore], tuple[Path, float, int]]:
        return ArrayStore, (self.path, self.mpp, self.size)

    def __len__(self) -> int:
        return len(self.tiles)

    def __contains__(self, place: tuple[int, int]) -> bool:
        return place in self._there

    def tile(self, i: int) -> Tile:
        """As a TileStore."""
        return self.tiles[i]

    def read(self, box: Box) -> np.ndarray:
        """As a TileStore: white where there is no tile."""
        out = np.full((*box.shape, 3), 255, np.uint8)
        for tile in self.grid.cells(box):
            if (tile.row, tile.col) in self:
                part = tile.keep.overlap(box)
                out[part.relative_to(box).slices] = self.image[part.slices]
        return out


class RandomisedTrainer(Trainer):
    """A Trainer whose labelled crops come from `LabelledCrops`."""

    def __init__(self, material: Path, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        t = self.recipe.training
        self.labelled = LabelledCrops(material, t.crop, t.batch, t.seed)

    def _crops(self, start: int, stop: int) -> Iterator[Batches]:
        asked = "unlabelled" in self.method.streams
        streams = [self.labelled, self.pools.dataset("unlabelled") if asked else None]
        read = [None if s is None else iter(loader(s, start, stop, self.recipe.training.loaders)) for s in streams]
        for _ in range(start, stop):
            yield Batches(*(None if crops is None else next(crops).to(self.fabric.device) for crops in read))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Recoloured:
    """An engine that sees every tile in other colours."""

    engine: Engine
    change: Callable[[np.ndarray], np.ndarray]
    name: str

    @property
    def identity(self) -> dict[str, Any]:
        """That of the engine, and the kind of normalisation."""
        return {**self.engine.identity, "colours": self.name}

    @property
    def streams(self) -> int:
        """Those of the engine."""
        return self.engine.streams

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """What the engine says of changed tiles."""
        return self.engine.probabilities(self.change(images))


def overview(slide: Slide) -> np.ndarray:
    """(n, 3) uint8: all pixels of a slide at 16 µm/px."""
    frame = slide.frame.at(max(16.0, slide.frame.mpp))
    return slide.read(frame.box, frame).reshape(-1, 3)


def source_pixels(material: Path) -> np.ndarray:
    """(n, 3) uint8 of the section that the annotations are on."""
    folder = material / "section"
    image, label = (np.load(folder / f"{name}.npy", mmap_mode="r")[::16, ::16] for name in ("image", "label"))
    return np.asarray(image)[np.asarray(label) != 255]


def reinhard(target: np.ndarray, source: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Mean and spread of the tissue in Lab of the target become those of the source (Reinhard et al. 2001)."""

    def statistics(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lab = rgb2lab(pixels[tissue(pixels)][None])[0]
        return lab.mean(0), lab.std(0)

    (mean, spread), (new_mean, new_spread) = statistics(target), statistics(source)

    def change(images: np.ndarray) -> np.ndarray:
        lab = (rgb2lab(images) - mean) / spread * new_spread + new_mean
        changed = (lab2rgb(lab).clip(0, 1) * 255).round().astype(np.uint8)
        return np.where(tissue(images)[..., None], changed, images)

    return change


def macenko(target: np.ndarray, source: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The target's two stains, found by Macenko et al. 2009, become the source's, at equal 99th percentiles."""

    def amounts(pixels: np.ndarray, palette: Palette) -> np.ndarray:
        density = -np.log(np.clip(pixels / 255 / palette.white, DARKEST, 1))
        return (density @ np.linalg.pinv(palette.stains)).clip(0)

    mine, theirs = palette_of(target), palette_of(source)
    tops = [np.percentile(amounts(p[tissue(p)], q), 99, axis=0) for p, q in ((target, mine), (source, theirs))]

    def change(images: np.ndarray) -> np.ndarray:
        density = amounts(images, mine) * (tops[1] / tops[0]) @ theirs.stains
        return (255 * theirs.white * np.exp(-density)).clip(0, 255).round().astype(np.uint8)

    return change


def tissue(pixels: np.ndarray) -> np.ndarray:
    """(...) bool of (..., 3) uint8: the mean optical density is above 0.15."""
    return -np.log(np.maximum(pixels, 1) / 255).mean(-1) > 0.15


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run needs beside its arm and its seed."""

    out: Path
    material: Path
    device: str
    settings: tuple[str, ...]
    most_slides: int | None = None

    def recipe(self, arm: str, seed: int) -> Recipe:
        """Of an arm with a seed."""
        own = TRAINED[arm][1] if arm in TRAINED else ()
        return load_recipe(RECIPE, (*own, *self.settings, f"training.seed={seed}"))

    def rows(self, recipe: Recipe, which: str) -> tuple[SlideEntry, ...]:
        """Biopsies: `unlabelled`, `development` or `test`. The first two are parts of the training biopsies."""
        rows = read_slides(Path(recipe.data.slides), Path(recipe.data.root))
        if which == "test":
            return tuple(r for r in rows if r.split == "test")[: self.most_slides]
        train = [r for r in rows if r.split == "train"]
        chosen = (r for i, r in enumerate(train) if (i % DEVELOPMENT == 0) == (which == "development"))
        return tuple(chosen)[: self.most_slides]

    def unlabelled(self, recipe: Recipe, source: str) -> list[Any]:
        """Stores without labels."""
        if source == "none":
            return []
        if source == "labelled":
            folders = [self.material / "section", *sorted(self.material.glob("generated-*"))]
            return [ArrayStore(folder, recipe.data.mpp, recipe.data.tile) for folder in folders[:PLACEBO_SLIDES]]
        rows = [replace(r, annotations=None) for r in self.rows(recipe, "unlabelled")]
        tiles = self.out / "stores"
        return [tile_row(r, recipe, recipe.classes.class_map(), tiles, print) for r in rows]

    def trainer(self, arm: str, seed: int, folder: Path) -> Trainer:
        """Of a trained arm, from its start or its checkpoint."""
        recipe = self.recipe(arm, seed)
        fabric = make_fabric(find_device(self.device), 1, recipe.training.precision)
        slides = TrainingSlides([], self.unlabelled(recipe, TRAINED[arm][0]))
        return RandomisedTrainer(
            self.material, recipe, slides, folder, fabric=fabric, usage=usage_of(recipe), about={}, report=silent
        )

    def model(self, arm: str, seed: int, folder: Path) -> Path:
        """The model of an arm, learnt where it is not there yet."""
        bundled = load_bundle(BUNDLED)
        if arm in ("none", "reinhard", "macenko"):
            return BUNDLED
        if not (folder / "model" / "model.json").exists():
            if arm == "batch-norm":
                net, training = self.settled(seed), {"arm": arm}
            else:
                trainer = self.trainer(arm, seed, folder)
                begun, step = time.perf_counter(), trainer.step
                net = trainer.run()
                seconds = (time.perf_counter() - begun) / max(1, trainer.step - step)
                training = {
                    "arm": arm, "seed": seed, "recipe": trainer.recipe.model_dump(mode="json"), "seconds_per_step": seconds,
                    "remarks": list(trainer.method.remarks()),
                }  # fmt: skip
            save_bundle(
                folder / "model", net.without_heads(), name=f"{arm}-{seed}", classes=bundled.classes, usage=bundled.usage,
                provenance={"training": training}, metrics={},
            )  # fmt: skip
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        return folder / "model"

    def settled(self, seed: int) -> SegmentationNet:
        """The bundled network with the batch statistics of the unlabelled biopsies."""
        batches, batch, side = SETTLING
        recipe = self.recipe("batch-norm", seed)
        crops = CropDataset("unlabelled", self.unlabelled(recipe, "biopsies"), Drawing(batch, side, seed))
        net = load_bundle(BUNDLED).network()
        settle_batch_norm(net, (to_float(crops[i].images) for i in range(batches)))
        return net

    def evaluate(self, arm: str, seed: int, which: str) -> None:
        """Learn what is to be learnt, predict and compare the slides of a split; no-op where that is done."""
        folder = self.out / f"{arm}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        with taken(folder) as mine:
            if not mine or (folder / which / "result.json").exists():
                return
            recipe, model = self.recipe(arm, seed), self.model(arm, seed, folder)
            (folder / which).mkdir(exist_ok=True)
            normalise = {"reinhard": reinhard, "macenko": macenko}.get(arm)
            source = source_pixels(self.material) if normalise else None

            def engine_for(slide: Slide, engine: Engine) -> Engine:
                if normalise is None or source is None:
                    return engine
                return Recoloured(engine, normalise(overview(slide), source), arm)

            found = judge(self.rows(recipe, which), model, folder / which, self.device, engine_for)
            slides = {j.row.name: counts(j.found, recipe) for j in found}
            result = {"arm": arm, "seed": seed, "split": which, "slides": slides}
            (folder / which / "result.partial").write_text(json.dumps(result, indent=1) + "\n")
            os.replace(folder / which / "result.partial", folder / which / "result.json")
            print(f"{arm}, seed {seed}, {which}: Dice {pooled([slides], 'any', 'dice'):.3f}", flush=True)


def table(out: Path) -> str:
    """per-slide.csv, and pooled figures with 95 % intervals that resample slides and seeds, as Markdown."""
    results = [json.loads(path.read_text()) for path in out.glob("*/*/result.json")]
    results.sort(key=lambda r: (r["split"], ARMS.index(r["arm"]), r["seed"]))
    with (out / "per-slide.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "arm", "seed", "slide", "class", *COUNTED])
        for r in results:
            for slide, classes in r["slides"].items():
                for name, row in classes.items():
                    writer.writerow([r["split"], r["arm"], r["seed"], slide, name, *(row[c] for c in COUNTED)])
    lines = [
        "| split | arm | seeds | Dice, any | recall, any | F1, any | Dice, sclerotic | Dice - none | Dice - supervised "
        "| Dice - placebo |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for split in ("development", "test"):
        arms = {a: [r["slides"] for r in results if (r["arm"], r["split"]) == (a, split)] for a in ARMS}
        for arm, runs in arms.items():
            if not runs:
                continue
            figures = [pooled(runs, *cell) for cell in (("any", "dice"), ("any", "recall"), ("any", "f1"))]
            figures.append(pooled(runs, "Sclerotic glomerulus", "dice"))
            others = [arms[a] if arm != a else [] for a in ("none", "supervised")] + [arms.get(f"{arm}-placebo", [])]
            differences = [gain(runs, other) if other else "" for other in others]
            cells = [split, arm, str(len(runs)), *(f"{f:.3f}" for f in figures), *differences]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


Runs = Sequence[dict[str, Any]]  # of each seed: slide -> class -> counts
PARTS: dict[str, Callable[[dict[str, int]], tuple[int, int]]] = {
    "dice": lambda r: (2 * r["both_px"], r["truth_px"] + r["said_px"]),
    "recall": lambda r: (r["found"], r["found"] + r["missed"]),
    "f1": lambda r: (2 * r["found"], 2 * r["found"] + r["missed"] + r["unmatched"]),
}


def parts(runs: Runs, name: str, figure: str) -> np.ndarray:
    """(seeds, slides, 2) part and whole of a figure."""
    slides = sorted(runs[0])
    return np.array([[PARTS[figure](run[slide][name]) for slide in slides] for run in runs], float)


def pooled(runs: Runs, name: str, figure: str) -> float:
    """A figure pooled over slides, mean over seeds."""
    part, whole = parts(runs, name, figure).sum(1).T
    return float(np.mean(part / np.maximum(whole, 1)))


def gain(runs: Runs, others: Runs) -> str:
    """Difference in Dice of any object with its 95 % interval; slides are resampled in pairs, seeds for each arm."""
    rng = np.random.default_rng(0)
    both = [parts(r, "any", "dice") for r in (runs, others)]
    slides = rng.integers(both[0].shape[1], size=(RESAMPLES, both[0].shape[1]))
    drawn = []
    for counted in both:
        seeds = rng.integers(len(counted), size=(RESAMPLES, len(counted)))
        each = np.stack([c[slides].sum(1) for c in counted], 1)  # (resamples, seeds, 2)
        ratio = each[..., 0] / np.maximum(each[..., 1], 1)
        drawn.append(np.take_along_axis(ratio, seeds, 1).mean(1))
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    middle = pooled(runs, "any", "dice") - pooled(others, "any", "dice")
    return f"{middle:+.3f} ({low:+.3f} to {high:+.3f})"


def plot(out: Path) -> None:
    """per-slide.png: how far each test slide lies from the placebo, mean over seeds."""
    results = [json.loads(path.read_text()) for path in out.glob("*/test/result.json")]
    arms = {a: [r["slides"] for r in sorted(results, key=lambda r: r["seed"]) if r["arm"] == a] for a in ARMS}
    pairs = [a for a in ARMS if arms[a] and arms.get(f"{a}-placebo")]
    if not pairs:
        return
    figure, axes = plt.subplots(1, len(pairs), figsize=(3.6 * len(pairs), 3.8), sharex=True, sharey=True, squeeze=False)
    for axis, arm in zip(axes[0], pairs, strict=True):
        dice = []
        for runs in (arms[f"{arm}-placebo"], arms[arm]):
            part, whole = np.moveaxis(parts(runs, "any", "dice"), 2, 0)
            dice.append((part / np.maximum(whole, 1)).mean(0))
        axis.axline((0, 0), slope=1, color="0.7", linewidth=1)
        axis.plot(*dice, "o", color="#0072b2", markersize=5)
        axis.set(xlabel="Dice of the placebo", xlim=(0, 1), ylim=(0, 1), aspect="equal", title=arm)
    axes[0][0].set_ylabel("Dice with unlabelled biopsies")
    figure.savefig(out / "per-slide.png", dpi=110, bbox_inches="tight")
    plt.close(figure)


def pace(setting: Setting, arms: Sequence[str]) -> None:
    """Seconds of a step of each trained arm, all its parts switched on: the mean over the second and the third step."""
    for arm in (a for a in arms if a in TRAINED):
        trainer = setting.trainer(arm, 0, setting.out / "pace")
        took = []
        for step, batches in enumerate(trainer._crops(0, 3)):
            torch.manual_seed(step)
            begun = time.perf_counter()
            metrics = trainer.method.update(batches, 0.9)
            took.append(time.perf_counter() - begun)
        told = ", ".join(f"{name} {value:.3g}" for name, value in metrics.items())
        print(f"{arm}: {np.mean(took[1:]):.2f} s a step ({told})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("run", "table", "pace"))
    parser.add_argument("--material", type=Path, help="of pipelines/bundled_model/prepare.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", "--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--splits", nargs="+", choices=("development", "test"), default=("test",))
    parser.add_argument("--most-slides", type=int, help="biopsies of each kind, for a trial in a folder of its own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE for the recipe")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == "table":
        print(table(args.out), end="")
        plot(args.out)
        return
    if args.material is None or not (args.material / "section" / "source.json").exists():
        parser.error("--material must name what pipelines/bundled_model/prepare.py has made")
    if args.device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    settings = (f"training.steps={args.steps}", *args.settings)
    setting = Setting(args.out, args.material, args.device, settings, args.most_slides)
    if args.what == "pace":
        pace(setting, args.arms)
        return
    for seed in args.seeds:
        for arm in args.arms:
            for which in args.splits:
                if arm in TRAINED or seed == args.seeds[0]:
                    setting.evaluate(arm, seed, which)
    print(table(args.out), end="")


if __name__ == "__main__":
    main()
