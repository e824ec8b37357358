"""Evaluation of files: a slide, the reference to judge by, and a prediction of whatever kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import AnnotationError, ClassError, MismatchError
from wsiseg.evaluation.evaluate import SlideEvaluation, evaluate_slide
from wsiseg.geometry import Box
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.prediction import PredictionFile, read_prediction


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """Which classes are compared.

    Attributes:
        only: these alone; polygons of all others count as background. Empty: all that the prediction knows
        ignore: polygons of these classes state nothing: their pixels are left out, on either side
    """

    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def of(self, classes: ClassMap) -> ClassMap:
        """The classes to compare out of those that are known; ClassError where a chosen one is not known."""
        for name in self.only:
            if classes.index(name) in (0, IGNORE):  # it raises for an unknown name, and says which there are
                raise ClassError(f"The class {name!r} cannot be compared: name classes of objects.")
        names = [
            n
            for n in classes.names
            if n == classes.names[0] or (n not in self.ignore and (not self.only or n in self.only))
        ]
        if len(names) < 2:
            raise ClassError("No class is left to compare: ignore fewer of them.")
        colours = tuple(classes.colours[classes.names.index(n)] for n in names)
        return ClassMap(tuple(names), colours, tuple(dict.fromkeys((*classes.ignore_names, *self.ignore))))


def compare_files(
    slide: Slide,
    reference: Path,
    prediction: Path,
    resolution: float,
    classes: ClassMap | None = None,
    match_um: float | None = None,
    choice: ClassChoice = ClassChoice(),
) -> tuple[SlideEvaluation, ClassMap]:
    """Compare two files over the whole slide.

    Args:
        slide: for the size and the µm/px of its level 0
        reference: annotations; those without a class are left out
        prediction: annotations or a label map; the same prediction gives the same objects either way
        resolution: µm/px at which pixels are compared; a label map brings its own
        classes: known to the prediction, see `common_classes`, which several slides need
        match_um: as of `evaluate_slide`
        choice: which of the classes are compared

    Returns:
        The evaluation, and the classes that were compared: the prediction's own where it says them, else all that
        either file names.

    Raises:
        AnnotationError: a file cannot be read, or neither names a class
        MismatchError: the prediction was made from another slide
        ClassError: the reference has a class that the prediction's classes do not have
        StoreError: the label map is damaged
    """
    wanted, found = read_annotations(reference), read_prediction(prediction)
    if found.level0 not in (None, slide.frame):
        raise MismatchError(
            f"{prediction} was made from a slide of another size or µm/px than {slide.name}: name its own slide, or "
            "state --mpp as for the prediction."
        )
    known = classes or found.classes or _named([(wanted, found)], f"{reference} and {prediction}")
    compared = choice.of(known)
    _check_classes(reference, wanted, known, choice)
    frame = slide.frame.at(resolution) if found.labels is None else found.labels.frame
    # Of a cascade, the label map knows the objects of one model only: its polygons say all.
    labels = None if found.labels is None or found.parent is not None else partial(_relabelled, found.labels, compared)
    evaluation = evaluate_slide(
        slide.name, _of(compared, wanted.polygons), _of(compared, found.objects()), compared, frame, slide.frame,
        labels=labels, match_um=match_um,
    )  # fmt: skip
    return evaluation, compared


def _check_classes(path: Path, wanted: Annotations, known: ClassMap, choice: ClassChoice) -> None:
    """ClassError, naming file and polygon, for a class that the prediction does not know and that was not left
    out.
    """
    if choice.only:
        return
    there = {*known.names, *known.ignore_names, *choice.ignore}
    for number, polygon in enumerate(wanted.polygons, 1):
        if polygon.label is not None and polygon.label not in there:
            raise ClassError(
                f"{path}: outline {number} of {len(wanted.polygons)} has the class {polygon.label!r}, which the prediction "
                f"does not know (it has {', '.join(map(repr, known.names[1:]))}): leave it out with --ignore-class "
                f"{polygon.label!r}, or name the classes to compare with --classes."
            )


def _of(classes: ClassMap, polygons: Iterable[LabelledPolygon]) -> tuple[LabelledPolygon, ...]:
    """The polygons of some classes, ignored ones included."""
    there = {*classes.names, *classes.ignore_names}
    return tuple(p for p in polygons if p.label in there)


def _relabelled(labels: LabelMap, classes: ClassMap, box: Box) -> np.ndarray:
    """(box.h, box.w) uint8 labels of a map as those of the classes that are compared."""
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    for index, name in enumerate(labels.classes):
        if name in classes.names or name in classes.ignore_names:
            table[index] = classes.index(name)
    return np.asarray(table[labels.read(box)])


def common_classes(pairs: Sequence[tuple[Path, Path]]) -> ClassMap:
    """The classes by which several slides are judged together.

    Args:
        pairs: (reference, prediction) of each slide

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
    return stated[0] or _named(read, "these files")


def _named(pairs: Sequence[tuple[Annotations, PredictionFile]], files: str) -> ClassMap:
    """All classes that files name which state none."""
    ignored = {"Background", "Ignore", "Ignore*"}
    both = [polygons for wanted, found in pairs for polygons in (wanted.polygons, found.annotations.polygons)]
    names = {p.label for polygons in both for p in polygons if p.label} - ignored
    if not names:
        raise AnnotationError(f"None of {files} has an outline with a class: there is nothing to compare.")
    return ClassMap(("Background", *sorted(names)))
