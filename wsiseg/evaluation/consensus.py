"""One set of annotations from those of several people, and how far each of them agrees with it.

    files ─► groups of polygons that mean one object ─► decisions, counted ─► STAPLE ─► groups again ─► polygons

Each class is decided on its own, so that an object may lie inside one of another class, as in the files. A group is
rasterised in strips with some surroundings, once to count the decisions and once to draw the result: beside the polygons,
memory depends neither on the slide nor on the number of objects.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.affinity import translate

from wsiseg import __version__
from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.gather import only_areas
from wsiseg.annotations.intake import Intake, take_in
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.annotations.trace import trace
from wsiseg.atomic import atomic_write
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import AnnotationError, ClassError
from wsiseg.evaluation.objects import match_objects
from wsiseg.evaluation.staple import SILENT, staple
from wsiseg.geometry import Box, Frame
from wsiseg.slides.slide import Slide

CERTAIN = 0.9  # probability from which a pixel belongs to an object, or to none
LINK_IOU = 0.1  # polygons of two people that overlap so far mean the same object
SURROUNDINGS = 0.25  # of a group's longer side, on each of its sides
ACROSS = 100  # px of an object of the usual size
SMALLEST_PX = 4  # pieces and holes of fewer px come from borders that all but coincide
MOST_PEOPLE = 39  # decisions of one pixel fit into 64 bits
STRIP_PX = 2**21
UNSURE = 2
_MADE = ClassMap(("Background", "Object", "Ignore"), ignore_names=())


@dataclass(frozen=True, slots=True)
class Annotator:
    """Somebody's annotations of the slide.

    Attributes:
        name: differs from those of the others
        polygons: with classes, in level-0 pixels
    """

    name: str
    polygons: tuple[LabelledPolygon, ...]

    def of_class(self, label: str) -> list[LabelledPolygon]:
        """The polygons of a class."""
        return [p for p in self.polygons if p.label == label]

    def silences(self) -> list[LabelledPolygon]:
        """The polygons in which nothing is stated."""
        return [p for p in self.polygons if p.states_nothing]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one annotator agrees with the consensus about one class.

    Attributes:
        annotator, label: who, and about what
        sensitivity, specificity: of pixels, as STAPLE estimates them; specificity is about the surroundings of objects
        dice: of pixels, between this annotator and the consensus
        annotations: polygons that the annotator has
        found: objects of the consensus that the annotator has too (IoU at least 0.5)
        missed: objects of the consensus that the annotator lacks
        added: polygons of the annotator that are no object of the consensus
    """

    annotator: str
    label: str
    sensitivity: float
    specificity: float
    dice: float
    annotations: int
    found: int
    missed: int
    added: int


@dataclass(frozen=True, slots=True)
class Consensus:
    """What several annotators together say.

    Attributes:
        polygons: objects, and the class Ignore where it is not certain whether there is one
        agreement: one row for each annotator and class
    """

    polygons: tuple[LabelledPolygon, ...]
    agreement: tuple[Agreement, ...]


Group = list[list[LabelledPolygon]]  # for each annotator


def consensus(
    annotators: Sequence[Annotator], level0: Frame, *, mpp: float | None = None, certain: float = CERTAIN
) -> Consensus:
    """Decide what several annotators mean together. Their order plays no part.

    Where all of them drew the same polygons, these are taken as they are.

    Args:
        annotators: at least two
        level0: plane of their polygons
        mpp: µm/px at which borders are decided; None takes `ACROSS` px for the diameter of the median object, and no
            more than level 0 has
        certain: probability from which a pixel belongs to an object, or to none; pixels in between are of the class
            Ignore

    Raises:
        AnnotationError: there are too few or too many annotators, or nobody annotated anything
    """
    if not 2 <= len(annotators) <= MOST_PEOPLE:
        raise AnnotationError(
            f"A consensus takes the annotations of 2 to {MOST_PEOPLE} people, not of {len(annotators)}: give one file "
            "for each."
        )
    people = sorted(annotators, key=lambda one: one.name)
    labels = sorted({str(p.label) for one in people for p in one.polygons if not p.states_nothing})
    if not labels:
        raise AnnotationError("Nobody annotated anything: give files in which there are objects.")
    frame = level0.at(mpp or _resolution(people, level0))
    found, rows = _agreed_silence(people), []
    for label in labels:
        made, agreement = _decide(label, people, frame, level0, certain)
        found += made
        rows += agreement
    return Consensus(tuple(found), tuple(rows))


