"""Audit the annotations of a slide list: predict each slide, and say which annotations are probably wrong.

    slide ─► models that did not learn from it ─► label map of the foreground ─► objects ─► suggestions ─► files

The label map keeps probabilities from `FAINT` on and stays in the output folder, so that other limits take no second
prediction. Objects begin where the models' own foreground threshold says.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from shapely import union_all

from wsiseg import __version__
from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.gather import only_areas
from wsiseg.annotations.intake import take_in
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.annotations.rasterise import covering
from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.bundle import ModelBundle
from wsiseg.classes import ClassMap
from wsiseg.data.slides import SlideEntry, write_slides
from wsiseg.errors import BundleError, OutputError, RecipeError
from wsiseg.evaluation.suggestions import CONFIDENT, KINDS, UNSUPPORTED, Suggestion, suggest
from wsiseg.geometry import Box, Frame
from wsiseg.inference.engines.engine import Engine
from wsiseg.inference.predict import PredictionSpec, check_fit, grid_for, predict_labels, predict_manifest
from wsiseg.progress import Report, silent
from wsiseg.selection.select import Roi, Selection
from wsiseg.selection.tissue import tissue_of
from wsiseg.slides.open import open_slide
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.reservation import differences, read_claim

FAINT = 0.02  # probability of the foreground below which nothing is kept
TABLE = "suggestions.csv"
COLUMNS = ("slide", "kind", "class", "score", "area_um2", "x_px", "y_px")
ON_TISSUE = 0.5  # of a predicted object at least; some models take bare glass for scars
STRIP_PX = 2**22  # of an annotation that are looked at together


@dataclass(frozen=True, slots=True)
class Judge:
    """A model, and what runs it."""

    bundle: ModelBundle
    engine: Engine

    def has_learnt_from(self, entry: SlideEntry) -> bool:
        """Whether the bundle names the slide among those that it was trained on."""
        slides = self.bundle.provenance.get("slides")
        return isinstance(slides, dict) and entry.name in slides.get("train", ())


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What is suggested, and where it is written.

    Attributes:
        out: folder of the suggestions, with the label maps in `labels/`
        corrected: folder for annotations in which everything unannotated that a suggestion is about is of the class
            Ignore, and for a slide list that names them; None writes none
        splits: of the slides that are audited
        confident, unsupported: as of `wsiseg.evaluation.suggestions.suggest`
        class_of_rest: the class of annotations that have none
        overwrite: replace earlier suggestions and corrected annotations
    """

    out: Path
    corrected: Path | None = None
    splits: tuple[str, ...] = ("train", "validation")
    confident: float = CONFIDENT
    unsupported: float = UNSUPPORTED
    class_of_rest: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class AuditedSlide:
    """The suggestions for one slide.

    Attributes:
        entry: the slide
        suggestions: as rows of `COLUMNS`
    """

    entry: SlideEntry
    suggestions: tuple[tuple[Any, ...], ...]

    def count(self, kind: str) -> int:
        """How many suggestions are of a kind."""
        return sum(row[1] == kind for row in self.suggestions)


