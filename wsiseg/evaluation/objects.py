"""Which objects of a prediction are objects of the reference: polygons of one class, matched one to one.

Two objects match at an intersection over union of at least 0.5. Small ones, such as nuclei, can match by their
centroids instead, since a border one pixel off already halves their overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely import STRtree, area, centroid, distance, intersection

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.evaluation.pixels import fraction

MATCH_IOU = 0.5
# Where centroids count, objects wider than so many times the distance still match by IoU: glomeruli among nuclei.
WIDE = 10.0


@dataclass(frozen=True, slots=True)
class Matches:
    """Objects of one class on one slide.

    Attributes:
        found: pairs (place in reference, place in prediction, how well they match: IoU, or 1 at no distance of the
            centroids and 0 at the largest that counts)
        missed: places in reference without a partner
        unmatched: places in prediction without a partner; where the reference is incomplete, not all of these are wrong
    """

    found: tuple[tuple[int, int, float], ...]
    missed: tuple[int, ...]
    unmatched: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Numbers of objects found, missed and unmatched."""
        return len(self.found), len(self.missed), len(self.unmatched)


def match_objects(
    reference: Sequence[LabelledPolygon],
    prediction: Sequence[LabelledPolygon],
    iou: float = MATCH_IOU,
    reach: float | None = None,
) -> Matches:
    """Match polygons one to one so that they match best in sum.

    Args:
        reference, prediction: in the same plane
        iou: pairs with a lower IoU are no pairs
        reach: px of the plane; match by centroids instead where the reference object's diameter (of the circle of the
            same area) is at most `WIDE` times this: pairs farther apart are no pairs
    """
    t = np.array([r.polygon for r in reference], dtype=object)
    p = np.array([r.polygon for r in prediction], dtype=object)
    pairs: list[tuple[int, int, float]] = []
    small = np.sqrt(4 / np.pi * area(t)) <= WIDE * (reach or 0)
    parts = [_overlapping(t, p, np.flatnonzero(~small), iou)]
    if reach is not None:
        parts.append(_near(t, p, np.flatnonzero(small), reach))
    i, j, gains = (np.concatenate(column) for column in zip(*parts, strict=True))
    for group in _groups(i, j):
        rows, row = np.unique(i[group], return_inverse=True)
        columns, column = np.unique(j[group], return_inverse=True)
        gain = np.zeros((len(rows), len(columns)))
        gain[row, column] = gains[group]
        for a, b in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if gain[a, b] > 0:
                pairs.append((int(rows[a]), int(columns[b]), float(gain[a, b])))
    missed = np.setdiff1d(np.arange(len(t)), [a for a, _, _ in pairs])
    unmatched = np.setdiff1d(np.arange(len(p)), [b for _, b, _ in pairs])
    return Matches(tuple(sorted(pairs)), tuple(missed.tolist()), tuple(unmatched.tolist()))


Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]  # places in reference and prediction, and how well they match


def _overlapping(t: np.ndarray, p: np.ndarray, own: np.ndarray, iou: float) -> Candidates:
    """Pairs of some of the reference by their IoU."""
    i, j = STRtree(p).query(t[own], predicate="intersects")
    i = own[i]
    both = area(intersection(t[i], p[j]))
    overlap = both / (area(t[i]) + area(p[j]) - both)
    good = overlap >= iou
    return i[good], j[good], overlap[good]


def _near(t: np.ndarray, p: np.ndarray, own: np.ndarray, reach: float) -> Candidates:
    """Pairs of some of the reference by the distance of their centroids."""
    here, there = centroid(t), centroid(p)
    i, j = STRtree(there).query(here[own], predicate="dwithin", distance=reach)
    i = own[i]
    nearness = 1 - distance(here[i], there[j]) / reach
    good = nearness > 0
    return i[good], j[good], nearness[good]


def _groups(i: np.ndarray, j: np.ndarray) -> list[np.ndarray]:
    """Pairs that compete with each other for partners: almost always one pair alone."""
    n = int(max(i.max(initial=0), j.max(initial=0))) + 1
    graph = coo_array((np.ones(len(i)), (i, j + n)), shape=(2 * n, 2 * n))
    _, part = connected_components(graph, directed=False)
    order = np.argsort(part[i], kind="stable")
    return np.split(order, np.flatnonzero(np.diff(part[i][order])) + 1)


def object_metrics(found: int, missed: int, unmatched: int) -> dict[str, float | int | None]:
    """Counts, precision, recall and F1 of objects, and by how many the prediction's count is off."""
    return {
        "reference": found + missed,
        "predicted": found + unmatched,
        "found": found,
        "missed": missed,
        "unmatched": unmatched,
        "precision": fraction(found, found + unmatched),
        "recall": fraction(found, found + missed),
        "f1": fraction(2 * found, 2 * found + missed + unmatched),
        "count_error": unmatched - missed,
    }