def _resolution(people: Sequence[Annotator], level0: Frame) -> float:
    shapes = np.array([p.polygon for one in people for p in one.polygons if not p.states_nothing], object)
    area_um2 = float(np.median(shapely.area(shapes))) * level0.mpp * level0.mpp_y
    return max(level0.mpp, level0.mpp_y, math.sqrt(4 / math.pi * area_um2) / ACROSS)


def _decide(
    label: str, people: Sequence[Annotator], frame: Frame, level0: Frame, certain: float
) -> tuple[list[LabelledPolygon], list[Agreement]]:
    """The polygons of a class, and the rows of its agreement."""
    groups = _groups([one.of_class(label) for one in people])
    silent = [_Near(one.silences()) for one in people]
    plans = [_Plan(group, silent, frame, level0) for group in groups]
    counts: Counter[int] = Counter()
    for plan in plans:
        for codes in plan.decisions():
            for code, pixels in zip(*np.unique(codes, return_counts=True), strict=True):
                counts[int(code)] += int(pixels)
    patterns = np.array(sorted(counts), np.int64)
    pixels = np.array([counts[code] for code in patterns.tolist()], np.int64)
    decisions = _decoded(patterns, len(people))
    found = staple(decisions, pixels)
    drawn = np.where(found.probability >= certain, 1, np.where(found.probability <= 1 - certain, 0, UNSURE))
    drawn[(decisions == SILENT).all(axis=1)] = 0  # there is a polygon that says so
    made: list[LabelledPolygon] = []
    for plan in plans:
        made += plan.draw(label, patterns, drawn.astype(np.uint8))
    objects = [p for p in made if p.label == label]
    rows = []
    for r, one in enumerate(people):
        own = one.of_class(label)
        counted = (decisions[:, r] != SILENT) & (drawn != UNSURE)
        both = pixels[counted & (decisions[:, r] == 1) & (drawn == 1)].sum()
        either = pixels[counted & (decisions[:, r] == 1)].sum() + pixels[counted & (drawn == 1)].sum()
        hits, missed, added = match_objects(objects, own).counts
        performance = float(found.sensitivity[r]), float(found.specificity[r])
        dice = float(2 * both / either) if either else 0.0
        rows.append(Agreement(one.name, label, *performance, dice, len(own), hits, missed, added))
    return made, rows


def _groups(own: Sequence[Sequence[LabelledPolygon]]) -> list[Group]:
    """Polygons of several people that mean the same object, directly or through others'."""
    flat = [p for polygons in own for p in polygons]
    owner = np.repeat(np.arange(len(own)), [len(polygons) for polygons in own])
    shapes = np.array([p.polygon for p in flat], object)
    i, j = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    others = (i < j) & (owner[i] != owner[j])
    i, j = i[others], j[others]
    both = shapely.area(shapely.intersection(shapes[i], shapes[j]))
    same = both >= LINK_IOU * (shapely.area(shapes[i]) + shapely.area(shapes[j]) - both)
    graph = coo_array((np.ones(int(same.sum())), (i[same], j[same])), shape=(len(flat), len(flat)))
    number, part = connected_components(graph, directed=False)
    groups: list[Group] = [[[] for _ in own] for _ in range(number)]
    for polygon, r, g in zip(flat, owner.tolist(), part.tolist(), strict=True):
        groups[g][r].append(polygon)
    return groups


