"""Take the coordinates of simple polygons out of GeoJSON text before it becomes Python objects.

A file of a million outlines has a hundred million numbers. As lists of lists they take minutes and many gigabytes; the
rest of the file is small. So the text is gone through once: where `"coordinates"` holds the closed rings of a Polygon
in plain decimal numbers, they become arrays, and a number that stands for the polygon takes their place in the text.
Everything else (other geometries, heights, exponents, rings that are not closed, what is no JSON) stays as it is, for
the reader that knows all of it.
"""

from __future__ import annotations

import secrets

import numpy as np
import shapely
from numba import njit
from shapely import Polygon

from wsiseg.annotations.gather import FARTHEST

KEY = np.frombuffer(b'"coordinates":', np.uint8)
DIGITS = 15  # of a number at most: so many are exact as a whole number, and one division rounds as a parser does
TOKEN_CHARS = 19  # fewer than any polygon has


class Lifted:
    """GeoJSON text without the coordinates of its simple polygons.

    Args:
        text: JSON, where a whole number stands for each of them
        first: the number of the first one; the others follow
        polygons: (n,) not yet known to be valid
    """

    def __init__(self, text: memoryview, first: int, polygons: list[Polygon]) -> None:
        self.text, self._first, self._polygons, self._left = text, first, polygons, len(polygons)

    def take(self, number: object) -> Polygon | None:
        """The polygon that a number stands for; None for any other value."""
        place = number - self._first if type(number) is int else -1
        if not 0 <= place < len(self._polygons):
            return None
        self._left -= 1
        return self._polygons[place]

    @property
    def all_taken(self) -> bool:
        """Whether each polygon has been asked for: else it stood where no geometry is."""
        return not self._left


def lift(raw: bytes) -> Lifted:
    """Take the simple polygons out of a file's text."""
    given = np.frombuffer(raw.removeprefix(b"\xef\xbb\xbf"), np.uint8)
    # Drawn for each file, so that no number in it can be mistaken for one of these.
    first = 10 ** (TOKEN_CHARS - 1) + secrets.randbelow(8 * 10 ** (TOKEN_CHARS - 1))
    text = np.empty(len(given), np.uint8)
    opening = _count(given, np.uint8(ord("[")))
    points, rings = np.empty((opening, 2), np.float64), np.empty(opening + 1, np.int64)
    shells = np.empty(opening // 6 + 2, np.int64)  # a polygon has six brackets at least
    size, n_points, n_rings, n_shells = _lift(given, text, points, rings, shells, np.int64(first))
    if n_shells:
        offsets = (rings[: n_rings + 1], shells[: n_shells + 1])
        polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points[:n_points], offsets).tolist()
    else:
        polygons = []
    return Lifted(text.data[:size], first, polygons)


@njit(cache=True, nogil=True)
def _count(text, letter):  # type: ignore[no-untyped-def]
    found = 0
    for i in range(len(text)):
        found += text[i] == letter
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _lift(given, text, points, rings, shells, first):  # type: ignore[no-untyped-def]
    """Copy the text without the simple polygons, and fill in their points, where rings begin, and where shells do."""
    n, size, n_points, n_rings, n_shells, at = len(given), 0, 0, 0, 0, 0
    rings[0] = shells[0] = 0
    while at < n:
        letter = given[at]
        if letter == KEY[0] and at + len(KEY) < n and given[at + len(KEY)] == 91 and (at == 0 or given[at - 1] != 92):
            same = True
            for i in range(len(KEY)):
                same = same and given[at + i] == KEY[i]
            if same:
                for i in range(len(KEY)):
                    text[size + i] = KEY[i]
                size, at = size + len(KEY), at + len(KEY)
                end, p, r = _polygon(given, at, points, n_points, rings, n_rings)
                if end > 0:
                    number, n_points, n_rings = first + n_shells, p, r
                    n_shells += 1
                    shells[n_shells] = n_rings
                    for i in range(TOKEN_CHARS - 1, -1, -1):
                        text[size + i] = 48 + number % 10
                        number //= 10
                    size, at = size + TOKEN_CHARS, end
                continue
        text[size] = letter
        size, at = size + 1, at + 1
    return size, n_points, n_rings, n_shells


@njit(cache=True, nogil=True, error_model="numpy")
def _polygon(given, at, points, p, rings, r):  # type: ignore[no-untyped-def]
    """Read [[[x,y],…],…] at a place; returns where it ends (0: it is something else) and how many points and rings
    there are then."""
    n = len(given)
    if at + 4 >= n or given[at + 1] != 91 or given[at + 2] != 91:
        return 0, 0, 0
    at += 1
    while True:  # rings
        if at >= n or given[at] != 91:
            return 0, 0, 0
        at += 1
        start = p
        while True:  # points
            if at >= n or given[at] != 91 or p >= len(points):
                return 0, 0, 0
            at, x = _decimal(given, at + 1)
            if at == 0 or given[at] != 44:
                return 0, 0, 0
            at, y = _decimal(given, at + 1)
            if at == 0 or given[at] != 93:
                return 0, 0, 0
            points[p, 0], points[p, 1] = x, y
            p, at = p + 1, at + 1
            if at < n and given[at] == 44:
                at += 1
                continue
            break
        closed = points[start, 0] == points[p - 1, 0] and points[start, 1] == points[p - 1, 1]
        if at >= n or given[at] != 93 or p - start < 4 or not closed:
            return 0, 0, 0
        r, at = r + 1, at + 1
        rings[r] = p
        if at < n and given[at] == 44:
            at += 1
            continue
        break
    if at >= n or given[at] != 93:
        return 0, 0, 0
    return at + 1, p, r


@njit(cache=True, nogil=True, error_model="numpy")
def _decimal(given, at):  # type: ignore[no-untyped-def]
    """Read a JSON number without an exponent; returns the place behind it (0: it is something else) and its value."""
    n, negative = len(given), False
    if at < n and given[at] == 45:
        negative, at = True, at + 1
    digits, value, power, begun = 0, np.int64(0), 1.0, at
    while at < n and 48 <= given[at] <= 57:
        value, digits, at = value * 10 + (given[at] - 48), digits + 1, at + 1
        if digits > DIGITS:
            return 0, 0.0
    if digits == 0 or (digits > 1 and given[begun] == 48):  # JSON knows no 07
        return 0, 0.0
    if at < n and given[at] == 46:
        at += 1
        whole = digits
        while at < n and 48 <= given[at] <= 57:
            value, digits, power, at = value * 10 + (given[at] - 48), digits + 1, power * 10.0, at + 1
            if digits > DIGITS:
                return 0, 0.0
        if digits == whole:
            return 0, 0.0
    number = value / power
    if at >= n or number > FARTHEST or (negative and number == 0):
        return 0, 0.0
    return at, -number if negative else number
