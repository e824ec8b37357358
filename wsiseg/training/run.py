"""A training run from a recipe: tile the slides, train, evaluate, write the bundle.

RUN/
  recipe.json         the recipe with all defaults filled in
  tiles/NAME.zarr     one TileStore per slide
  log.csv             every figure: step, name, value
  tensorboard/        the same for TensorBoard
  pictures/           image, truth and prediction of some validation tiles at each evaluation
  checkpoint/         the newest state; `--resume` goes on from it
  model/              the bundle, written at the end
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import lightning_fabric
import torch
from lightning_fabric.strategies.ddp import DDPStrategy

from wsiseg import __version__
from wsiseg.annotations.formats import file_hash, read_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.atomic import translate_os_errors
from wsiseg.bundle import ModelBundle, Usage, load_bundle, save_bundle
from wsiseg.classes import ClassMap
from wsiseg.data.crops import CropDataset, batches, side_for
from wsiseg.data.slides import SPLITS, SlideEntry, read_slides
from wsiseg.errors import MismatchError, OutputError, RecipeError, SplitError
from wsiseg.grid import Grid
from wsiseg.inference.engines.torch import find_device
from wsiseg.methods import METHODS
from wsiseg.nets.segmentation import SegmentationNet
from wsiseg.recipe import Precision, Recipe
from wsiseg.selection.select import Roi, Selection
from wsiseg.selection.tiling import tile_slide
from wsiseg.slides.open import open_slide
from wsiseg.stores.reservation import differences
from wsiseg.stores.tiles import TileStore
from wsiseg.training.checkpoint import load_checkpoint, save_checkpoint
from wsiseg.training.loop import Log, fit
from wsiseg.training.start import build_generator, start_identity
from wsiseg.training.validate import validate

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reporter:
    """How a run talks: `say` a line, `step` after each training step with (done, all, figures)."""

    say: Say
    step: Callable[[int, int, dict[str, float]], None]


def train(
    recipe: Recipe, out: Path, *, device: str, resume: bool, overwrite: bool, report: Reporter
) -> ModelBundle | None:
    """Run a recipe.

    Args:
        recipe: what to do
        out: the run's folder
        device: "auto", "cpu", "cuda", "cuda:1", …
        resume: go on from the checkpoint of an interrupted run of the same recipe
        overwrite: throw an earlier run's checkpoint and log away
        report: told what happens

    Returns:
        the bundle, in RUN/model; None in all processes but the first where several devices train

    Raises:
        MismatchError: the run's checkpoint belongs to another recipe
        RecipeError, SplitError, SlideError, AnnotationError, ClassError, OutputError, EngineError
    """
    where = find_device(device)
    classes = recipe.classes.class_map()
    rows = read_slides(Path(recipe.data.slides), Path(recipe.data.root) if recipe.data.root else None)
    about = _about(recipe)
    if recipe.predict.within_model:
        load_bundle(Path(recipe.predict.within_model))  # now, not after hours of training
    found = _earlier(out, about, resume, overwrite)
    stores = {
        row.name: tile_row(row, recipe, classes, out / "tiles", report.say, overwrite=overwrite)
        for row in rows
        if row.split != "test"
    }
    labelled, unlabelled, validation = _sides(rows, stores, recipe.data.unlabelled)
    with translate_os_errors(out):
        (out / "pictures").mkdir(parents=True, exist_ok=True)
        (out / "recipe.json").write_text(json.dumps(about["recipe"], indent=1, ensure_ascii=False) + "\n")

    fabric = make_fabric(where, recipe.training.devices, recipe.training.precision)
    first = fabric.is_global_zero  # keeps the books; the others only compute
    torch.manual_seed(recipe.training.seed)
    generator, origin = build_generator(recipe, len(classes))
    if recipe.model.weights not in ("imagenet", "none"):
        report.say(f"Starting from {origin}.")
    method = METHODS[recipe.method.name](recipe, classes, fabric, generator)
    start = 0
    if found is not None:
        start = found[0]
        method.load_state_dict(found[1])
        report.say(f"Going on after step {start} of {recipe.training.steps}.")

    log = Log(out, start) if first else None
    metrics: dict[str, float] = {}

    def evaluate(step: int) -> None:
        if log is not None:
            metrics.clear()
            metrics.update(validate(method, validation, classes, usage_of(recipe), fabric.device, out, step, log))
            report.say(f"Step {step}: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics.items() if k.endswith("dice")))

    def checkpoint(step: int) -> None:
        if first:
            save_checkpoint(out / "checkpoint", step, method.state_dict(), about)

    def progress(step: int, figures: dict[str, float]) -> None:
        if first:
            report.step(step, recipe.training.steps, figures)

    fit(
        method,
        _loader(labelled, recipe, start, fabric),
        _loader(unlabelled, recipe, start, fabric, stream=1) if unlabelled else None,
        steps=range(start, recipe.training.steps),
        total=recipe.training.steps,
        seed=recipe.training.seed + (fabric.global_rank << 16),
        log=log,
        evaluate=evaluate,
        evaluate_every=recipe.training.evaluate_every,
        checkpoint=checkpoint,
        checkpoint_every=recipe.training.checkpoint_every,
        progress=progress,
    )
    if start == recipe.training.steps:
        evaluate(start)
    if log is None:
        return None
    log.close()
    provenance = {
        "recipe": about["recipe"],
        "encoder_weights": origin,
        "slides": {side: sorted(r.name for r in rows if r.split == side) for side in SPLITS},
        "versions": {"wsiseg": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": str(fabric.device),
    }
    net = method.predictor()
    assert isinstance(net, SegmentationNet)
    return save_bundle(
        out / "model", net, name=recipe.name, classes=classes, usage=usage_of(recipe), provenance=provenance,
        metrics=dict(metrics), half=recipe.predict.half_weights,
        within=Path(recipe.predict.within_model) if recipe.predict.within_model else None,
    )  # fmt: skip


def make_fabric(where: torch.device, devices: int, precision: Precision) -> Any:
    """A launched Fabric on one device, or on several alike, each with a process of its own."""
    accelerator = {"cuda": "cuda", "mps": "mps"}.get(where.type, "cpu")
    several = devices > 1 and where.index is None
    # A step passes through the generator more than once before its gradients are needed: nothing may be sent around
    # in between, and batch statistics stay each process's own.
    strategy = DDPStrategy(broadcast_buffers=False) if several else "auto"
    chosen: Any = [where.index] if where.index is not None else devices
    fabric = lightning_fabric.Fabric(accelerator=accelerator, devices=chosen, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def _about(recipe: Recipe) -> dict[str, Any]:
    """What decides a run, as JSON values; where on this machine the slides lie does not."""
    value = recipe.model_dump(mode="json")
    value["data"] |= {"slides": Path(recipe.data.slides).name, "root": ""}
    value["model"] |= start_identity(recipe)
    del value["run"]  # says what is done with slides, by whatever model
    value["predict"]["within_model"] = Path(recipe.predict.within_model).name
    listed = file_hash(Path(recipe.data.slides))
    about: dict[str, Any] = json.loads(json.dumps({"recipe": value, "slide_list": listed, "wsiseg": __version__}))
    return about


def usage_of(recipe: Recipe) -> Usage:
    """How the recipe's model is to be used."""
    own: dict[str, Any] = {"mpp": recipe.data.mpp, "scaled_decoding": recipe.data.scaled_decoding}
    return Usage(**own, **{f.name: getattr(recipe.predict, f.name) for f in fields(Usage) if f.name not in own})


