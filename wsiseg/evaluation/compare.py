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
from wsiseg.classes import IGNORE, ClassMap, canonical_name, states_nothing
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
        for field in ("only", "ignore"):
            object.__setattr__(self, field, tuple(map(canonical_name, getattr(self, field))))

    def of(self, known: ClassMap) -> ClassMap:
        """The classes to compare, out of those that the prediction knows; ClassError where a chosen one is unknown."""
        for name in self.only:
            if known.index(name) in (0, IGNORE):  # it raises for an unknown name, and says which there are
                raise ClassError(f"The class {name!r} cannot be compared: name classes of objects.")
        kept = [
            i for i, n in enumerate(known) if i == 0 or (n not in self.ignore and (not self.only or n in self.only))
        ]
        if len(kept) < 2:
            raise ClassError("No class is left to compare: ignore fewer of them.")
        colours = tuple(known.colours[i] for i in kept)
        return ClassMap(
            tuple(known.names[i] for i in kept), colours, tuple(dict.fromkeys((*known.ignore_names, *self.ignore)))
        )

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
        AnnotationError: a file cannot be read, the reference has outlines and none with a class, or all of a file lie
            outside the slide
        MismatchError: the prediction was made from another slide
        ClassError: the reference has a class that the prediction does not know; the message names file and outline
        StoreError: the label map is damaged
    """
    found = read_prediction(prediction)
    if found.level0 not in (None, slide.frame):
        raise MismatchError(
            f"{prediction} was made from a slide of another size or µm/px than {slide.name}: give the slide that it belongs to, or "
            "state --mpp as for the prediction."
        )
    intake = take_in(reference, slide, need_class=True, keep_unclassed=False, class_of_rest=class_of_rest)
    taken, objects = [intake], found.objects() if found.labels is not None else ()
    if found.labels is None:
        said = take_in(
            prediction, slide, found=found.annotations, need_class=True, keep_unclassed=False,
            class_of_rest=class_of_rest,
        )  # fmt: skip
        taken.append(said)
        objects = said.polygons
    for one in taken:
        say(str(one.summary))
    known = known or found.classes or _named([one.polygons for one in taken], f"{reference} and {prediction}")
    compared, allowed = choice.of(known), choice.allowed(known)
    if allowed is not None:
        check_classes(reference, intake.polygons, allowed)
    frame = slide.frame.at(resolution) if found.labels is None else found.labels.frame
    # Of a cascade, the label map has the objects of one model only; its polygons have those of both.
    labels = None if found.labels is None or found.parent is not None else partial(_relabelled, found.labels, compared)
    evaluation = evaluate_slide(
        slide.name, _of(compared, intake.polygons), _of(compared, objects), compared, frame, slide.frame,
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
    names = {p.label for polygons in read for p in polygons if p.label and not states_nothing(p.label)} - {"Background"}
    if not names:
        raise AnnotationError(f"None of {files} has an outline with a class: there is nothing to compare.")
    return ClassMap(("Background", *sorted(names)))