class _Near:
    """Polygons that are looked up by place."""

    def __init__(self, polygons: Sequence[LabelledPolygon]) -> None:
        self.polygons = polygons
        self._tree = shapely.STRtree([p.polygon for p in polygons])

    def __call__(self, left: float, top: float, right: float, bottom: float) -> list[LabelledPolygon]:
        return [self.polygons[k] for k in sorted(self._tree.query(shapely.box(left, top, right, bottom)).tolist())]


class _Plan:
    """A group of polygons, and where it is decided about."""

    def __init__(self, group: Group, silent: Sequence[_Near], frame: Frame, level0: Frame) -> None:
        self.group, self.silent, self.frame, self.level0 = group, silent, frame, level0
        sx, sy = level0.scale_to(frame)
        left, top, right, bottom = shapely.total_bounds([p.polygon for own in group for p in own])
        tight = Box.from_bounds(
            math.floor(left * sx), math.floor(top * sy), math.ceil(right * sx), math.ceil(bottom * sy)
        )
        self.box = tight.grow(math.ceil(SURROUNDINGS * max(tight.w, tight.h))).overlap(frame.box)

    def decisions(self) -> Iterator[NDArray[np.int64]]:
        """What everybody says of each pixel as one number (see `_decoded`), strip by strip, int64 (rows, box.w)."""
        sx, sy = self.frame.scale_to(self.level0)
        box = self.box
        around = (box.x * sx, box.y * sy, box.right * sx, box.bottom * sy)
        painters = []
        for own, silent in zip(self.group, self.silent, strict=True):
            shapes = [LabelledPolygon(p.polygon, "Object") for p in own]
            shapes += [LabelledPolygon(p.polygon, "Ignore") for p in silent(*around)]
            painters.append(Rasteriser(shapes, ClassMap(("Background", "Object")), self.frame, self.level0))
        rows = max(1, STRIP_PX // max(box.w, 1))
        for y in range(box.y, box.bottom, rows):
            strip = Box(box.x, y, box.w, min(rows, box.bottom - y))
            codes = np.zeros(strip.shape, np.int64)
            for painter in reversed(painters):
                labels = painter.read(strip)
                codes = 3 * codes + np.where(labels == IGNORE, 2, labels)
            yield codes

    def draw(self, label: str, patterns: NDArray[np.int64], drawn: NDArray[np.uint8]) -> list[LabelledPolygon]:
        """The polygons of the group as they were decided."""
        first, *others = self.group
        if all(_same(first, own) for own in others):
            return [LabelledPolygon(p.polygon, label) for p in first]
        sx, sy = self.frame.scale_to(self.level0)
        pixel = self.frame.mpp * self.frame.mpp_y
        bands = (drawn[np.searchsorted(patterns, codes)] for codes in self.decisions())
        plane = Frame(self.box.w, self.box.h, self.frame.mpp, self.frame.mpp_y)
        polygons = trace(
            bands, _MADE, plane, self.level0, min_area_um2=SMALLEST_PX * pixel, min_hole_um2=SMALLEST_PX * pixel,
            simplify_um=self.frame.mpp,
        )  # fmt: skip
        return [
            LabelledPolygon(
                translate(p.polygon, self.box.x * sx, self.box.y * sy), label if p.label == "Object" else p.label
            )
            for p in polygons
        ]


def _decoded(patterns: NDArray[np.int64], people: int) -> NDArray[np.int8]:
    """(patterns, people) decisions 0, 1 or SILENT: the digits of the numbers to the base of 3, the lowest first."""
    digits = patterns[:, None] // 3 ** np.arange(people, dtype=np.int64) % 3
    return np.where(digits == 2, SILENT, digits).astype(np.int8)


def _same(these: Sequence[LabelledPolygon], those: Sequence[LabelledPolygon]) -> bool:
    def shapes(polygons: Sequence[LabelledPolygon]) -> list[bytes]:
        return sorted(shapely.to_wkb(shapely.normalize(p.polygon)) for p in polygons)

    return len(these) == len(those) and shapes(these) == shapes(those)


def _agreed_silence(people: Sequence[Annotator]) -> list[LabelledPolygon]:
    """The places that everybody ignores."""
    first, *others = [one.silences() for one in people]
    if all(_same(first, own) for own in others):
        return [LabelledPolygon(p.polygon, p.label) for p in first]
    shared = reduce(shapely.intersection, [shapely.union_all([p.polygon for p in own]) for own in (first, *others)])
    area = only_areas(shared)
    return [LabelledPolygon(area, "Ignore")] if area.area else []


def consensus_of_files(
    slide: Slide, files: Sequence[Path], out: Path, *,
    mpp: float | None = None, certain: float = CERTAIN, class_of_rest: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Consensus:  # fmt: skip
    """Read the annotations of several people, and write their consensus as GeoJSON or another format by its suffix.

    Args:
        slide: the slide that they annotated
        files: one for each person
        out: the file to write
        mpp, certain: as of `consensus`
        class_of_rest: the class of annotations that have none
        say: takes what became of the annotations of each file

    Raises:
        AnnotationError, ClassError, MismatchError: as of `wsiseg.annotations.intake.take_in` and `consensus`
        OutputError: the place cannot be written
    """
    names = _names(files)
    intakes = [
        take_in(file, slide, need_class=True, keep_unclassed=False, class_of_rest=class_of_rest) for file in files
    ]
    for intake in intakes:
        say(str(intake.summary))
    people = [Annotator(name, intake.polygons) for name, intake in zip(names, intakes, strict=True)]
    found = consensus(people, slide.frame, mpp=mpp, certain=certain)
    classes = _classes([intake for _, intake in sorted(zip(names, intakes, strict=True), key=lambda pair: pair[0])])
    about = {
        "kind": "consensus",
        "version": __version__,
        "slide": dict(slide.identity),
        "level0": slide.frame.to_json(),
        "classes": classes.to_json(),
        "annotators": sorted(names),
        "certain": certain,
    }
    write_annotations(out, found.polygons, classes=classes, properties={"wsiseg": about}, frame=slide.frame)
    return found


def _names(files: Sequence[Path]) -> list[str]:
    """What tells the annotators apart: the names of their files, or else the paths."""
    twice = [file for file, number in Counter(file.resolve() for file in files).items() if number > 1]
    if twice:
        raise AnnotationError(f"{twice[0]} is given twice: give one file for each person.")
    names = [file.name.split(".")[0] for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]


def _classes(intakes: Sequence[Intake]) -> ClassMap:
    """The classes of all files from A to Z, in the colours that the files give them."""
    names = sorted({str(p.label) for one in intakes for p in one.polygons if not p.states_nothing})
    given: dict[str, Any] = {}
    for intake in intakes:
        known = intake.annotations.classes
        stated = dict(zip(known.names, known.colours, strict=True)) if known is not None else {}
        for name, colour in {**stated, **intake.annotations.colours}.items():
            given.setdefault(name, colour)
    if "Background" in names:
        raise ClassError("A class of the annotations is called 'Background': leave such annotations out.")
    plain = ClassMap(("Background", *names))
    colours = (given.get(name, colour) for name, colour in zip(plain.names, plain.colours, strict=True))
    return ClassMap(plain.names, tuple(colours))


def render(found: Consensus) -> str:
    """The agreement of each annotator as a text table."""
    rows = [("annotator", "class", "sensitivity", "specificity", "Dice", "drawn", "found", "missed", "added")]
    for one in found.agreement:
        pixels = (f"{value:.3f}" for value in (one.sensitivity, one.specificity, one.dice))
        counts = map(str, (one.annotations, one.found, one.missed, one.added))
        rows.append((one.annotator, one.label, *pixels, *counts))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{w}}" if k < 2 else f"{cell:>{w}}" for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def write_table(path: Path, found: Consensus) -> None:
    """Write the agreement as CSV, a row for each annotator and class; OutputError where it cannot be written."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow("class" if field.name == "label" else field.name for field in fields(Agreement))
    table.writerows(asdict(one).values() for one in found.agreement)
    with atomic_write(path) as sink:
        sink.write(text.getvalue().encode())
