"""Bootstrap intervals: resample objects with replacement.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, the percentile interval. The
objects of one slide stand for others of the same tissue, not for other patients; with fewer than about ten of them
such intervals are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsiseg.measure.shapes import Numbers

RESAMPLES = 2000
LEVEL = 0.95
AT_ONCE = 1 << 22  # counts in memory
# More objects than this are first summed within so many groups, made at random: a sum over all objects varies as much
# from one drawing of groups to the next as from one drawing of objects to the next.
MOST_UNITS = 2000


class Sample:
    """Objects and how often each was drawn: sums, means and ratios over them, one for each drawing.

    Args:
        summary: what the objects belong to; see `wsiseg.measure.column.Column.compute`
        used: (n,) bool, the objects that means are over
        counts: (k, m), how often each of m units was drawn
        unit: (n,) int64, the unit of each object; None where every object is a unit of its own

    Attributes:
        behind: the fewest objects that any of the ratios so far was over
    """

    def __init__(
        self, summary: Any, used: NDArray[np.bool_], counts: Numbers, unit: NDArray[np.int64] | None = None
    ) -> None:
        self.summary, self.used = summary, used
        self._counts, self._unit = counts, unit
        self.behind = len(used)

    def values(self, name: str) -> NDArray[Any] | None:
        """(n,) a column of the objects; None if it is absent."""
        found: NDArray[Any] | None = self.summary.objects.values(name)
        return found

    def total(self, values: ArrayLike) -> Numbers:
        """(k,) sums of (n,) values."""
        numbers = np.asarray(values, np.float64)
        if self._unit is not None:
            numbers = np.bincount(self._unit, numbers, minlength=self._counts.shape[1]).astype(np.float64)
        return self._counts @ numbers

    def ratio(self, part: ArrayLike, whole: ArrayLike) -> Numbers:
        """(k,) sums of (n,) values by sums of others; NaN where there is nothing to divide by."""
        self.behind = min(self.behind, int(np.count_nonzero(whole)))
        above, below = self.total(part), self.total(whole)
        return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)

    def mean(self, values: NDArray[Any]) -> Numbers:
        """(k,) means of (n,) values over the used objects; objects without a value (NaN) take no part."""
        there = self.used if values.dtype.kind != "f" else self.used & np.isfinite(values)
        return self.ratio(np.where(there, values, 0), there)


def estimates(
    computed: Mapping[str, Callable[[Sample], Numbers | None]], summary: Any, used: NDArray[np.bool_], seed: int
) -> dict[str, tuple[float, float, float]]:
    """Numbers about objects with their 95 % intervals.

    Args:
        computed: name -> the number, from sums over objects
        summary: see `Sample`
        used: (n,) bool, the objects that means are over
        seed: 0 or more; the same seed gives the same draws

    Returns:
        name -> value and both ends: NaN where there is nothing to go by, and for the ends with fewer than two objects;
        numbers that are absent are left out
    """
    n = len(used)
    found: dict[str, tuple[float, float, float]] = {}
    spread: dict[str, list[Numbers]] = {}
    for name, compute in computed.items():
        whole = Sample(summary, used, np.ones((1, n)))
        value = compute(whole)
        if value is None:
            continue
        found[name] = (float(value[0]), np.nan, np.nan)
        if whole.behind > 1:  # nobody knows how much a single object varies
            spread[name] = []
    rng = np.random.Generator(np.random.PCG64(seed))
    unit = None if n <= MOST_UNITS else rng.permutation(n) % MOST_UNITS
    for counts in draws(rng, min(n, MOST_UNITS)) if spread else ():
        for name, values in spread.items():
            part = computed[name](Sample(summary, used, counts, unit))
            assert part is not None
            values.append(part)
    for name, values in spread.items():
        found[name] = (found[name][0], *interval(np.concatenate(values)))
    return found


def draws(rng: np.random.Generator, n: int) -> Iterator[Numbers]:
    """How often each of n units was drawn, (some, n) at a time."""
    step = max(1, AT_ONCE // n)
    for done in range(0, RESAMPLES, step):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(step, RESAMPLES - done)).astype(np.float64)


def interval(values: Numbers, level: float = LEVEL) -> tuple[float, float]:
    """The percentiles between which `level` of the values lie; values that are not there (NaN) are left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
