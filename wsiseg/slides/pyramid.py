"""The number of level-0 pixels per pixel of a level."""

from __future__ import annotations

import math

Scale = tuple[float, float]


def downsample(full: tuple[int, int], level: tuple[int, int]) -> Scale:
    """The true downsample of a level along x and along y.

    Scanners shrink by a whole number n and drop (or fill up) the last, incomplete pixel, so that the ratio of the
    sizes is not n: 4443 px at n = 2 are 2221 px, and 4443 / 2221 = 2.0005. Taking the ratio for the downsample would
    shift pixels at the far edge by half a pixel here, by several in larger slides. So a level whose size is within a
    pixel of full / n on both axes is taken to have the downsample n. Only for small levels do several n fit: then
    a power of two is preferred, else the one nearest to the ratio.

    A program that squeezes the whole image into the rounded size instead makes levels whose downsample is the ratio.
    The sizes do not tell the two apart; for such a file positions at its far edge are off by less than one px of that
    level, and by nothing where the sizes divide.

    Args:
        full: (width, height) of level 0 in px
        level: (width, height) of the level in px

    Returns:
        level-0 px per level px along x and along y; the plain ratios where no whole n fits both axes
    """
    lowest = max(f / (size + 1) for f, size in zip(full, level, strict=True))
    highest = min(f / (size - 1) if size > 1 else math.inf for f, size in zip(full, level, strict=True))
    ratio = sum(full) / sum(level)
    power = 2 ** max(0, round(math.log2(ratio)))
    for n in (power, max(1, round(ratio)), math.ceil(lowest)):
        if lowest <= n <= highest:
            return float(n), float(n)
    return full[0] / level[0], full[1] / level[1]
