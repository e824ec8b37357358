"""From a slide and a bundle to a label map and objects."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg import __version__
from wsiseg.annotations.formats import file_hash, read_annotations, write_annotations
from wsiseg.bundle import ModelBundle
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError, BundleError, MismatchError
from wsiseg.geometry import Box
from wsiseg.grid import Grid, Tile
from wsiseg.inference.blend import Blender, upsample
from wsiseg.inference.engines.engine import Engine, infer, readers_for
from wsiseg.progress import Progress, Report, silent
from wsiseg.selection.select import Masks, Selection
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import FORMAT, PARENT, LabelMap, LabelWriter
from wsiseg.stores.prediction import read_prediction
from wsiseg.stores.reservation import Manifest, differences, reserve
from wsiseg.usage import Usage

Read = Callable[[Box], np.ndarray]  # a box of the grid's frame -> (h, w, 3) uint8


def grid_for(slide: Slide, bundle: ModelBundle) -> Grid:
    """The bundle's grid over a slide."""
    usage = bundle.usage
    return Grid(slide.frame.at(usage.mpp), usage.tile, usage.overlap)


def predict_manifest(
    slide: Slide, grid: Grid, tiles: Sequence[Tile], bundle: ModelBundle, engine: Engine, sources: Mapping[str, Any]
) -> Manifest:
    """What a label map with this grid is made from. `sources` names the selection of tiles and the like."""
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


@dataclass(frozen=True, slots=True)
class PredictionSpec:
    """How the tiles of a slide become a label map.

    Attributes:
        grid: over the slide, at the µm/px of the model: what the network reads
        classes: labels that the network gives
        usage: batch, foreground threshold and the like
    """

    grid: Grid
    classes: ClassMap
    usage: Usage

    @property
    def label_grid(self) -> Grid:
        """The grid of the label map: the same tiles, in pixels that may be smaller than the network's."""
        return self.grid.finer(self.usage.upsample)


