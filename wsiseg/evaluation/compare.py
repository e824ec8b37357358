"""Evaluation of files: a slide, the outlines to judge by, and a prediction as outlines or as a label map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import Annotations, LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError, MismatchError
from wsiseg.evaluation.evaluate import SlideEvaluation, evaluate_slide
from wsiseg.slides.slide import Slide
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.objects import objects_of


def compare_files(
    slide: Slide,
    truth: Path,
    prediction: Path,
    resolution: float,
    classes: ClassMap | None = None,
    match_um: float | None = None,
) -> tuple[SlideEvaluation, ClassMap]:
    """Compare two files over the whole slide.

    Args:
        slide: for the size and the µm/px of its level 0
        truth: outlines; those without a class are left out
        prediction: outlines, or a label map (.zarr)
        resolution: µm/px at which pixels are compared; a label map brings its own
        classes: of outlines; see `common_classes`, which several slides need
        match_um: as of `evaluate_slide`

    Returns:
        The evaluation, and its classes: the prediction's own where it says them, else all that either file names.

    Raises:
        AnnotationError: a file cannot be read, or neither names a class
        MismatchError: the label map was made from another slide
        ClassError: the truth has a class that the prediction's classes do not have
        StoreError: the label map is damaged
    """
    wanted = read_annotations(truth)
    level0 = slide.frame
    if prediction.suffix == ".zarr":
        labels = LabelMap(prediction)
        if labels.level0 != level0:
            raise MismatchError(
                f"{prediction} was made from a slide of another size or µm/px than {slide.name}: name its own."
            )
        found = evaluate_slide(
            slide.name, _named(wanted), tuple(objects_of(labels)), labels.classes, labels.frame, level0,
            labels=labels.read, match_um=match_um,
        )  # fmt: skip
        return found, labels.classes
    said = read_annotations(prediction)
    classes = classes or _classes([(wanted, said)], f"{truth} and {prediction}")
    frame = level0.at(resolution)
    found = evaluate_slide(slide.name, _named(wanted), _named(said), classes, frame, level0, match_um=match_um)
    return found, classes


def _named(outlines: Annotations) -> tuple[LabelledPolygon, ...]:
    return tuple(r for r in outlines.polygons if r.label is not None)


def common_classes(pairs: Sequence[tuple[Path, Path]]) -> ClassMap:
    """The classes by which several slides are judged together.

    Args:
        pairs: (truth, prediction) of each slide

    Raises:
        AnnotationError: a file cannot be read, or none of them names a class
        MismatchError: the predictions are of different classes
    """
    stated: list[ClassMap | None] = []
    read: list[tuple[Annotations, Annotations]] = []
    for truth, prediction in pairs:
        if prediction.suffix == ".zarr":
            stated.append(LabelMap(prediction).classes)
        else:
            said = read_annotations(prediction)
            stated.append(said.classes)
            read.append((read_annotations(truth), said))
    if any(classes != stated[0] for classes in stated):
        raise MismatchError(
            "The predictions have different classes: judge slides together only if one model predicted them."
        )
    return stated[0] or _classes(read, "these files")


def _classes(pairs: Sequence[tuple[Annotations, Annotations]], files: str) -> ClassMap:
    stated = pairs[0][1].classes
    if stated is not None:
        return stated
    ignored = {"Background", "Ignore", "Ignore*"}
    names = {r.label for pair in pairs for o in pair for r in o.polygons if r.label} - ignored
    if not names:
        raise AnnotationError(f"None of {files} has an outline with a class: there is nothing to compare.")
    return ClassMap(("Background", *sorted(names)))
