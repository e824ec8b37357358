"""From a slide and a bundle to a label map and outlines."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg import __version__
from wsiseg.annotations.formats import file_hash, read_annotations, write_annotations
from wsiseg.annotations.polygon import Annotations
from wsiseg.bundle import ModelBundle
from wsiseg.classes import ClassMap, joined
from wsiseg.errors import AnnotationError, BundleError, MismatchError
from wsiseg.geometry import Box
from wsiseg.grid import Grid, Tile
from wsiseg.inference.blend import Blender
from wsiseg.inference.engines.engine import Engine, averaged
from wsiseg.progress import Progress, Report, silent
from wsiseg.selection.select import Masks, Selection
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import FORMAT, LabelMap, LabelWriter, row_box
from wsiseg.stores.objects import objects_of
from wsiseg.stores.reservation import Manifest, differences, reserve

Read = Callable[[Box], np.ndarray]  # a box of the grid's frame -> (h, w, 3) uint8


def grid_for(slide: Slide, bundle: ModelBundle) -> Grid:
    """The bundle's grid over a slide."""
    usage = bundle.usage
    return Grid(slide.frame.at(usage.mpp), usage.tile, usage.overlap)


def predict_manifest(
    slide: Slide, grid: Grid, tiles: Sequence[Tile], bundle: ModelBundle, engine: Engine, sources: Mapping[str, Any]
) -> Manifest:
    """What a label map is made from. `sources` names the selection of tiles and the like."""
    return {
        "kind": "labels",
        "format": FORMAT,
        "version": __version__,
        "slide": dict(slide.identity),
        "backend": slide.backend_name,
        "scaled_decoding": slide.scaled_decoding,
        "level0": slide.frame.to_json(),
        "bounds": asdict(slide.bounds),
        "grid": grid.to_json(),
        "tiles": len(tiles),
        "classes": bundle.classes.to_json(),
        "model": bundle.identity,
        "engine": engine.identity,
        **sources,
    }


