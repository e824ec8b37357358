"""The rim of a coverslip, where mounting medium has dried brown: thin, straight, long, and with glass on both sides.

A line is found by its votes (the Hough transform in the form of Duda and Hart, Communications of the ACM 15, 1972),
straightened by its second moments, and cut to its longest run without a gap. A line that fails a test is no rim, and
the next one is tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsiseg.selection.masks import Mask, dilate

RIM_WIDTH_UM, RIM_LENGTH_UM = 250.0, 2_000.0  # at most, at least
GAP_UM, STEP_UM = 200.0, 50.0  # without brown at most; along a line, from one look at it to the next
BESIDE_UM = (60.0, 120.0)  # from the rim, where there is glass
BESIDE_MAX_FRACTION = 0.3  # of these places may be tissue
TRIES, VOTERS = 12, 20_000  # lines, and pixels that vote for one, at most
SOFT_UM = 16.0  # edge of a rim, which smoothing has spread

Points = NDArray[np.float64]  # (n, 2), µm along rows and columns


def rims(brown: Mask, mask: Mask, um: tuple[float, float]) -> Mask:
    """Rims of coverslips.

    Args:
        brown: bool (h, w)
        mask: bool (h, w), whatever is coloured
        um: µm per px along rows and columns

    Returns:
        bool (h, w), with soft edges; over tissue they are not followed
    """
    found = np.zeros_like(brown)
    wide = np.ones([max(2, round(RIM_WIDTH_UM / u)) for u in um])
    pixels = np.argwhere(brown & ~ndimage.binary_opening(brown, wide))
    for _ in range(TRIES):
        if len(pixels) * max(um) < RIM_LENGTH_UM:
            break
        points: Points = np.asarray(pixels * um, np.float64)
        line = _fitted(points)
        near = np.abs(line.across(points)) <= RIM_WIDTH_UM / 2
        start, end = _longest_run(line.along(points[near]))
        part = near & (line.along(points) >= start) & (line.along(points) <= end)
        if end - start >= RIM_LENGTH_UM and _on_glass(line, points[part], mask, um):
            found[tuple(pixels[part].T)] = True
        pixels = pixels[~part]
    return dilate(found, SOFT_UM, um) if found.any() else found


@dataclass(frozen=True, slots=True)
class _Line:
    centre: Points  # (2,), µm
    direction: Points  # (2,), of length 1

    def along(self, points: Points) -> NDArray[np.float64]:
        return np.asarray((points - self.centre) @ self.direction)

    def across(self, points: Points) -> NDArray[np.float64]:
        return np.asarray((points - self.centre) @ (-self.direction[1], self.direction[0]))


def _fitted(points: Points) -> _Line:
    """The line with most points within a rim's width."""
    voters = points[:: -(-len(points) // VOTERS)]
    best, most = (0.0, 0.0), -1
    for angle in np.deg2rad(np.arange(180.0)):
        offsets = voters @ (-np.sin(angle), np.cos(angle))
        bins = ((offsets - offsets.min()) / (RIM_WIDTH_UM / 2)).astype(np.int64)
        votes = np.bincount(bins)
        if votes.max() > most:
            best, most = (angle, offsets.min() + (votes.argmax() + 0.5) * RIM_WIDTH_UM / 2), int(votes.max())
    angle, offset = best
    line = _Line(np.array((-np.sin(angle), np.cos(angle))) * offset, np.array((np.cos(angle), np.sin(angle))))
    for _ in range(2):
        near = points[np.abs(line.across(points)) <= RIM_WIDTH_UM / 2]
        if len(near) < 3:
            break
        _, directions = np.linalg.eigh(np.cov(near.T))
        line = _Line(near.mean(0), directions[:, 1])
    return line


def _longest_run(along: NDArray[np.float64]) -> tuple[float, float]:
    """Beginning and end of the longest run of places along a line without a gap."""
    if not len(along):
        return 0.0, 0.0
    places = np.unique(np.floor(along / STEP_UM))
    runs = np.split(places, np.flatnonzero(np.diff(places) > GAP_UM / STEP_UM) + 1)
    longest = max(runs, key=lambda run: run[-1] - run[0])
    return float(longest[0] * STEP_UM), float((longest[-1] + 1) * STEP_UM)


def _on_glass(line: _Line, points: Points, mask: Mask, um: tuple[float, float]) -> bool:
    """Whether there is glass, or the end of the picture, on both sides of the points of a line."""
    along, across = line.along(points), line.across(points)
    low, high = np.percentile(across, (3, 97))
    places = np.arange(along.min(), along.max(), STEP_UM)[:, None] * line.direction + line.centre
    normal = np.array((-line.direction[1], line.direction[0]))
    for side in [high + um_ for um_ in BESIDE_UM] + [low - um_ for um_ in BESIDE_UM]:
        rows, cols = np.floor((places + side * normal) / um).astype(np.int64).T
        seen = (rows >= 0) & (rows < mask.shape[0]) & (cols >= 0) & (cols < mask.shape[1])
        if mask[rows[seen], cols[seen]].sum() > BESIDE_MAX_FRACTION * len(places):
            return False
    return True
