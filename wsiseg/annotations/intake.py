"""From an annotation file to polygons that can be used on a slide, with a count of everything that is not as it was.

    file ─► read ─► plane 0 ─► each once ─► classes ─► inside the slide ─► Intake(polygons, summary)

Every command that reads annotations goes this way, so that all of them leave out the same things, say so in the same
words, and refuse the same files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.gather import check_text
from wsiseg.annotations.polygon import Annotations, LabelledPolygon, counted
from wsiseg.annotations.surround import statements_first
from wsiseg.classes import ClassMap, canonical_name
from wsiseg.errors import AnnotationError, ClassError, MismatchError
from wsiseg.geometry import Box, Frame

NAME_THEM = "give all of them one with --class NAME, or classes in the program that they were drawn in"
KNOW_THEM = "name all classes with --classes, or leave this one out with --ignore-class"

EDGE_PX = 1.0  # an annotation that passes the edge of the slide by no more than this was drawn along it


class Plane(Protocol):
    """The facts about a slide that are needed here; `wsiseg.slides.slide.Slide` has them.

    Attributes:
        frame: level 0
        bounds: the scanned region in level-0 pixels
        downsamples: level-0 px per px of every level
    """

    @property
    def frame(self) -> Frame: ...

    @property
    def bounds(self) -> Box: ...

    @property
    def downsamples(self) -> Sequence[tuple[float, float]]: ...


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the objects of a file, as counts.

    Attributes:
        file: its name
        read: annotations that the file has
        used: how many of them are used
        skipped: kind of thing that is not an area -> how many were left out
        repaired: invalid polygons that were made valid
        duplicates: left out, since the same polygon of the same class stands earlier in the file
        outside: left out, since they lie outside the slide
        partly_outside: used, though they reach beyond the slide
        without_class: have no class of their own
        other_planes: left out, since they lie on another z plane or time than the first
        nothing_stated: used, but their class says "no statement", as Ignore* and Region* do
    """

    file: str
    read: int
    used: int
    skipped: Mapping[str, int]
    repaired: int = 0
    duplicates: int = 0
    outside: int = 0
    partly_outside: int = 0
    without_class: int = 0
    other_planes: int = 0
    nothing_stated: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "skipped": dict(self.skipped)}

    def __str__(self) -> str:
        read = counted(self.read, "annotation")
        notes = [read if self.used == self.read else f"{self.used} of {read} used"]
        told = (
            (self.repaired, "repaired"),
            (self.duplicates, "given twice left out"),
            (self.outside, "outside the slide left out"),
            (self.partly_outside, "partly outside the slide"),
            (self.other_planes, "on other z planes or times left out"),
            (self.without_class, "without a class"),
            (self.nothing_stated, "of classes that state nothing"),
        )
        notes += [f"{n} {what}" for n, what in told if n]
        notes += [f"{n} {kind} skipped" for kind, n in sorted(self.skipped.items())]
        return f"{self.file}: {', '.join(notes)}"


@dataclass(frozen=True, slots=True)
class Intake:
    """The polygons of a file that are used.

    Attributes:
        polygons: in level-0 pixels, in the order of the file
        summary: what became of the others
        annotations: all that the file has, as it was read
    """

    polygons: tuple[LabelledPolygon, ...]
    summary: Summary
    annotations: Annotations