def predict_labels(
    read: Read,
    tiles: Sequence[Tile],
    engine: Engine,
    out: Path,
    manifest: Manifest,
    *,
    masks: Masks | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> LabelMap:
    """Predict tiles and blend them into a label map; an interrupted one is continued.

    Args:
        read: pixels of a box of the grid's frame (a slide's, or a TileStore's `read`)
        tiles: which tiles, in grid order
        engine: the network
        out: the label map's folder
        manifest: see `predict_manifest`
        masks: which pixels do not count; they become background
        overwrite: replace a label map that was made from something else
        report: told how many tiles are done

    Raises:
        MismatchError, BusyError, OutputError, SlideError
    """
    grid = Grid.from_json(manifest["grid"])
    classes = ClassMap.from_json(manifest["classes"])
    usage = manifest["model"]["usage"]
    batch = int(usage["batch"])
    with reserve(out, manifest, overwrite=overwrite) as folder:
        if folder is not None:
            writer = LabelWriter(folder, manifest)
            blender = Blender(grid, len(classes), writer.rows_done, foreground_threshold=usage["foreground_threshold"])

            def store(before: int) -> None:
                for row, labels, score in blender.rows(before=before):
                    if masks is not None:
                        blank = masks.blank(row_box(grid, row))
                        labels[blank] = score[blank] = 0
                    writer.write_row(row, labels, score)

            # Tiles of one row above still reach into the first row to do.
            first = next((i for i, t in enumerate(tiles) if t.row >= writer.rows_done - 1), len(tiles))
            batches = _batches(read, tiles, first // batch * batch, batch)
            for i, scores in _scores(batches, engine, flips=usage["flips"]):
                for tile, values in zip(tiles[i : i + batch], scores, strict=False):  # the last batch is padded
                    if tile.row >= writer.rows_done - 1:
                        store(before=tile.row)
                        blender.add(tile, values)
                report(Progress(min(i + batch, len(tiles)), len(tiles)))
            store(before=grid.shape[0])
            writer.finish()
    return LabelMap(out)


def _batches(read: Read, tiles: Sequence[Tile], start: int, batch: int) -> Iterator[tuple[int, np.ndarray]]:
    """(place of the first tile, (batch, size, size, 3) uint8), read ahead while the network works."""

    def load(i: int) -> np.ndarray:
        images = [read(tile.read) for tile in tiles[i : i + batch]]
        return np.stack(images + [np.full_like(images[0], 255)] * (batch - len(images)))

    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
        for i in range(start, len(tiles), batch):
            waiting.append((i, pool.submit(load, i)))
            if len(waiting) > 2:
                first, images = waiting.popleft()
                yield first, images.result()
        while waiting:
            first, images = waiting.popleft()
            yield first, images.result()


def _scores(
    batches: Iterator[tuple[int, np.ndarray]], engine: Engine, *, flips: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """(place of the first tile, what the engine says of its batch); one batch is blended while others are inferred."""
    with ThreadPoolExecutor(engine.streams) as pool:
        waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
        for i, images in batches:
            waiting.append((i, pool.submit(averaged, engine, images, flips=flips)))
            if len(waiting) > engine.streams:
                first, scores = waiting.popleft()
                yield first, scores.result()
        while waiting:
            first, scores = waiting.popleft()
            yield first, scores.result()


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What is to come out of a prediction.

    Attributes:
        out: the file of objects
        labels: where to keep the label map; None removes it once the objects are written
        selection: what of the slide to predict
        parent: the prediction of another model, whose objects are written into the output before this model's own
        overwrite: replace what was made from something else
    """

    out: Path
    labels: Path | None = None
    selection: Selection = field(default_factory=Selection)
    parent: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """What came out: how many objects, and whether the file was there already, made from exactly the same."""

    objects: int
    already: bool = False


def predict_slide(
    slide: Slide, bundle: ModelBundle, engine: Engine, job: PredictOptions, *, report: Report = silent
) -> Prediction:
    """Tissue, tiles, network, blending, label map, outlines: the whole of `wsiseg predict`.

    An interrupted prediction is continued where it stopped, from the label map beside the output.

    Raises:
        BundleError: the model wants pixels that the slide does not have
        TissueError: nothing to predict
        MismatchError, BusyError, OutputError, SlideError, AnnotationError
    """
    check_fit(slide, bundle)
    grid = grid_for(slide, bundle)
    selected = job.selection.apply(slide, grid)
    sources = selected.identity if job.parent is None else {**selected.identity, "parent": file_hash(job.parent)}
    tiles = selected.tiles
    manifest = predict_manifest(slide, grid, tiles, bundle, engine, sources)
    kept = job.labels or job.out.with_name(job.out.name + ".labels.zarr")
    earlier = finished_outlines(job.out, manifest, overwrite=job.overwrite)
    if earlier is not None and (job.labels is None or job.labels.exists()):
        if job.labels is None and kept.exists():  # killed after the outlines were written
            shutil.rmtree(kept)
        return Prediction(earlier, already=True)
    labels = predict_labels(
        lambda box: slide.read(box, grid.frame), tiles, engine, kept, manifest,
        masks=selected.masks(), overwrite=job.overwrite, report=report,
    )  # fmt: skip
    count = write_prediction(labels, job.out, None if job.parent is None else read_annotations(job.parent))
    if job.labels is None:
        shutil.rmtree(kept)
    return Prediction(count)


def write_prediction(labels: LabelMap, out: Path, beside: Annotations | None = None) -> int:
    """Trace a label map and write its outlines, in the sizes its model was made for; returns how many.

    Args:
        labels: the map
        out: the file
        beside: a prediction whose outlines are written first, with its classes before the map's own
    """
    usage = labels.manifest["model"]["usage"]
    sizes = {key: usage[key] for key in ("min_object_um2", "min_hole_um2", "whole_objects", "split_distance_um")}
    regions, classes, about = objects_of(labels, **sizes), labels.classes, labels.manifest
    if beside is not None and beside.classes is not None:
        classes = joined(beside.classes, classes)
        regions = chain(beside.polygons, regions)
        about = about | {"first": beside.properties["wsiseg"]}
    written = write_annotations(out, regions, classes=classes, properties={"wsiseg": about})
    return written.objects


def finished_outlines(out: Path, manifest: Manifest, *, overwrite: bool) -> int | None:
    """How many outlines an output file holds that was made from this manifest; None if there is nothing to keep.

    Raises:
        MismatchError: it was made from something else, or by hand
    """
    if overwrite or not out.exists():
        return None
    try:
        there = read_annotations(out)
    except AnnotationError as error:
        raise MismatchError(f"{out} is there and is no prediction ({error}) Start anew with --overwrite.") from error
    made_from = dict(there.properties.get("wsiseg") or {})
    made_from.pop("first", None)  # its file's hash stands among the sources
    if not made_from:
        raise MismatchError(f"{out} is there and is not from wsiseg predict: choose another --out or say --overwrite.")
    found = differences(made_from, json.loads(json.dumps(manifest)))
    if found:
        raise MismatchError(f"{out} was made from something else ({'; '.join(found[:4])}): say --overwrite.")
    return len(there.polygons)


def check_fit(slide: Slide, bundle: ModelBundle) -> None:
    """BundleError when a model wants pixels far finer than the slide has."""
    finest = max(slide.frame.mpp, slide.frame.mpp_y)
    if bundle.usage.mpp < finest / 2:
        raise BundleError(
            f"The model {bundle.name!r} works at {bundle.usage.mpp:g} µm/px, the slide has only {finest:g}: "
            "take a model trained at a coarser resolution."
        )
