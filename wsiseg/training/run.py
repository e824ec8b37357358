"""A training run from a recipe: tile the slides, train, evaluate, write the bundle.

RUN/
  recipe.json         the recipe with all defaults filled in
  tiles/NAME.zarr     one TileStore per slide
  log.csv …           see `wsiseg.training.trainer`; `--resume` goes on from the checkpoint
  model/              the bundle, written at the end
  discriminator.safetensors    with methods that have one: judges predicted objects, see `wsiseg.inference.trust`
  stages/NAME/        all of this, but the tiles, for each stage of a recipe that has stages; the last bundle is RUN/model
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning_fabric
import torch
from lightning_fabric.strategies.ddp import DDPStrategy

from wsiseg import __version__
from wsiseg.annotations.formats import file_hash, read_annotations
from wsiseg.annotations.intake import take_in
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.atomic import discard, translate_os_errors
from wsiseg.bundle import ModelBundle, load_bundle, save_bundle
from wsiseg.classes import ClassMap, canonical_name
from wsiseg.data.slides import SPLITS, SlideEntry, read_slides
from wsiseg.errors import MismatchError, OutputError, RecipeError, SplitError
from wsiseg.grid import Grid
from wsiseg.inference.engines.torch import find_device
from wsiseg.nets.discriminators import save_discriminator
from wsiseg.progress import Progress, Report
from wsiseg.recipe import Precision, Recipe
from wsiseg.selection.select import Roi, Selection
from wsiseg.selection.tiling import tile_slide
from wsiseg.slides.open import open_slide
from wsiseg.stores.reservation import differences
from wsiseg.stores.tiles import TileStore
from wsiseg.training.checkpoint import load_checkpoint
from wsiseg.training.start import start_identity
from wsiseg.training.trainer import Trainer, TrainingSlides
from wsiseg.usage import Postprocessing, Usage

Say = Callable[[str], None]

# What a person can do about annotations without a class, or of one that the recipe does not name.
NAME_THEM = 'give all of them one with `"" = "NAME"` under [data.rename], or classes in the program they were drawn in'
KNOW_THEM = "add it to [classes], give it another name under [data.rename], or ignore it with `ignore` under [classes]"


def train(
    recipe: Recipe, out: Path, *, device: str, resume: bool, overwrite: bool, report: Report
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
    if recipe.predict.parent_model:
        load_bundle(Path(recipe.predict.parent_model))  # now, not after hours of training
    stages = recipe.stages()
    folders = [out] if len(stages) == 1 else [out / "stages" / name for name, _ in stages]
    bundles = [folder / "model" for folder in folders[:-1]] + [out / "model"]
    _earlier(folders[0], _about(stages[0][1]), resume, overwrite)  # now, not after all slides are tiled
    slides = training_slides(recipe, out / "tiles", lambda line: report(Progress(0, 0, message=line)), overwrite)
    fabric = make_fabric(where, recipe.training.devices, recipe.training.precision)
    bundle: ModelBundle | None = None
    for i, (name, stage) in enumerate(stages):
        if i:
            fabric.barrier()  # the first process has written the bundle that all others read
            stage = with_weights(stage, bundles[i - 1])
        tell = partial(_in_stage, report, name) if name else report
        bundle = _train_stage(stage, slides, folders[i], bundles[i], fabric, tell, resume=resume, overwrite=overwrite)
    return bundle


def _train_stage(
    recipe: Recipe, slides: TrainingSlides, folder: Path, bundle: Path, fabric: Any, report: Report, *, resume: bool,
    overwrite: bool,
) -> ModelBundle | None:  # fmt: skip
    """Train one stage, from its start or its checkpoint, to its bundle; a finished bundle is used as it is."""
    about = _about(recipe)
    earlier = _earlier(folder, about, resume, overwrite)
    if earlier and earlier == recipe.training.steps and (bundle / "model.json").exists():
        return load_bundle(bundle) if fabric.is_global_zero else None
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.json").write_text(json.dumps(about["recipe"], indent=1, ensure_ascii=False) + "\n")
    trainer = Trainer(recipe, slides, folder, fabric=fabric, usage=usage_of(recipe), about=about, report=report)
    if recipe.model.weights not in ("imagenet", "none"):
        report(Progress(0, recipe.training.steps, message=f"Starting from {trainer.origin}."))
    if earlier is not None:
        message = f"Going on after step {trainer.step} of {recipe.training.steps}."
        report(Progress(trainer.step, recipe.training.steps, message=message))
    else:
        fabric.barrier()  # all have read the weights that they start from, which may be those of this very bundle
        if fabric.is_global_zero:  # with a finished checkpoint, an earlier bundle would be taken for this run's
            with translate_os_errors(bundle):
                discard(bundle)
    network = trainer.run()
    if not fabric.is_global_zero:
        return None
    judge = trainer.method.judge()
    if judge is not None:
        save_discriminator(folder / "discriminator.safetensors", judge)
    provenance = {
        "recipe": about["recipe"],
        "encoder_weights": trainer.origin,
        "slides": slides.names,
        "versions": {"wsiseg": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": str(fabric.device),
        "remarks": list(trainer.method.remarks()),
    }
    return save_bundle(
        bundle, network.without_heads(), name=recipe.name, classes=recipe.classes.class_map(), usage=usage_of(recipe),
        provenance=provenance, metrics=dict(trainer.metrics), half=recipe.predict.half_weights,
        parent=Path(recipe.predict.parent_model) if recipe.predict.parent_model else None,
    )  # fmt: skip


def _in_stage(report: Report, name: str, progress: Progress) -> None:
    report(replace(progress, task=name))


def with_weights(recipe: Recipe, bundle: Path) -> Recipe:
    """The recipe, starting from a bundle."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": str(bundle)})})