def take_in(
    path: Path,
    slide: Plane | None = None,
    *,
    found: Annotations | None = None,
    all_planes: bool = False,
    same_mpp: bool = False,
    need_class: bool = False,
    keep_unclassed: bool = True,
    class_of_rest: str | None = None,
    rename: Mapping[str, str] | None = None,
    classes: ClassMap | None = None,
    name_them: str = NAME_THEM,
    know_them: str = KNOW_THEM,
) -> Intake:
    """Read an annotation file for a slide.

    Args:
        path: of any format that is read
        slide: its plane; without it annotations may lie anywhere
        found: what is in the file, where it was read before
        all_planes: True takes all z planes and times, and not only the first
        same_mpp: refuse a file that was made at another µm/px of this slide
        need_class: refuse a file in which no annotation has a class
        keep_unclassed: False leaves annotations without a class out
        class_of_rest: the class of all annotations that have none
        rename: class -> another name for it; "" stands for annotations without a class
        classes: refuse annotations of other classes
        name_them, know_them: what a person can do about annotations without a class, and of an unknown one

    Raises:
        AnnotationError: the file cannot be read, no annotation has a class though `need_class`, all lie outside the
            slide or on other planes, or one reaches absurdly far beyond the slide
        ClassError: an annotation has a class that is not in `classes`
        MismatchError: the file says that it was made from a slide of another size
    """
    found = read_annotations(path) if found is None else found
    made_from = found.level0
    if slide is not None and made_from is not None:
        frame = slide.frame
        if made_from.box != frame.box or (same_mpp and made_from != frame):
            raise MismatchError(
                f"{path} was made from a slide of {made_from.width} × {made_from.height} px at {made_from.mpp:g} µm/px, "
                f"not {frame.width} × {frame.height} px at {frame.mpp:g} µm/px: give the slide that it belongs to, "
                "or state --mpp."
            )
    polygons = statements_first(found.polygons) if found.about.get("kind") == "review" else list(found.polygons)
    flat = polygons if all_planes else [p for p in polygons if p.details.plane[1:] == (0, 0)]
    if polygons and not flat:
        planes = sorted({p.details.plane[1] for p in polygons})
        raise AnnotationError(
            f"{path}: {_all(polygons)} on other planes than the first, which alone is read "
            f"(z {', '.join(map(str, planes[:5]))}): move them to z 0, or give the annotations of that plane."
        )
    once = without_duplicates(named(flat, rename or {}, class_of_rest))
    inside, partly = on_slide(path, once, slide) if slide is not None else (once, 0)
    unclassed = sum(p.label is None for p in inside)
    if need_class and inside and unclassed == len(inside):
        raise AnnotationError(f"{path} has {counted(len(inside), 'annotation')} and not one with a class: {name_them}.")
    used = [p for p in inside if p.label is not None or keep_unclassed]
    if classes is not None:
        check_classes(path, used, classes, know_them)
    summary = Summary(
        path.name,
        read=len(found.polygons),
        used=len(used),
        skipped=found.skipped,
        repaired=found.repaired,
        duplicates=len(flat) - len(once),
        outside=len(once) - len(inside),
        partly_outside=partly,
        without_class=unclassed,
        other_planes=len(polygons) - len(flat),
        nothing_stated=sum(p.states_nothing for p in used),
    )
    return Intake(tuple(used), summary, found)


def without_duplicates(polygons: Sequence[LabelledPolygon]) -> list[LabelledPolygon]:
    """The polygons without those that repeat the class, plane and shape of an earlier one.

    Where the second one has what the first one lacks, such as a name, it is still the same object.
    """
    shapes = np.array([p.polygon for p in polygons], dtype=object)
    # Whatever the corner at which a ring begins, its sum is the same but for rounding, and only few sums coincide.
    facts = np.column_stack([shapely.bounds(shapes).reshape(-1, 4), np.round(shapely.area(shapes), 3)])
    order = np.lexsort(facts.T)
    same = (facts[order[1:]] == facts[order[:-1]]).all(axis=1)
    suspects = np.union1d(order[1:][same], order[:-1][same])
    seen, drop = set(), set()
    for i, shape in zip(suspects.tolist(), shapely.normalize(shapes[suspects]), strict=True):
        key = (polygons[i].label, polygons[i].details.plane[1:], shapely.to_wkb(shape))
        if key in seen:
            drop.add(i)
        seen.add(key)
    return [p for i, p in enumerate(polygons) if i not in drop]


def named(
    polygons: Sequence[LabelledPolygon], rename: Mapping[str, str], class_of_rest: str | None
) -> list[LabelledPolygon]:
    """The polygons with the class names that the user wants."""
    names = {canonical_name(old): canonical_name(new) for old, new in rename.items()}
    if class_of_rest is not None:
        check_text(class_of_rest, "A class")
        names.setdefault("", canonical_name(class_of_rest))
    if not names:
        return list(polygons)
    return [replace(p, label=names.get(p.label or "", p.label or "") or None) for p in polygons]


def check_classes(
    path: Path, polygons: Sequence[LabelledPolygon], classes: ClassMap, know_them: str = KNOW_THEM
) -> None:
    """ClassError, naming the file and the annotation, for a class that a class map does not know."""
    labels = [p.label for p in polygons]
    for label in dict.fromkeys(labels):
        try:
            classes.index(label or classes.names[0])
        except ClassError as error:
            first = polygons[labels.index(label)]
            which = f"annotation {labels.index(label) + 1}" + (f" (id {first.id})" if first.id else "")
            more = f" and {labels.count(label) - 1} more" if labels.count(label) > 1 else ""
            raise ClassError(f"{path}: {which}{more}: {error} {know_them[0].upper()}{know_them[1:]}.") from None


