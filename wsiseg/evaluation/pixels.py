"""How well two label planes agree, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from wsiseg.classes import IGNORE, ClassMap
from wsiseg.geometry import Box, Frame

BAND = 1024  # rows that are looked at at a time

ReadLabels = Callable[[Box], np.ndarray]  # a box of the frame -> (h, w) uint8 labels


def confusion_matrix(reference: ReadLabels, prediction: ReadLabels, frame: Frame, classes: int) -> np.ndarray:
    """(classes, classes) int64 pixels of the frame, reference by rows; pixels that either side ignores are left out."""
    total = np.zeros((classes, classes), np.int64)
    for top in range(0, frame.height, BAND):
        band = Box(0, top, frame.width, BAND).overlap(frame.box)
        t, p = reference(band).astype(np.int64), prediction(band).astype(np.int64)
        counted = (t != IGNORE) & (p != IGNORE)
        pairs = t[counted] * classes + p[counted]
        total += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return total


def pixel_metrics(confusion: np.ndarray, classes: ClassMap) -> dict[str, dict[str, float | None]]:
    """Class -> IoU, precision, recall, F1 and Dice (F1's other name), plus their mean over the classes that occur.

    A metric without a denominator is None: a class that is neither there nor predicted is not a perfect one.
    """
    rows: dict[str, dict[str, float | None]] = {}
    for i, name in enumerate(classes):
        hit = float(confusion[i, i])
        there, said = float(confusion[i].sum()), float(confusion[:, i].sum())
        f1 = fraction(2 * hit, there + said)
        rows[name] = {
            "iou": fraction(hit, there + said - hit),
            "precision": fraction(hit, said),
            "recall": fraction(hit, there),
            "f1": f1,
            "dice": f1,
        }
    rows["mean"] = {key: mean([rows[name][key] for name in classes]) for key in rows[classes.names[0]]}
    return rows


def fraction(part: float, whole: float) -> float | None:
    """Part of a whole; None where there is no whole."""
    return part / whole if whole else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are known; None where none is."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
