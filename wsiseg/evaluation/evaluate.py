"""How well a prediction agrees with the truth, over whole slides.

Pixels: a confusion matrix over every pixel of the slide at one µm/px, truth by rows. Objects: outlines of one class,
matched one to one at an intersection over union of at least 0.5; small ones, such as nuclei, on demand by their
centroids, since a border one pixel off already halves their overlap. Slides are pooled by adding up counts; figures per
slide are kept beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from shapely import STRtree, area, centroid, distance, intersection

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.geometry import Box, Frame

MATCH_IOU = 0.5
# Where centroids count, objects wider than so many times the distance still match by IoU: glomeruli among nuclei.
WIDE = 10.0
BAND = 1024  # rows looked at at a time

Read = Callable[[Box], np.ndarray]  # a box of the frame -> (h, w) uint8 labels


@dataclass(frozen=True, slots=True)
class Matches:
    """Objects of one class on one slide.

    Attributes:
        found: pairs (place in truth, place in prediction, how well they match: IoU, or 1 at no distance of the
            centroids and 0 at the largest that counts)
        missed: places in truth without a partner
        unmatched: places in prediction without a partner; where outlines are incomplete, not all of these are wrong
    """

    found: tuple[tuple[int, int, float], ...]
    missed: tuple[int, ...]
    unmatched: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SlideEvaluation:
    """One slide: a (classes, classes) confusion matrix of pixels, and the matches of each class but background.

    `any_object` matches objects of all classes alike: found, though perhaps under another name.
    """

    name: str
    confusion: np.ndarray
    objects: dict[str, Matches]
    any_object: Matches


def confusion_matrix(truth: Read, prediction: Read, frame: Frame, classes: int) -> np.ndarray:
    """(classes, classes) int64 pixels of the frame, truth by rows; pixels that either side ignores are left out."""
    total = np.zeros((classes, classes), np.int64)
    for top in range(0, frame.height, BAND):
        band = Box(0, top, frame.width, BAND).overlap(frame.box)
        t, p = truth(band).astype(np.int64), prediction(band).astype(np.int64)
        counted = (t != IGNORE) & (p != IGNORE)
        pairs = t[counted] * classes + p[counted]
        total += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return total


def match_objects(
    truth: Sequence[LabelledPolygon],
    prediction: Sequence[LabelledPolygon],
    iou: float = MATCH_IOU,
    reach: float | None = None,
) -> Matches:
    """Match outlines one to one so that they match best in sum.

    Args:
        truth, prediction: in the same plane
        iou: pairs with a lower IoU are no pairs
        reach: px of the plane; match by centroids instead where the true object's diameter (of the circle of the same
            area) is at most `WIDE` times this: pairs farther apart are no pairs
    """
    t = np.array([r.polygon for r in truth], dtype=object)
    p = np.array([r.polygon for r in prediction], dtype=object)
    pairs: list[tuple[int, int, float]] = []
    if len(t) and len(p):
        small = np.zeros(len(t), np.bool_) if reach is None else np.sqrt(4 / np.pi * area(t)) <= WIDE * reach
        parts = [_overlapping(t, p, ~small, iou)]
        if reach is not None:
            parts.append(_near(t, p, small, reach))
        i, j, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
        for group in _groups(i, j):
            rows, cols = np.unique(i[group]), np.unique(j[group])
            gain = np.zeros((len(rows), len(cols)))
            gain[np.searchsorted(rows, i[group]), np.searchsorted(cols, j[group])] = overlap[group]
            for a, b in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
                if gain[a, b] > 0:
                    pairs.append((int(rows[a]), int(cols[b]), float(gain[a, b])))
    used_t, used_p = {a for a, _, _ in pairs}, {b for _, b, _ in pairs}
    return Matches(
        tuple(sorted(pairs)),
        tuple(a for a in range(len(t)) if a not in used_t),
        tuple(b for b in range(len(p)) if b not in used_p),
    )


Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]  # places in truth and prediction, and how well they match


def _overlapping(t: np.ndarray, p: np.ndarray, which: np.ndarray, iou: float) -> Candidates:
    """Pairs of some of the truth by their IoU."""
    own = np.flatnonzero(which)
    i, j = STRtree(p).query(t[own], predicate="intersects")
    i = own[i]
    both = area(intersection(t[i], p[j]))
    overlap = both / (area(t[i]) + area(p[j]) - both)
    good = overlap >= iou
    return i[good], j[good], overlap[good]


def _near(t: np.ndarray, p: np.ndarray, which: np.ndarray, reach: float) -> Candidates:
    """Pairs of some of the truth by the distance of their centroids."""
    own = np.flatnonzero(which)
    here, there = centroid(t), centroid(p)
    i, j = STRtree(there).query(here[own], predicate="dwithin", distance=reach)
    i = own[i]
    nearness = 1 - distance(here[i], there[j]) / reach
    good = nearness > 0
    return i[good], j[good], nearness[good]


def _groups(i: np.ndarray, j: np.ndarray) -> list[np.ndarray]:
    """Pairs that compete with each other for partners: almost always one pair alone."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(i):
        return []
    n = int(max(i.max(), j.max())) + 1
    graph = coo_array((np.ones(len(i)), (i, j + n)), shape=(2 * n, 2 * n))
    _, part = connected_components(graph, directed=False)
    order = np.argsort(part[i], kind="stable")
    return np.split(order, np.flatnonzero(np.diff(part[i][order])) + 1)