def tile_row(
    row: SlideEntry, recipe: Recipe, classes: ClassMap, folder: Path, say: Say, *, overwrite: bool = False
) -> TileStore:
    """Tile one slide of the list with its outlines; a finished store is used as it is, unless told to overwrite."""
    regions: list[LabelledPolygon] = []
    sources: dict[str, Any] = {}
    if row.annotations is not None:
        found = read_annotations(row.annotations)
        known = [replace(r, label=recipe.data.rename.get(r.label or "", r.label)) for r in found.polygons]
        regions = [r for r in known if r.label]
        unnamed = sum(r.label is None for r in known)
        if unnamed:
            say(f"{row.annotations.name}: {unnamed} outlines without a class are left out.")
        sources["annotations"] = file_hash(row.annotations)
        sources["rename"] = recipe.data.rename
    roi = _roi(row, recipe)
    out = folder / f"{row.name}.zarr"
    with open_slide(row.slide, mpp=row.mpp, scaled_decoding=recipe.data.scaled_decoding) as slide:
        grid = Grid(slide.frame.at(recipe.data.mpp), recipe.data.tile)
        selected = Selection(tissue=roi is None, roi=roi, annotated=tuple(regions)).apply(slide, grid)
        return tile_slide(
            slide, grid, selected.tiles, out, classes=classes if row.annotations else None,
            regions=regions + selected.unstated(classes), sources=sources | selected.identity,
            pixels=recipe.data.pixels, overwrite=overwrite,
        )  # fmt: skip