def on_slide(what: object, polygons: Sequence[LabelledPolygon], slide: Plane) -> tuple[list[LabelledPolygon], int]:
    """The polygons that lie on a slide, and how many of them reach beyond it.

    Args:
        what: whose polygons they are, for messages
        polygons: in level-0 pixels
        slide: its plane

    Raises:
        AnnotationError: there are polygons and all of them lie outside, or one reaches absurdly far beyond the slide
    """
    if not polygons:
        return [], 0
    frame = slide.frame
    size = np.array([frame.width, frame.height], np.float64)
    shapes = np.array([p.polygon for p in polygons], dtype=object)
    bounds = shapely.bounds(shapes)
    if (bounds >= 0).all() and (bounds <= 1).all() and min(size) > 2:
        raise AnnotationError(
            f"{what}: {_all(polygons)} within the first pixel; they look like fractions of the slide: "
            f"multiply x by {frame.width} and y by {frame.height}."
        )
    beyond = np.maximum(-bounds[:, :2], bounds[:, 2:] - size).max(axis=1)  # how far each one reaches
    touches = (bounds[:, :2] < size).all(axis=1) & (bounds[:, 2:] > 0).all(axis=1)
    partly = np.flatnonzero(touches & (beyond > EDGE_PX))
    touches[partly] = shapely.intersects(shapes[partly], shapely.box(0, 0, *size))
    if not touches.any():
        raise AnnotationError(
            f"{what}: {_all(polygons)} outside the slide of {frame.width} × {frame.height} px; "
            f"{_explanation(bounds, slide)}."
        )
    for i in np.flatnonzero(touches & (beyond > max(size))):
        raise AnnotationError(
            f"{what}: annotation {i + 1} reaches {beyond[i]:.0f} px beyond the slide of {frame.width} × "
            f"{frame.height} px: correct it, or check that the file belongs to this slide."
        )
    return [p for p, keep in zip(polygons, touches, strict=True) if keep], int(touches[partly].sum())


def _all(polygons: Sequence[LabelledPolygon]) -> str:
    return "its only annotation lies" if len(polygons) == 1 else f"all {len(polygons)} annotations lie"


def _explanation(bounds: NDArray[np.float64], slide: Plane) -> str:
    """Why annotations may lie outside a slide: the first simple transform that brings all of them onto it.

    Args:
        bounds: (n, 4) left, top, right, bottom in what the file takes for level-0 pixels
        slide: where they should lie
    """
    frame = slide.frame
    for words, moved in _transforms(bounds, slide):
        left, top = moved[:, :2].min(axis=0)
        right, bottom = moved[:, 2:].max(axis=0)
        inside = min(left, top, frame.width - right, frame.height - bottom) >= -EDGE_PX
        if inside and np.median(np.abs(moved[:, 2:] - moved[:, :2])) >= 4:
            return f"they fit {words}"
    return "give the annotations of this slide, in its level-0 pixels"


def _transforms(bounds: NDArray[np.float64], slide: Plane) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Simple mistakes, the likelier ones first: what to say, and the bounds without the mistake."""
    frame, box = slide.frame, slide.bounds
    yield "with x and y swapped: swap them, as QuPath has them", bounds[:, [1, 0, 3, 2]]
    if box.x or box.y:
        offset = np.array([box.x, box.y] * 2, np.float64)
        words = "if moved by the offset of the scanned region"
        yield f"{words}: subtract ({box.x}, {box.y})", bounds - offset
        yield f"{words}: add ({box.x}, {box.y})", bounds + offset
    scale = np.array([frame.mpp, frame.mpp_y] * 2)
    yield f"if they are in µm: divide them by {frame.mpp:g} µm/px", bounds / scale
    for factor in sorted({*(one for one, _ in slide.downsamples if one > 1), 2.0, 4.0, 8.0, 16.0}):
        yield f"if they were drawn on another level or magnification: divide them by {factor:g}", bounds / factor
    yield f"if they are in nm: divide them by {1000 * frame.mpp:g} nm/px", bounds / (1000 * scale)
    yield "with the y axis pointing down: turn the sign of y", (bounds * (1, -1, 1, -1))[:, [0, 3, 2, 1]]
    middle = np.array([frame.width / 2, frame.height / 2] * 2)
    yield "if they count from the middle of the slide: add half its width and height", bounds + middle
    x, y = bounds[:, :2].min(axis=0)
    words = "if moved, as when the slide is a part of a larger one"
    yield f"{words}: the first begins at ({x:.0f}, {y:.0f})", bounds - (x, y, x, y)
