"""STAPLE: what several people say of each pixel, and how far each of them can be trusted, estimated together.

Each pixel has an unknown true label T. Annotator r says 1 with the probability p_r (sensitivity) where T = 1, and 0 with
the probability q_r (specificity) where T = 0. Expectation-maximisation repeats two steps until p and q stay the same:

    W_i = f Π_r P(d_ir | T = 1) / (f Π_r P(d_ir | T = 1) + (1 - f) Π_r P(d_ir | T = 0))
    p_r = Σ_i W_i [d_ir = 1] / Σ_i W_i            q_r = Σ_i (1 - W_i) [d_ir = 0] / Σ_i (1 - W_i)

f, the mean of all decisions, stays as it is, as in the paper. W depends on a pixel only through what is said of it, so
pixels with the same decisions are counted once, and any number of them takes the same memory.

Source: Warfield, Zou and Wells, "Simultaneous truth and performance level estimation (STAPLE): an algorithm for the
validation of image segmentation", IEEE Transactions on Medical Imaging 23:903-921 (2004),
https://doi.org/10.1109/TMI.2004.828354.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SILENT = -1  # the decision of an annotator who states nothing about a pixel
FIRST = 0.99999  # sensitivity and specificity before the first step, as in the paper
EDGE = 1e-9  # neither comes closer to 0 and 1, so that no decision is impossible
TOLERANCE, STEPS = 1e-8, 20_000


@dataclass(frozen=True, slots=True)
class Performance:
    """What was estimated.

    Attributes:
        sensitivity, specificity: (annotators,) float64, 0 to 1
        probability: (patterns,) float64, that the true label is 1
        prior: f
    """

    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]
    probability: NDArray[np.float64]
    prior: float


def staple(decisions: NDArray[np.int8], pixels: NDArray[np.int64]) -> Performance:
    """Estimate the true label of each pattern of decisions, and the performance of each annotator.

    Args:
        decisions: (patterns, annotators) 0, 1 or `SILENT`; each annotator decides somewhere
        pixels: (patterns,) how many pixels have the pattern
    """
    weight = pixels.astype(np.float64)[:, None]
    yes, no = decisions == 1, decisions == 0
    prior = float((weight * yes).sum() / (weight * (yes | no)).sum())
    # Where everybody says the same of every pixel, there is nothing to weigh.
    prior = min(max(prior, EDGE), 1 - EDGE)
    p = np.full(decisions.shape[1], FIRST)
    q = p.copy()
    for _ in range(STEPS):
        probability = _expect(yes, no, p, q, prior)
        there, absent = weight * probability[:, None], weight * (1 - probability)[:, None]
        before = np.concatenate([p, q])
        p = _fraction((there * yes).sum(0), (there * (yes | no)).sum(0), p)
        q = _fraction((absent * no).sum(0), (absent * (yes | no)).sum(0), q)
        if np.abs(np.concatenate([p, q]) - before).max() < TOLERANCE:
            break
    return Performance(p, q, _expect(yes, no, p, q, prior), prior)


def _expect(
    yes: NDArray[np.bool_], no: NDArray[np.bool_], p: NDArray[np.float64], q: NDArray[np.float64], prior: float
) -> NDArray[np.float64]:
    there = np.log(prior) + yes @ np.log(p) + no @ np.log1p(-p)
    absent = np.log1p(-prior) + no @ np.log(q) + yes @ np.log1p(-q)
    # Beyond 700, exp would overflow and the probability is 0 or 1 to the last digit anyway.
    return np.asarray(1 / (1 + np.exp(np.clip(absent - there, -700, 700))))


def _fraction(
    part: NDArray[np.float64], whole: NDArray[np.float64], otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    share = np.divide(part, whole, out=otherwise.copy(), where=whole > 0)
    return np.clip(share, EDGE, 1 - EDGE)