def predict_labels(
    read: Read,
    tiles: Sequence[Tile],
    engine: Engine,
    spec: PredictionSpec,
    out: Path,
    manifest: Manifest,
    *,
    masks: Masks | None = None,
    parent: Path | None = None,
    overwrite: bool = False,
    report: Report = silent,
    check: Callable[[], None] | None = None,
) -> LabelMap:
    """Predict tiles and blend them into a label map; an interrupted one is continued.

    Args:
        read: pixels of a box of the network's grid (a slide's, or a TileStore's `read`)
        tiles: which tiles, in grid order
        engine: the network
        spec: grid, classes and usage
        out: the label map's folder
        manifest: what the map is made from, see `predict_manifest`; kept in it, and compared when it is continued
        masks: which pixels do not count; they become background
        parent: annotation file with the parent model's objects, kept in the label map
        overwrite: replace a label map that was made from something else
        report: told how many tiles are done
        check: called when all tiles are read, before the label map counts as finished

    Raises:
        BundleError: the network gives something other than finite numbers
        MismatchError, BusyError, OutputError, SlideError
    """
    grid, batch, factor = spec.label_grid, spec.usage.batch, spec.usage.upsample
    with reserve(out, manifest, overwrite=overwrite) as folder:
        if folder is not None:
            writer = LabelWriter(folder, grid, spec.classes, manifest)
            threshold = spec.usage.foreground_threshold
            blender = Blender(grid, len(spec.classes), writer.rows_done, foreground_threshold=threshold)

            def store(before: int) -> None:
                for row, labels, score in blender.rows(before=before):
                    if masks is not None:
                        blank = masks.blank(spec.grid.row_box(row)).repeat(factor, 0).repeat(factor, 1)
                        labels[blank] = score[blank] = 0
                    writer.write_row(row, labels, score)

            # Tiles of one row above still reach into the first row to do.
            first = next((i for i, t in enumerate(tiles) if t.row >= writer.rows_done - 1), len(tiles))
            batches = _batches(read, tiles, first // batch * batch, batch, readers_for(engine))
            for i, scores in _scores(batches, engine, tta=spec.usage.tta):
                for tile, values in zip(tiles[i : i + batch], scores, strict=False):  # the last batch is padded
                    if tile.row >= writer.rows_done - 1:
                        store(before=tile.row)
                        blender.add(
                            grid[tile.row, tile.col],
                            values if factor == 1 else upsample(np.ascontiguousarray(values), factor),
                        )
                report(Progress(min(i + batch, len(tiles)), len(tiles)))
            store(before=grid.shape[0])
            if check is not None:
                check()
            writer.finish()
            if parent is not None:
                shutil.copyfile(parent, folder / PARENT)
    return LabelMap(out)


def _batches(
    read: Read, tiles: Sequence[Tile], start: int, batch: int, readers: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(place of the first tile, (batch, size, size, 3) uint8), read ahead by some threads while the network works."""

    def load(i: int) -> np.ndarray:
        images = [read(tile.read) for tile in tiles[i : i + batch]]
        return np.stack(images + [np.full_like(images[0], 255)] * (batch - len(images)))

    with ThreadPoolExecutor(readers) as pool:
        waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
        for i in range(start, len(tiles), batch):
            waiting.append((i, pool.submit(load, i)))
            if len(waiting) > readers + 1:
                first, images = waiting.popleft()
                yield first, images.result()
        while waiting:
            first, images = waiting.popleft()
            yield first, images.result()


def _scores(
    batches: Iterator[tuple[int, np.ndarray]], engine: Engine, *, tta: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """(place of the first tile, what the engine says of its batch); one batch is blended while others are inferred."""
    with ThreadPoolExecutor(engine.streams) as pool:
        waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
        for i, images in batches:
            waiting.append((i, pool.submit(_finite, engine, images, tta)))
            if len(waiting) > engine.streams:
                first, scores = waiting.popleft()
                yield first, scores.result()
        while waiting:
            first, scores = waiting.popleft()
            yield first, scores.result()


def _finite(engine: Engine, images: np.ndarray, tta: bool) -> np.ndarray:
    """The engine's result for a batch; BundleError if it is not finite, because NaN would become background."""
    scores = infer(engine, images, tta=tta)
    if not np.isfinite(scores.sum()):  # a NaN or an infinity anywhere shows in the sum of probabilities
        raise BundleError(
            "The network gives something other than finite numbers: the model is damaged or overflows in "
            f"{engine.identity.get('precision', 'this precision')}; use another model, --engine or --device."
        )
    return scores


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What a prediction writes, and where it works.

    Attributes:
        out: the annotation file with the objects
        labels: where to keep the label map; None removes it once the objects are written
        selection: what of the slide to predict
        parent: in a cascade, an annotation file with the parent model's objects, which are written into the output
            before the model's own; the selection says to predict inside them alone
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
    slide: Slide, bundle: ModelBundle, engine: Engine, options: PredictOptions, *, report: Report = silent
) -> Prediction:
    """Tissue, tiles, network, blending, label map, objects: the whole of `wsiseg predict`.

    An interrupted prediction is continued where it stopped, from the label map beside the output.

    Raises:
        BundleError: the model wants pixels that the slide does not have, or gives something other than finite numbers
        TissueError: nothing to predict
        MismatchError, BusyError, OutputError, SlideError, AnnotationError
    """
    check_fit(slide, bundle)
    grid = grid_for(slide, bundle)
    selected = options.selection.apply(slide, grid)
    sources = (
        selected.identity if options.parent is None else {**selected.identity, "parent": file_hash(options.parent)}
    )
    tiles = selected.tiles
    spec = PredictionSpec(grid, bundle.classes, bundle.usage)
    manifest = predict_manifest(slide, spec.label_grid, tiles, bundle, engine, sources)
    kept = options.labels or options.out.with_name(options.out.name + ".labels.zarr")
    earlier = finished_objects(options.out, manifest, overwrite=options.overwrite)
    if earlier is not None and (options.labels is None or options.labels.exists()):
        if options.labels is None and kept.exists():  # killed after the objects were written
            shutil.rmtree(kept)
        return Prediction(earlier, already=True)
    labels = predict_labels(
        lambda box: slide.read(box, grid.frame), tiles, engine, spec,
        kept, manifest, masks=selected.masks(), parent=options.parent, overwrite=options.overwrite,
        report=lambda progress: report(replace(progress, task=bundle.name)), check=slide.check_unchanged,
    )  # fmt: skip
    count = write_prediction(labels.path, options.out)
    if options.labels is None:
        shutil.rmtree(kept)
    return Prediction(count)


def write_prediction(labels: Path, out: Path) -> int:
    """Write the objects of a label map, found as its model was made for, and those of its parent model before them.

    Returns:
        how many objects the file has
    """
    found = read_prediction(labels)
    assert found.classes is not None
    written = write_annotations(
        out, found.objects(), classes=found.classes, properties={"wsiseg": dict(found.manifest)}
    )
    return written.objects


def finished_objects(out: Path, manifest: Manifest, *, overwrite: bool) -> int | None:
    """The number of objects in an output file with this manifest; None if there is nothing to keep.

    Raises:
        MismatchError: it was made from something else, or by hand
    """
    if overwrite or not out.exists():
        return None
    try:
        there = read_annotations(out)
    except AnnotationError as error:
        raise MismatchError(f"{out} exists and is not a prediction ({error}) Start again with --overwrite.") from error
    made_from = dict(there.properties.get("wsiseg") or {})
    made_from.pop("first", None)  # its file's hash stands among the sources
    if not made_from:
        raise MismatchError(
            f"{out} exists and was not written by wsiseg predict: choose another --out or use --overwrite."
        )
    found = differences(made_from, json.loads(json.dumps(manifest)))
    if found:
        raise MismatchError(f"{out} was made from something else ({'; '.join(found[:4])}): use --overwrite.")
    return len(there.polygons)


def check_fit(slide: Slide, bundle: ModelBundle) -> None:
    """BundleError when a model wants pixels far finer than the slide has."""
    finest = max(slide.frame.mpp, slide.frame.mpp_y)
    if bundle.usage.mpp < finest / 2:
        raise BundleError(
            f"The model {bundle.name!r} works at {bundle.usage.mpp:g} µm/px, the slide has only {finest:g}: "
            "use a model that was trained at a coarser resolution."
        )
