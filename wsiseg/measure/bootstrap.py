"""How sure a figure over glomeruli is: draw as many glomeruli as there are, with replacement, again and again.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, the percentile interval. Glomeruli
of one slide stand for others of the same tissue, not for other patients; with fewer than about ten of them such
intervals are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wsiseg.measure.shapes import Numbers

RESAMPLES = 2000
LEVEL = 0.95
AT_ONCE = 1 << 22  # counts in memory


def resampled_sums(columns: Numbers, seed: int, resamples: int = RESAMPLES) -> Numbers:
    """Sums over rows drawn with replacement.

    Args:
        columns: (n, k), one row a glomerulus, n above 0
        seed: 0 or more; the same seed gives the same draws
        resamples: how often

    Returns:
        (resamples, k)
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    return np.concatenate([counts @ columns for counts in _draws(rng, len(columns), resamples)])


def _draws(rng: np.random.Generator, n: int, resamples: int) -> Iterator[Numbers]:
    """How often each of n rows was drawn, (some, n) at a time."""
    step = max(1, AT_ONCE // n)
    for done in range(0, resamples, step):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - done)).astype(np.float64)


def interval(values: Numbers, level: float = LEVEL) -> tuple[float, float]:
    """The percentiles between which `level` of the values lie; values that are not there (NaN) are left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
