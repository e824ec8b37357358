"""The functions of `wsiseg.api`; each does what the command of its name does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsiseg.annotations.intake import take_in
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.api.drawing import opened
from wsiseg.api.polygons import Polygons
from wsiseg.api.results import Comparison, Tables, Tiles, Training
from wsiseg.classes import ClassMap
from wsiseg.evaluation.compare import compare_files
from wsiseg.evaluation.evaluate import summary
from wsiseg.evaluation.objects import match_objects
from wsiseg.geometry import Frame
from wsiseg.grid import Grid
from wsiseg.measure.files import MeasureOptions, Profile, measure_files
from wsiseg.models import find_model
from wsiseg.progress import Report, silent
from wsiseg.selection.select import Roi, Selection
from wsiseg.selection.tiling import tile_slide
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide
from wsiseg.stores.tiles import TileStore

__all__ = ["evaluate", "measure_objects", "open_slide", "predict", "read_annotations", "tile", "train"]

AnySlide = Slide | str | Path
Outlines = Polygons | str | Path


def read_annotations(path: str | Path, slide: AnySlide | None = None) -> Polygons:
    """Read an annotation file of any format.

    Args:
        path: the file
        slide: the slide that it belongs to; with it, polygons outside the slide are left out, and areas are known

    Raises:
        AnnotationError: the file cannot be read, or all of it lies outside the slide
    """
    if slide is None:
        taken = take_in(Path(path))
        return Polygons(taken.polygons, None, taken.annotations.level0, Path(path), _colours(taken.annotations))
    with opened(slide) as source:
        taken = take_in(Path(path), source)
        place, level0 = Path(source.path), source.frame
    return Polygons(taken.polygons, place, level0, Path(path), _colours(taken.annotations))


def predict(
    slide: AnySlide,
    model: str | Path | None = None,
    *,
    out: str | Path | None = None,
    roi: str | Path | None = None,
    tissue: bool = True,
    exclude_artefacts: bool = False,
    device: str = "auto",
    engine: str = "auto",
    overwrite: bool = False,
    report: Report = silent,
) -> Polygons:
    """Find the objects of a slide.

    Args:
        slide: open, or its path
        model: name or bundle; by default the bundled models, which find glomeruli
        out: the GeoJSON to write; by default nothing is kept
        roi: annotations inside which alone to predict
        tissue: only where there is tissue
        exclude_artefacts: not where there is blur, pen or a bubble
        device: "auto", "cpu", "cuda", …
        engine: "auto", "torch", "openvino"
        overwrite: replace `out`
        report: told how many tiles are done

    Raises:
        BundleError, SlideError, EngineError, OutputError
    """
    from wsiseg.bundle import load_bundle
    from wsiseg.inference.cascade import models_for, predict_cascade
    from wsiseg.inference.engines import make_engine
    from wsiseg.inference.predict import PredictOptions

    with tempfile.TemporaryDirectory(prefix="wsiseg-") as scratch, opened(slide) as source:
        bundle, parent = models_for(source, None if model is None else load_bundle(find_model(model)))
        target = Path(out) if out is not None else Path(scratch) / "objects.geojson"
        selection = Selection(tissue, exclude_artefacts, None if roi is None else Roi.read(Path(roi)))
        options = PredictOptions(target, selection=selection, overwrite=overwrite)
        fine = bundle, make_engine(bundle, engine, device)
        coarse = None if parent is None else (parent, make_engine(parent, engine, device))
        predict_cascade(source, coarse, fine, options, report=report)
        found = read_annotations(target, source)
    return Polygons(found.items, found.slide, found.level0, None if out is None else target, found.colours)


def tile(
    slide: AnySlide,
    out: str | Path,
    *,
    mpp: float,
    size: int = 512,
    overlap: int = 0,
    annotations: str | Path | None = None,
    classes: Sequence[str] | None = None,
    tissue: bool = True,
    overwrite: bool = False,
    report: Report = silent,
) -> Tiles:
    """Store the tissue of a slide as tiles in Zarr, with labels if there are annotations.

    Args:
        slide: open, or its path
        out: the store to be
        mpp: µm/px of the tiles
        size: width of a tile in px
        overlap: px that neighbouring tiles share
        annotations: file of annotations
        classes: those to label, without background; by default those of the annotations
        tissue: only where there is tissue
        overwrite: replace `out`
        report: told how many tiles are done

    Raises:
        SlideError, AnnotationError, OutputError, MismatchError
    """
    from wsiseg.annotations.formats import file_hash

    with opened(slide) as source:
        drawn: tuple[LabelledPolygon, ...] = ()
        known, sources = None, {}
        if annotations is not None:
            known = ClassMap(("Background", *classes)) if classes is not None else None
            taken = take_in(Path(annotations), source, need_class=True, keep_unclassed=False, classes=known)
            drawn = taken.polygons
            known = known or Annotations(drawn, colours=taken.annotations.colours).class_map(stated=False)
            sources = {"annotations": file_hash(Path(annotations)), "annotated": taken.summary.to_json()}
        grid = Grid(source.frame.at(mpp), size, overlap)
        selected = Selection(tissue, annotated=drawn).apply(source, grid)
        unstated = selected.unstated(known, beyond_roi=False) if known is not None else []
        tile_slide(
            source, grid, selected.tiles, Path(out), classes=known, regions=[*drawn, *unstated],
            sources=sources | selected.identity, overwrite=overwrite, report=report,
        )  # fmt: skip
    return Tiles(TileStore(Path(out)), Path(out))


def train(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    changes: Sequence[str] = (),
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    report: Report = silent,
) -> Training:
    """Train a model from a recipe, on one device.

    Args:
        recipe: the TOML file
        out: the run's folder; by default runs/RECIPE-NAME
        changes: values of the recipe to change, such as "training.steps=500"
        device: "auto", "cpu", "cuda", …
        resume: go on from the checkpoint of an interrupted run
        overwrite: throw an earlier run away
        report: told what happens

    Raises:
        RecipeError, SlideError, AnnotationError, OutputError, MismatchError
    """
    from wsiseg.recipe import load_recipe
    from wsiseg.training.run import train as run_training

    loaded = load_recipe(Path(recipe), tuple(changes))
    folder = Path(out) if out is not None else Path("runs") / loaded.name
    bundle = run_training(loaded, folder, device=device, resume=resume, overwrite=overwrite, report=report)
    assert bundle is not None, "one process is the first one"
    return Training(bundle, folder)


def evaluate(
    slide: AnySlide,
    reference: Outlines,
    prediction: Outlines,
    *,
    resolution: float = 1.0,
    match_um: float | None = None,
) -> Comparison:
    """Compare predicted objects with a reference.

    Args:
        slide: open, or its path
        reference: polygons, or a file of annotations
        prediction: polygons, a file of objects, or a label map
        resolution: µm/px at which pixels are compared
        match_um: match small objects by the distance of their centroids, not by overlap

    Raises:
        AnnotationError, ClassError, MismatchError
    """
    with tempfile.TemporaryDirectory(prefix="wsiseg-") as scratch, opened(slide) as source:
        files = [_as_file(what, Path(scratch) / f"{i}.geojson") for i, what in enumerate((reference, prediction))]
        one, classes = compare_files(source, files[0], files[1], resolution, match_um=match_um)
        wanted, said = (
            _polygons_of(what, file, source).of(*classes.names[1:])
            for what, file in zip((reference, prediction), files, strict=True)
        )
        reach = None if match_um is None else match_um / source.frame.mpp
        found: list[tuple[LabelledPolygon, float]] = []
        missed: list[LabelledPolygon] = []
        unmatched: list[LabelledPolygon] = []
        for name in classes.names[1:]:
            own, theirs = wanted.of(name), said.of(name)
            matches = match_objects(own, theirs, reach=reach)
            found += [(theirs[j], overlap) for _, j, overlap in matches.found]
            missed += [own[i] for i in matches.missed]
            unmatched += [theirs[j] for j in matches.unmatched]
        place, level0 = Path(source.path), source.frame
    groups = [tuple(p for p, _ in found), tuple(missed), tuple(unmatched)]
    parts = [Polygons(items, place, level0, None, said.colours) for items in groups]
    return Comparison(summary([one], classes, match_um), parts[0], parts[1], parts[2], tuple(iou for _, iou in found))


def measure_objects(
    slide: AnySlide, *outlines: Outlines, profile: Profile = "auto", thickness_um: float | None = None
) -> Tables:
    """Measure the objects of a slide. (`wsiseg.measure` is the package that does it.)

    Args:
        slide: open, or its path
        outlines: polygons or files, taken together
        profile: "generic", "kidney", or "auto"
        thickness_um: of the section, for densities of the kidney profile

    Raises:
        AnnotationError, MismatchError, ClassError, GeometryError
    """
    with tempfile.TemporaryDirectory(prefix="wsiseg-") as scratch, opened(slide) as source:
        files = [_as_file(what, Path(scratch) / f"{i}.geojson") for i, what in enumerate(outlines)]
        measured, _ = measure_files(source, files, MeasureOptions(profile, thickness_um=thickness_um))
    return Tables({name: dict(table) for name, table in measured.tables.items()})


def _as_file(what: Outlines, scratch: Path) -> Path:
    """A file that holds these polygons."""
    if not isinstance(what, Polygons):
        return Path(what)
    if what.path is not None:
        return what.path
    what.save(scratch)
    return scratch


def _polygons_of(what: Outlines, file: Path, slide: Slide) -> Polygons:
    from wsiseg.stores.prediction import read_prediction

    if isinstance(what, Polygons):
        return what
    found = read_prediction(file)
    items: Any = found.objects() if found.labels is not None else take_in(file, slide).polygons
    frame: Frame = slide.frame
    return Polygons(tuple(items), Path(slide.path), frame, file, _colours(found.annotations))


def _colours(found: Annotations) -> dict[str, tuple[int, int, int]]:
    known = found.class_map()
    return dict(zip(known.names, known.colours, strict=True))
