"""The stages of a run. A stage is a function `Work -> Facts` and a line in `STAGES`.

A stage writes into `work.folder` under its own names, goes on where an interrupted one stopped, and makes the same
bytes whoever runs it, and when. Its facts are a few numbers for run.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from wsiseg.atomic import atomic_write
from wsiseg.bundle import ModelBundle, load_bundle
from wsiseg.data.slides import SlideEntry
from wsiseg.errors import BundleError
from wsiseg.export import export as write_format
from wsiseg.inference.cascade import predict_cascade
from wsiseg.inference.engines import make_engine
from wsiseg.inference.engines.engine import Engine
from wsiseg.inference.predict import PredictOptions
from wsiseg.measure.files import MeasureOptions, measure_files
from wsiseg.measure.tables import write_tables
from wsiseg.progress import Progress, Report
from wsiseg.qc.examine import examine
from wsiseg.qc.files import write_quality
from wsiseg.report.slide import Sources, slide_report
from wsiseg.run.plan import Facts, Plan, identity_of
from wsiseg.slides.slide import Slide

OUTLINES = "outlines.geojson"
Runner = tuple[ModelBundle, Engine]


@dataclass(frozen=True, slots=True)
class Work:
    """One slide in work.

    Attributes:
        slide: open
        entry, plan: see `wsiseg.run.plan`
        folder: where results go
        report: told how many tiles are done
    """

    slide: Slide
    entry: SlideEntry
    plan: Plan
    folder: Path
    report: Report


@lru_cache(maxsize=1)
def _loaded(model: str, identity: str, engine: str, device: str, threads: int) -> tuple[Runner, Runner | None]:
    bundle = load_bundle(Path(model))
    if json.dumps(identity_of(bundle)) != identity:
        raise BundleError(f"The bundle {model} is not the one that this run began with: give all workers the same one.")
    fine = bundle, make_engine(bundle, engine, device, threads=threads)
    if bundle.parent is None:
        return fine, None
    return fine, (bundle.parent, make_engine(bundle.parent, engine, device, threads=threads))


def engines_of(plan: Plan) -> tuple[Runner, Runner | None]:
    """The model of a plan and its engine, and those of its parent model if there is one.

    They are loaded once in each process.

    Raises:
        BundleError, EngineError
    """
    assert plan.model is not None
    return _loaded(plan.model, json.dumps(plan.identity), plan.engine, plan.device, plan.threads)


def tile(work: Work) -> Facts:
    """Store the tissue as tiles, as training does; NAME.zarr."""
    from wsiseg.training.run import tile_row  # here, because it takes seconds and few runs need it

    said: list[str] = []
    recipe = work.plan.recipe
    store = tile_row(work.entry, recipe, recipe.classes.class_map(), work.folder, said.append)
    return {"tiles": len(store), "notes": said}


def predict(work: Work) -> Facts:
    """Predict the objects; outlines.geojson and, if asked for, labels.zarr."""
    fine, parent = engines_of(work.plan)
    labels = work.folder / "labels.zarr" if work.plan.recipe.run.labels else None
    tiles, job = 0, PredictOptions(work.folder / OUTLINES, labels)

    def report(progress: Progress) -> None:
        nonlocal tiles
        tiles = progress.total
        work.report(progress)

    result = predict_cascade(work.slide, parent, fine, job, report=report)
    return {"objects": result.objects, "tiles": tiles}


def measure(work: Work) -> Facts:
    """Measure the objects; measurements/slides.csv and the other tables of the recipe's profile."""
    wanted = MeasureOptions(**work.plan.recipe.measure.model_dump())
    measured, _ = measure_files(work.slide, [work.folder / OUTLINES], wanted)
    write_tables(work.folder / "measurements", measured.tables, "csv", overwrite=True)
    return {name: len(rows) for name, rows in measured.rows.items()}


def export(work: Work) -> Facts:
    """Write the objects in the recipe's formats; outlines.ENDING."""
    outlines = work.folder / OUTLINES
    return {
        ending: write_format(outlines, outlines.with_name(f"outlines.{ending}")).objects
        for ending in work.plan.recipe.run.formats
    }


def qc(work: Work) -> Facts:
    """Look for artefacts; qc/flags.json, qc/artefacts.geojson and qc/picture.png."""
    quality = examine(work.slide)
    write_quality(work.folder / "qc", work.slide, quality)
    return {"raised": [flag.name for flag in quality.flags if flag.raised]}


def report(work: Work) -> Facts:
    """One page about what the stages before have made; report.html."""
    there = {name: work.folder / name for name in ("measurements", "qc")}
    measured, quality = (path if path.exists() else None for path in there.values())
    sources = Sources((work.folder / OUTLINES,), measurements=measured, quality=quality)
    with atomic_write(work.folder / "report.html") as sink:
        size = sink.write(slide_report(work.slide, sources))
    return {"bytes": size}


# The names are those of `wsiseg.recipe.schema.Stage`; a test compares them.
STAGES: dict[str, Callable[[Work], Facts]] = {
    "tile": tile,
    "qc": qc,
    "predict": predict,
    "measure": measure,
    "export": export,
    "report": report,
}