def make_fabric(where: torch.device, devices: int, precision: Precision) -> Any:
    """A launched Fabric on one device, or on several equal ones with one process each."""
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
    value["predict"]["parent_model"] = Path(recipe.predict.parent_model).name
    listed = file_hash(Path(recipe.data.slides))
    about: dict[str, Any] = json.loads(json.dumps({"recipe": value, "slide_list": listed, "wsiseg": __version__}))
    return about


def usage_of(recipe: Recipe) -> Usage:
    """How the recipe's model is to be used."""
    p = recipe.predict
    return Usage(
        mpp=recipe.data.mpp, tile=p.tile, overlap=p.overlap, batch=p.batch,
        foreground_threshold=p.foreground_threshold, tta=p.tta, upsample=p.upsample, scaled_decoding=recipe.data.scaled_decoding,
        parent_margin_um=p.parent_margin_um,
        postprocessing=Postprocessing(
            min_object_um2=p.min_object_um2, min_hole_um2=p.min_hole_um2, simplify_um=p.simplify_um, whole_objects=p.whole_objects,
            split_distance_um=p.split_distance_um,
        ),
    )  # fmt: skip


def tile_row(
    row: SlideEntry, recipe: Recipe, classes: ClassMap, folder: Path, say: Say, *, overwrite: bool = False
) -> TileStore:
    """Tile one slide of the list with its annotations; a finished store is reused, unless it should be
    overwritten.
    """
    regions: list[LabelledPolygon] = []
    sources: dict[str, Any] = {}
    roi = _roi(row, recipe)
    out = folder / f"{row.name}.zarr"
    with open_slide(row.slide, mpp=row.mpp, scaled_decoding=recipe.data.scaled_decoding, series=row.series) as slide:
        if row.annotations is not None:
            intake = take_in(
                row.annotations, slide, need_class=True, keep_unclassed=False, rename=recipe.data.rename,
                classes=classes, name_them=NAME_THEM, know_them=KNOW_THEM,
            )  # fmt: skip
            regions += intake.polygons
            sources |= {"annotations": file_hash(row.annotations), "rename": recipe.data.rename}
            sources["annotated"] = intake.summary.to_json()
            say(str(intake.summary))
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
    wanted = recipe.data.roi
    if not wanted:
        return None
    file = entry.roi or entry.annotations
    if file is None:
        raise RecipeError(
            f"{entry.name} has no region of interest to learn in ({', '.join(wanted)}): name a file in the column "
            "`roi`, such as the objects that another model predicted."
        )
    names = set(map(canonical_name, wanted))
    found = tuple(r for r in read_annotations(file).polygons if r.label in names)
    if not found:
        raise RecipeError(f"{file.name} holds no {' or '.join(wanted)}, inside which to learn: leave the slide out.")
    return Roi(found, {"file": file_hash(file), "classes": list(wanted)}, recipe.data.roi_margin_um)


def _earlier(folder: Path, about: dict[str, Any], resume: bool, overwrite: bool) -> int | None:
    """Steps done by an interrupted run in this folder, if it is to be resumed."""
    if overwrite:
        with translate_os_errors(folder):
            discard(folder / "checkpoint")
    found = load_checkpoint(folder / "checkpoint")
    if found is None:
        return None
    if not resume:
        raise OutputError(
            f"There is a run in {folder}: continue it with --resume, replace it with --overwrite, or choose another --out."
        )
    changed = differences(found[2], about)
    if changed:
        raise MismatchError(
            f"The run in {folder} has another recipe ({'; '.join(changed[:4])}): use --overwrite or choose another --out."
        )
    return found[0]


def training_slides(recipe: Recipe, folder: Path, say: Say, overwrite: bool = False) -> TrainingSlides:
    """Tile the slides of a recipe's list, test slides left out, and sort them by what they are for.

    Args:
        recipe: with its slide list
        folder: where the tile stores are, or will be
        say: told what people should know
        overwrite: tile again what is there
    """
    rows = read_slides(Path(recipe.data.slides), Path(recipe.data.root) if recipe.data.root else None)
    classes = recipe.classes.class_map()
    stores = {
        row.name: tile_row(row, recipe, classes, folder, say, overwrite=overwrite)
        for row in rows
        if row.split != "test"
    }
    if len(stores) < sum(row.split != "test" for row in rows):
        raise SplitError("Two slides of the list have the same file name: rename one of them.")
    train = [stores[r.name] for r in rows if r.split == "train"]
    labelled = [s for s in train if s.labelled]
    needed = any(stage.method.annotations_needed for _, stage in recipe.stages())
    if not (labelled if needed else train):
        raise RecipeError("No slide of the split `train` has annotations: give at least one in the slide list.")
    if needed and not any(store.counts[:, 1:-1].any() for store in labelled):
        raise RecipeError(
            "No pixel of the slides of the split `train` has a class: check where the annotations lie with "
            "`wsiseg view`, and whether their classes state something."
        )
    return TrainingSlides(
        labelled=labelled or train,  # a method that needs no annotations gets crops without labels
        unlabelled=train if recipe.data.unlabelled == "all" else [s for s in train if not s.labelled],
        validation=[stores[r.name] for r in rows if r.split == "validation" and r.annotations is not None],
        tags={stores[r.name].path: r.tags for r in rows if r.name in stores},
        names={side: sorted(r.name for r in rows if r.split == side) for side in SPLITS},
    )