class Panel:
    """Several models as one engine of two classes: the mean probability of the background, and of all the rest.

    The rest is given to the likeliest class, so that the score of a label map is the probability of any object.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Of models with the same classes and tiles."""
        self.engines = engines
        self.identity: dict[str, Any] = {"name": "panel", "engines": [dict(engine.identity) for engine in engines]}
        self.streams = min(engine.streams for engine in engines)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.probabilities`."""
        mean = np.asarray(np.mean([engine.probabilities(images) for engine in self.engines], axis=0, dtype=np.float32))
        likeliest = mean[:, 1:].argmax(1)[:, None]
        out = np.zeros_like(mean)
        out[:, 0] = mean[:, 0]
        np.put_along_axis(out[:, 1:], likeliest, 1 - mean[:, :1], axis=1)
        return out


class _Above(LabelMap):
    """A label map in which what is less probable than a threshold is background."""

    def __init__(self, path: Path, threshold: float) -> None:
        super().__init__(path)
        self._least = threshold * 255

    def row(self, row: int) -> np.ndarray:
        labels = super().row(row)
        labels[super().score_row(row) <= self._least] = 0
        return labels


def audit(
    entries: Sequence[SlideEntry],
    judges: Sequence[Judge],
    options: AuditOptions,
    *,
    say: Callable[[str], None] = lambda line: None,
    report: Report = silent,
) -> list[AuditedSlide]:
    """Predict every annotated slide of a list, and write what is probably wrong with its annotations.

    A slide is predicted by the mean of the models that did not learn from it, as far as their bundles say. All files
    are written when all slides are predicted. An interrupted audit continues where it stopped.

    Args:
        entries: the slide list
        judges: the models, of the same classes, µm/px and tiles
        options: what is suggested and where it is written
        say: told what became of each slide's annotations, and which slides all models have learnt from
        report: told how many tiles of each slide are done

    Raises:
        RecipeError: no slide of these splits is annotated, or two have the same name
        BundleError: the models do not fit each other or a slide
        OutputError: there are results already, or the place cannot be written
        as `wsiseg.inference.predict.predict_slide` and `wsiseg.annotations.intake.take_in`
    """
    _check_judges(judges)
    chosen = [entry for entry in entries if entry.annotations is not None and entry.split in options.splits]
    if not chosen:
        raise RecipeError(
            f"The list has no annotated slide of the split {' or '.join(options.splits)}: add annotations, or choose "
            "other splits with --split."
        )
    if len({entry.name for entry in chosen}) < len(chosen):
        raise RecipeError("Two slides of the list have the same file name: rename one of them.")
    _check_places(chosen, options)
    found = []
    for entry in chosen:
        own = [judge for judge in judges if not judge.has_learnt_from(entry)]
        if not own:
            say(f"{entry.name}: all models have learnt from it, so that they hide its faults.")
        found.append(_audit_slide(entry, own or judges, options, say, report))
    with translate_os_errors(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    for one in found:
        one.write(options)
    audited = [one.rows() for one in found]
    if options.corrected is not None:
        corrected = {one.entry.slide: options.corrected / f"{one.entry.name}.geojson" for one in found}
        write_slides(
            options.corrected / "slides.csv",
            [replace(entry, annotations=corrected.get(entry.slide, entry.annotations)) for entry in entries],
        )
    write_table(options.out / TABLE, audited)
    return audited


def write_table(path: Path, audited: Sequence[AuditedSlide]) -> None:
    """Write all suggestions as CSV with the columns of `COLUMNS`; OutputError where the place cannot be written."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(row for one in audited for row in one.suggestions)
    with atomic_write(path) as sink:
        sink.write(text.getvalue().encode())


def render(audited: Sequence[AuditedSlide]) -> str:
    """How many suggestions of each kind there are, slide by slide, as a text table."""
    names = [one.entry.name for one in audited]
    width = max(map(len, [*names, "together"]))
    rows = [(one.entry.name, [one.count(kind) for kind in KINDS]) for one in audited]
    rows.append(("together", [sum(column) for column in zip(*(counts for _, counts in rows), strict=True)]))
    lines = [" " * width + "".join(f"{kind:>11}" for kind in KINDS)]
    return "\n".join(lines + [f"{name:<{width}}" + "".join(f"{n:>11}" for n in counts) for name, counts in rows])


@dataclass(frozen=True, slots=True)
class _Found:
    """A slide that was predicted: its suggestions, and all annotations that it has."""

    entry: SlideEntry
    suggestions: list[Suggestion]
    annotations: Annotations
    classes: ClassMap
    about: dict[str, Any]
    area_um2: float  # of a level-0 pixel

    def rows(self) -> AuditedSlide:
        """The suggestions as a table."""
        return AuditedSlide(self.entry, tuple(map(self._row, self.suggestions)))

    def _row(self, suggestion: Suggestion) -> tuple[Any, ...]:
        one = suggestion.object
        middle, area = one.polygon.centroid, one.polygon.area * self.area_um2
        where = (round(middle.x), round(middle.y))
        return self.entry.name, suggestion.kind, one.label, one.score, round(area), *where

    def write(self, options: AuditOptions) -> None:
        """Write the suggestions and, where wanted, the corrected annotations."""
        objects = [suggestion.object for suggestion in self.suggestions]
        about = {"wsiseg": self.about}
        write_annotations(options.out / f"{self.entry.name}.geojson", objects, classes=self.classes, properties=about)
        if options.corrected is None:
            return
        with translate_os_errors(options.corrected):
            options.corrected.mkdir(parents=True, exist_ok=True)
        unsure = [
            LabelledPolygon(only_areas(s.unannotated), "Ignore", details=s.object.details)
            for s in self.suggestions
            if s.kind != "none" and s.unannotated.area
        ]
        write_annotations(
            options.corrected / f"{self.entry.name}.geojson", [*self.annotations.polygons, *unsure],
            classes=self.annotations.class_map(), properties=self.annotations.properties,
            colours=self.annotations.colours,
        )  # fmt: skip


def _audit_slide(
    entry: SlideEntry, judges: Sequence[Judge], options: AuditOptions, say: Callable[[str], None], report: Report
) -> _Found:
    first = judges[0].bundle
    assert entry.annotations is not None
    opening = open_slide(
        entry.slide, mpp=entry.mpp, scaled_decoding=first.usage.scaled_decoding, series=entry.series
    )  # fmt: skip
    with opening as slide:
        intake = take_in(
            entry.annotations, slide, need_class=True, keep_unclassed=False, class_of_rest=options.class_of_rest
        )
        say(str(intake.summary))
        roi = None if entry.roi is None else Roi.read(entry.roi)
        labels = _predict(slide, entry, judges, options, roi, report)
        known = [
            p for p in intake.polygons if str(p.label) in first.classes.names or first.classes.ignores(str(p.label))
        ]
        if len(known) < len(intake.polygons):
            say(f"{entry.name}: {len(intake.polygons) - len(known)} annotations of classes that the models do not know")
        if roi is not None:
            inside = union_all([p.polygon for p in roi.polygons])
            known = [p for p in known if inside.contains(p.polygon.representative_point())]
        area = slide.frame.mpp * slide.frame.mpp_y
        objects = _objects(labels, first, slide)
        suggestions = suggest(
            known, objects, first.classes,
            lambda one: mean_inside(one, labels.read_score, labels.frame, labels.level0) / 255,
            confident=options.confident, unsupported=options.unsupported,
            smallest=first.usage.postprocessing.min_object_um2 / area,
        )  # fmt: skip
        about = {
            "kind": "audit",
            "version": __version__,
            "slide": dict(slide.identity),
            "level0": slide.frame.to_json(),
            "classes": first.classes.to_json(),
            "models": [judge.bundle.identity for judge in judges],
            "confident": options.confident,
            "unsupported": options.unsupported,
        }
    return _Found(entry, suggestions, intake.annotations, first.classes, about, area)


def _objects(labels: LabelMap, bundle: ModelBundle, slide: Slide) -> list[LabelledPolygon]:
    """The objects of a map as its model finds them, of whichever class; without those that lie mostly on glass."""
    threshold = bundle.usage.foreground_threshold
    found = _Above(labels.path, 0.5 if threshold is None else threshold).objects(
        replace(bundle.usage.postprocessing, whole_objects=True)
    )
    tissue = tissue_of(slide)
    mask = tissue.frame

    def on_tissue(one: LabelledPolygon) -> bool:
        return mean_inside(one, lambda box: tissue.mask[box.slices], mask, labels.level0) >= ON_TISSUE

    return [one for one in found if on_tissue(one)]


def mean_inside(one: LabelledPolygon, read: Callable[[Box], np.ndarray], frame: Frame, level0: Frame) -> float:
    """The mean of a raster inside a polygon; 0 where it covers no pixel's centre.

    Args:
        one: in pixels of `level0`
        read: the raster in a box of `frame`
        frame: plane of the raster
        level0: plane of the polygon
    """
    ((_, covered),) = covering([one], frame, level0)
    sx, sy = level0.scale_to(frame)
    left, top, right, bottom = one.polygon.bounds
    box = Box.from_bounds(int(left * sx), int(top * sy), int(right * sx) + 1, int(bottom * sy) + 1).overlap(frame.box)
    total, pixels, rows = 0.0, 0, max(1, STRIP_PX // max(box.w, 1))
    for y in range(box.y, box.bottom, rows):
        strip = Box(box.x, y, box.w, min(rows, box.bottom - y))
        inside = covered(strip)
        total += float(read(strip)[inside].sum())
        pixels += int(inside.sum())
    return total / max(pixels, 1)


def _predict(
    slide: Slide, entry: SlideEntry, judges: Sequence[Judge], options: AuditOptions, roi: Roi | None, report: Report
) -> LabelMap:
    """The label map of a slide, whose score is the probability of any object."""
    first = judges[0].bundle
    check_fit(slide, first)
    bundle = replace(first, usage=replace(first.usage, foreground_threshold=FAINT, upsample=1))
    engine, grid = Panel([judge.engine for judge in judges]), grid_for(slide, bundle)
    selected = Selection(roi=roi).apply(slide, grid)
    models = {"models": [judge.bundle.identity for judge in judges]}
    manifest = predict_manifest(slide, grid, selected.tiles, bundle, engine, {**selected.identity, **models})
    out = options.out / "labels" / f"{entry.name}.zarr"
    outdated = options.overwrite and out.exists() and differences(read_claim(out), json.loads(json.dumps(manifest)))
    return predict_labels(
        lambda box: slide.read(box, grid.frame), selected.tiles, engine,
        PredictionSpec(grid, bundle.classes, bundle.usage), out, manifest, masks=selected.masks(),
        overwrite=bool(outdated), report=lambda progress: report(replace(progress, task=entry.name)),
        check=slide.check_unchanged,
    )  # fmt: skip


def _check_judges(judges: Sequence[Judge]) -> None:
    first = judges[0].bundle
    for judge in judges:
        bundle = judge.bundle
        if bundle.parent is not None:
            raise BundleError(
                f"The model {bundle.name!r} works inside the objects of another one: audit with models that predict "
                "whole slides."
            )
        usages = [
            replace(usage, foreground_threshold=None, upsample=1, postprocessing=first.usage.postprocessing)
            for usage in (bundle.usage, first.usage)
        ]
        if bundle.classes.names != first.classes.names or usages[0] != usages[1]:
            raise BundleError(
                f"The models {first.name!r} and {bundle.name!r} have other classes, µm/px or tiles: audit with models "
                "of one recipe."
            )


def _check_places(entries: Sequence[SlideEntry], options: AuditOptions) -> None:
    """OutputError where a result would replace something."""
    files = [options.out / f"{entry.name}.geojson" for entry in entries] + [options.out / TABLE]
    if options.corrected is not None:
        files += [options.corrected / f"{entry.name}.geojson" for entry in entries] + [options.corrected / "slides.csv"]
    own = {entry.annotations.resolve() for entry in entries if entry.annotations is not None}
    for file in files:
        if file.resolve() in own:
            raise OutputError(f"{file} is a file of annotations that are audited: choose another folder.")
        if file.exists() and not options.overwrite:
            raise OutputError(f"{file} exists already: choose another folder, or use --overwrite.")