def _roi(entry: SlideEntry, recipe: Recipe) -> Roi | None:
    """Where a slide is learnt; None: everywhere.

    Raises:
        RecipeError: the recipe asks for a region of interest, and the slide has none
    """
    wanted = recipe.data.within
    if not wanted:
        return None
    file = entry.roi or entry.annotations
    if file is None:
        raise RecipeError(
            f"{entry.name} has no region of interest to learn in ({', '.join(wanted)}): name a file in the column "
            "`roi`, such as the objects that another model predicted."
        )
    found = tuple(r for r in read_annotations(file).polygons if r.label in wanted)
    if not found:
        raise RecipeError(f"{file.name} holds no {' or '.join(wanted)}, inside which to learn: leave the slide out.")
    return Roi(found, {"file": file_hash(file), "classes": list(wanted)}, recipe.data.within_margin_um)


def _earlier(out: Path, about: dict[str, Any], resume: bool, overwrite: bool) -> tuple[int, dict[str, Any]] | None:
    """(steps done, state) of an interrupted run, if it is to be resumed."""
    if overwrite and (out / "checkpoint").exists():
        with translate_os_errors(out):
            shutil.rmtree(out / "checkpoint")
    found = load_checkpoint(out / "checkpoint")
    if found is None:
        return None
    if not resume:
        raise OutputError(f"There is a run in {out}: go on with --resume, start anew with --overwrite, or say --out.")
    changed = differences(found[2], about)
    if changed:
        raise MismatchError(
            f"The run in {out} has another recipe ({'; '.join(changed[:4])}): say --overwrite or --out."
        )
    return found[0], found[1]


def _sides(
    rows: Sequence[SlideEntry], stores: dict[str, TileStore], without: Literal["rest", "all"]
) -> tuple[list[TileStore], list[TileStore], list[TileStore]]:
    """Stores to learn from with labels, without (those that have none, or all), and to validate on."""
    if len(stores) < sum(row.split != "test" for row in rows):
        raise SplitError("Two slides of the list have the same file name: rename one of them.")
    train = [stores[r.name] for r in rows if r.split == "train"]
    labelled = [s for s in train if s.labelled]
    validation = [stores[r.name] for r in rows if r.split == "validation" and r.annotations is not None]
    if not labelled:
        raise RecipeError("No slide of the split `train` has outlines: give at least one in the slide list.")
    return labelled, train if without == "all" else [s for s in train if not s.labelled], validation


def _loader(stores: Sequence[TileStore], recipe: Recipe, start: int, fabric: Any, stream: int = 0) -> Any:
    t, a = recipe.training, recipe.augment
    share = 0.0 if stream else t.object_share  # unlabelled crops come from anywhere: no outline may choose them
    dataset = CropDataset(
        stores, batch=t.batch, side=side_for(t.crop, a.scale, a.rotate), seed=2 * t.seed + stream,
        object_share=share, jitter=t.crop // 3, offset=fabric.global_rank * t.batch,
    )  # fmt: skip
    return fabric.setup_dataloaders(batches(dataset, start, t.steps, t.loaders), use_distributed_sampler=False)
