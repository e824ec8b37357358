"""Agreement of two ways of measuring the same things: statistics of pairs of numbers.

Sources: Bland and Altman, "Statistical methods for assessing agreement between two methods of clinical measurement",
Lancet 327:307-310 (1986), https://doi.org/10.1016/S0140-6736(86)90837-8; Lin, "A concordance correlation coefficient to
evaluate reproducibility", Biometrics 45:255-268 (1989), https://doi.org/10.2307/2532051, with the corrections in
Biometrics 56:324-325 (2000).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

LEVEL = 0.95
WITHIN = 1.96  # standard deviations on each side of the bias that hold 95 % of normal differences

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one measurement; None where there are too few pairs, or where nothing varies.

    Attributes:
        n: pairs
        reference, measured: means of either side
        bias: mean of measured minus reference, and its 95 % interval
        sd: standard deviation of the differences
        lower, upper: limits of agreement, bias ± 1.96 sd, and the 95 % interval of each
        ccc: Lin's concordance correlation coefficient, -1 to 1, and its 95 % interval
    """

    n: int
    reference: float | None = None
    measured: float | None = None
    bias: float | None = None
    bias_interval: Interval | None = None
    sd: float | None = None
    lower: float | None = None
    lower_interval: Interval | None = None
    upper: float | None = None
    upper_interval: Interval | None = None
    ccc: float | None = None
    ccc_interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def to_row(self) -> dict[str, float | int | None]:
        """One flat row: NAME_low and NAME_high for the interval of NAME."""
        row: dict[str, float | int | None] = {}
        for name, value in asdict(self).items():
            if name.endswith("_interval"):
                stem = name.removesuffix("_interval")
                row[f"{stem}_low"], row[f"{stem}_high"] = value if value is not None else (None, None)
            else:
                row[name] = value
        return row


def agreement(reference: ArrayLike, measured: ArrayLike) -> Agreement:
    """Bland-Altman and concordance of pairs; a pair of which one side is not there (NaN) is left out.

    Args:
        reference, measured: (n,) numbers of one unit, pair by pair
    """
    x, y = np.asarray(reference, np.float64), np.asarray(measured, np.float64)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    n = len(x)
    if n == 0:
        return Agreement(0)
    means = float(x.mean()), float(y.mean())
    if n == 1:
        return Agreement(1, *means, bias=means[1] - means[0])
    difference = y - x
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    half = float(t.ppf((1 + LEVEL) / 2, n - 1))
    lower, upper = bias - WITHIN * sd, bias + WITHIN * sd
    # The standard error of a limit is about √(3 s² / n), that of the bias √(s² / n) (Bland and Altman 1986).
    about_bias, about_limit = half * sd / math.sqrt(n), half * sd * math.sqrt(3 / n)
    ccc, ccc_interval = concordance(x, y)
    return Agreement(
        n, *means, bias, (bias - about_bias, bias + about_bias), sd,
        lower, (lower - about_limit, lower + about_limit), upper, (upper - about_limit, upper + about_limit),
        ccc, ccc_interval,
    )  # fmt: skip


def concordance(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float | None, Interval | None]:
    """Lin's coefficient 2 s_xy / (s_x² + s_y² + (x̄ - ȳ)²), all moments divided by n, and its 95 % interval.

    The interval rests on Fisher's z, whose variance Lin derives for a bivariate normal distribution.

    Returns:
        None for the coefficient if neither side varies; None for the interval with fewer than 4 pairs, and where
        either side is constant or both are the same to the last digit
    """
    n = len(x)
    sx, sy, sxy = x.var(), y.var(), ((x - x.mean()) * (y - y.mean())).mean()
    whole = sx + sy + (x.mean() - y.mean()) ** 2
    # A variance of what does not vary is rounding, not 0.
    tiny = (1e-12 * max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))) ** 2
    if max(sx, sy) <= tiny:
        return None, None
    ccc = float(2 * sxy / whole)
    if n < 4 or min(sx, sy) <= tiny or sxy == 0 or 1 - abs(ccc) < 1e-12:
        return ccc, None
    r2 = sxy * sxy / (sx * sy)
    r, c2 = math.copysign(math.sqrt(r2), sxy), ccc * ccc
    u2 = (x.mean() - y.mean()) ** 2 / math.sqrt(sx * sy)
    variance = (
        (1 - r2) * c2 / ((1 - c2) * r2)
        + 2 * ccc**3 * (1 - ccc) * u2 / (r * (1 - c2) ** 2)
        - c2 * c2 * u2 * u2 / (2 * r2 * (1 - c2) ** 2)
    ) / (n - 2)
    about = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt(max(variance, 0.0))
    z = math.atanh(ccc)
    return ccc, (math.tanh(z - about), math.tanh(z + about))
