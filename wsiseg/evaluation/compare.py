"""Evaluation of files: a slide, the reference to compare with, and a prediction of whatever kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.intake import check_classes, named, take_in
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import IGNORE, ClassMap, canonical_name
from wsiseg.errors import AnnotationError, ClassError, MismatchError
from wsiseg.evaluation.evaluate import SlideEvaluation, evaluate_slide
from wsiseg.geometry import Box
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.prediction import read_prediction


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """Which classes are compared.

    Attributes:
        only: these alone; polygons of all others count as background. Empty: all that the prediction knows
        ignore: polygons of these classes state nothing: their pixels are left out, on either side
    """

    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "only", tuple(map(canonical_name, self.only)))
        object.__setattr__(self, "ignore", tuple(map(canonical_name, self.ignore)))

    def of(self, known: ClassMap) -> ClassMap:
        """The classes to compare, out of those that the prediction knows; ClassError where a chosen one is unknown."""
        for name in self.only:
            if known.index(name) in (0, IGNORE):  # it raises for an unknown name, and says which there are
                raise ClassError(f"The class {name!r} cannot be compared: name classes of objects.")
        colours = dict(zip(known.names, known.colours, strict=True))
        kept = [known.names[0], *(n for n in known.names[1:] if n in (self.only or known) and n not in self.ignore)]
        if len(kept) < 2:
            raise ClassError("No class is left to compare: ignore fewer of them.")
        ignored = dict.fromkeys((*known.ignore_names, *self.ignore))
        return ClassMap(tuple(kept), tuple(colours[name] for name in kept), tuple(ignored))

    def allowed(self, known: ClassMap) -> ClassMap | None:
        """The classes that the reference may have; None allows all."""
        if self.only:  # whatever else there is counts as background
            return None
        unknown = tuple(dict.fromkeys(n for n in self.ignore if n not in (*known.names, *known.ignore_names)))
        return replace(known, ignore_names=known.ignore_names + unknown)


ALL_CLASSES = ClassChoice()


def compare_files(
    slide: Slide,
    reference: Path,
    prediction: Path,
    resolution: float,
    known: ClassMap | None = None,
    match_um: float | None = None,
    choice: ClassChoice = ALL_CLASSES,
    say: Callable[[str], None] = lambda line: None,
    class_of_rest: str | None = None,
) -> tuple[SlideEvaluation, ClassMap]:
    """Compare two files over the whole slide.

    Args:
        slide: for the size and the µm/px of its level 0
        reference: annotations; those without a class are left out
        prediction: annotations or a label map; the same prediction gives the same objects either way
        resolution: µm/px at which pixels are compared; a label map brings its own
        known: the classes of the prediction, see `common_classes`, which several slides need
        match_um: as of `evaluate_slide`
        choice: which of the classes are compared
        say: told what became of the annotations of each file
        class_of_rest: the class of all annotations that have none

    Returns:
        The evaluation, and the classes that were compared, out of the prediction's own where it says them, else out of
        all that either file names.

    Raises:
        AnnotationError: a file cannot be read, the reference has annotations and none with a class, or all of a file
            lie outside the slide
        MismatchError: the prediction was made from another slide
        ClassError: the reference has a class that the prediction does not know; the message names file and annotation
        StoreError: the label map is damaged
    """
    found = read_prediction(prediction)
    if found.level0 not in (None, slide.frame):
        raise MismatchError(
            f"{prediction} was made from a slide of another size or µm/px than {slide.name}: give the slide that it "
            "belongs to, or state --mpp as for the prediction."
        )
    intake = partial(take_in, slide=slide, need_class=True, keep_unclassed=False, class_of_rest=class_of_rest)
    taken = [intake(reference)]
    if found.labels is None:
        taken.append(intake(prediction, found=found.annotations))
    objects = taken[1].polygons if found.labels is None else found.objects()
    for one in taken:
        say(str(one.summary))
    known = known or found.classes or _named([one.polygons for one in taken], f"{reference} and {prediction}")
    compared, allowed = choice.of(known), choice.allowed(known)
    if allowed is not None:
        check_classes(reference, taken[0].polygons, allowed)
    frame = slide.frame.at(resolution) if found.labels is None else found.labels.frame
    # Of a cascade, the label map has the objects of one model only; its polygons have those of both.
    labels = None if found.labels is None or found.parent is not None else partial(_relabelled, found.labels, compared)
    evaluation = evaluate_slide(
        slide.name, _of(compared, taken[0].polygons), _of(compared, objects), compared, frame, slide.frame,
        labels=labels, match_um=match_um,
    )  # fmt: skip
    return replace(evaluation, annotations=tuple(one.summary for one in taken)), compared


def _of(classes: ClassMap, polygons: Iterable[LabelledPolygon]) -> tuple[LabelledPolygon, ...]:
    """The polygons of some classes, ignored ones included."""
    return tuple(p for p in polygons if p.label is not None and (p.label in classes.names or classes.ignores(p.label)))


def _relabelled(labels: LabelMap, classes: ClassMap, box: Box) -> np.ndarray:
    """(box.h, box.w) uint8 labels of a map as those of the classes that are compared."""
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    for index, name in enumerate(labels.classes):
        if name in classes.names or classes.ignores(name):
            table[index] = classes.index(name)
    return np.asarray(table[labels.read(box)])


def common_classes(pairs: Sequence[tuple[Path, Path]], class_of_rest: str | None = None) -> ClassMap:
    """The classes by which several slides are judged together.

    Args:
        pairs: (reference, prediction) of each slide
        class_of_rest: the class of all annotations that have none

    Raises:
        AnnotationError: a file cannot be read, or none of them names a class
        MismatchError: the predictions are of different classes
    """
    read = [(read_annotations(reference), read_prediction(prediction)) for reference, prediction in pairs]
    stated = [found.classes for _, found in read]
    if any(classes != stated[0] for classes in stated):
        raise MismatchError(
            "The predictions have different classes: evaluate slides together only if one model predicted them."
        )
    files = [polygons for wanted, found in read for polygons in (wanted.polygons, found.annotations.polygons)]
    return stated[0] or _named([named(polygons, {}, class_of_rest) for polygons in files], "these files")


def _named(read: Iterable[Sequence[LabelledPolygon]], files: str) -> ClassMap:
    """All classes of the polygons of files which state none."""
    names = {p.label for polygons in read for p in polygons if p.label and not p.states_nothing} - {"Background"}
    if not names:
        raise AnnotationError(f"None of {files} has an annotation with a class: there is nothing to compare.")
    return ClassMap(("Background", *sorted(names)))