def evaluate_slide(
    name: str,
    truth: Sequence[LabelledPolygon],
    prediction: Sequence[LabelledPolygon],
    classes: ClassMap,
    frame: Frame,
    level0: Frame,
    *,
    labels: Read | None = None,
    match_um: float | None = None,
) -> SlideEvaluation:
    """Compare two sets of outlines in level-0 pixels.

    Args:
        name: of the slide
        truth, prediction: their labels must be among the classes (or ignored ones)
        classes: the labels
        frame: plane in which pixels are compared
        level0: plane of the outlines
        labels: labels of the prediction in `frame`, where a label map is available; else its outlines are rasterised
        match_um: match objects up to `WIDE` times as wide by centroids no farther apart than this, and not by IoU

    Raises:
        ClassError: an outline has a class that is not among the classes
    """
    truth_map = Rasteriser(truth, classes, frame, level0)
    read = labels if labels is not None else Rasteriser(prediction, classes, frame, level0).read
    confusion = confusion_matrix(truth_map.read, read, frame, len(classes))
    wanted = set(classes.names[1:])
    t = [r for r in truth if r.label in wanted]
    p = [r for r in prediction if r.label in wanted]
    reach = None if match_um is None else match_um / level0.mpp
    objects = {
        name: match_objects([r for r in t if r.label == name], [r for r in p if r.label == name], reach=reach)
        for name in classes.names[1:]
    }
    return SlideEvaluation(name, confusion, objects, match_objects(t, p, reach=reach))


def pixel_figures(confusion: np.ndarray, classes: ClassMap) -> dict[str, dict[str, float | None]]:
    """Class -> IoU, precision, recall, F1 and Dice (F1's other name), plus their mean over the classes that occur.

    A figure without a denominator is None: a class that is neither there nor predicted is not a perfect one.
    """
    rows: dict[str, dict[str, float | None]] = {}
    for i, name in enumerate(classes):
        hit = float(confusion[i, i])
        there, said = float(confusion[i].sum()), float(confusion[:, i].sum())
        f1 = _share(2 * hit, there + said)
        rows[name] = {
            "iou": _share(hit, there + said - hit),
            "precision": _share(hit, said),
            "recall": _share(hit, there),
            "f1": f1,
            "dice": f1,
        }
    rows["mean"] = {key: _mean([rows[name][key] for name in classes]) for key in rows[classes.names[0]]}
    return rows


def object_figures(found: int, missed: int, unmatched: int) -> dict[str, float | int | None]:
    """Counts, precision, recall and F1 of objects, and by how many the prediction's count is off."""
    return {
        "reference": found + missed,
        "predicted": found + unmatched,
        "found": found,
        "missed": missed,
        "unmatched": unmatched,
        "precision": _share(found, found + unmatched),
        "recall": _share(found, found + missed),
        "f1": _share(2 * found, 2 * found + missed + unmatched),
        "count_error": unmatched - missed,
    }


def summary(slides: Sequence[SlideEvaluation], classes: ClassMap, match_um: float | None = None) -> dict[str, Any]:
    """Figures pooled over the slides, and per slide, as JSON values; `match_um` as the slides were evaluated with."""

    def figures(group: Sequence[SlideEvaluation]) -> dict[str, Any]:
        def pooled(matches: list[Matches]) -> dict[str, float | int | None]:
            parts = ([len(m.found) for m in matches], [len(m.missed) for m in matches])
            return object_figures(sum(parts[0]), sum(parts[1]), sum(len(m.unmatched) for m in matches))

        return {
            "pixels": pixel_figures(np.sum([s.confusion for s in group], axis=0), classes),
            "objects": {name: pooled([s.objects[name] for s in group]) for name in classes.names[1:]}
            | {"any": pooled([s.any_object for s in group])},
            "confusion": np.sum([s.confusion for s in group], axis=0).tolist(),
        }

    return {
        "classes": list(classes),
        "match_iou": MATCH_IOU,
        **({} if match_um is None else {"match_um": match_um, "match_iou_above_um": WIDE * match_um}),
        "pooled": figures(slides),
        "slides": {s.name: figures([s]) for s in slides},
    }


def render(result: dict[str, Any]) -> str:
    """The pooled figures of a summary as text tables."""
    pooled = result["pooled"]
    lines = [f"{'pixels':<28}{'IoU':>8}{'precision':>11}{'recall':>8}{'F1/Dice':>9}"]
    for name, row in pooled["pixels"].items():
        values = [_text(row[key]) for key in ("iou", "precision", "recall", "f1")]
        lines.append(f"{name:<28}{values[0]:>8}{values[1]:>11}{values[2]:>8}{values[3]:>9}")
    near = result.get("match_um")
    rule = f"IoU ≥ {result['match_iou']:g}" if near is None else f"centroids ≤ {near:g} µm"
    lines += ["", f"{'objects (' + rule + ')':<28}"]
    lines[-1] += f"{'reference':>11}{'found':>8}{'missed':>8}{'unmatched':>11}{'precision':>11}{'recall':>8}{'F1':>8}"
    for name, row in pooled["objects"].items():
        counts = f"{row['reference']:>11}{row['found']:>8}{row['missed']:>8}{row['unmatched']:>11}"
        lines.append(f"{name:<28}{counts}{_text(row['precision']):>11}{_text(row['recall']):>8}{_text(row['f1']):>8}")
    if near is not None:
        wide = f"Objects wider than {result['match_iou_above_um']:g} µm match by their overlap"
        lines.append(f"{wide}, IoU ≥ {result['match_iou']:g}.")
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
