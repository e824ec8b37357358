"""Prepare annotations for every writer: valid on a grid of 0.01 px, with stable ids, in bounded batches.

Because all writers start from here, their files agree to the last digit: the same objects, areas and ids.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from wsiseg.annotations.gather import FARTHEST, is_plain, make_valid, only_areas
from wsiseg.annotations.geojson_read import UUID
from wsiseg.annotations.polygon import LabelledPolygon, Written, batched
from wsiseg.errors import AnnotationError

# QuPath writes two decimals, and since 0.6 snaps to them on reading.
STEPS_PER_PX = 100

# Snapping moves an edge by less than this. Only a polygon that is thinner on average can vanish by it, so only such
# polygons (and invalid ones) need the slow way through GEOS; all others are valid once their corners are rounded.
THIN_PX = 0.02

# Bytes of "[x,y]," at most, each number with a sign, a point and eleven digits (FARTHEST in hundredths).
POINT_CHARS = 30
OPEN, CLOSE, COMMA, POINT, MINUS, ZERO = b"[],.-0"

BATCH = 4096  # polygons in memory at once, at most

# Name space of the ids made here, itself the version 5 UUID of "wsiseg.outlines" in the DNS name space.
NAMESPACE = uuid.UUID("75269ea8-4b61-52b9-b543-9cef8404e9f0")

# Where points begin per ring, rings per part, and parts per object: each one longer than what it counts.
Offsets: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some objects of a file; all fields have the same length n.

    Attributes:
        polygons: as given; their `polygon` and `id` are replaced by the next two
        shapes: (n,) valid, not empty MultiPolygons whose coordinates are whole hundredths of a px
        ids: UUIDs, all different within one file
        coordinates: JSON of the `coordinates` of a GeoJSON Polygon, or of a MultiPolygon where `multiple`
        multiple: whether an object has more than one part
        written: how many of this batch are there, repaired, and dropped
    """

    polygons: list[LabelledPolygon]
    shapes: NDArray[Any]
    ids: list[str]
    coordinates: list[bytes]
    multiple: list[bool]
    written: Written

    def __len__(self) -> int:
        return len(self.polygons)


def canonical(polygons: Iterable[LabelledPolygon]) -> Iterator[Batch]:
    """Round, repair and number the polygons of one file, a few thousand at a time.

    Args:
        polygons: any number, also an iterator of unknown length

    Yields:
        batches in order; a batch may be empty if nothing in it had an area

    Raises:
        AnnotationError: an object is not a polygon, has a class of an impossible name, or has a coordinate that is not
            finite or absurdly far away
    """
    seen, start = SeenIds(), 1
    names: set[str] = set()
    for chunk in batched(polygons, BATCH):
        for label in {p.label: None for p in chunk if p.label is not None and p.label not in names}:
            # Neither QuPath nor XML can hold such a class; ":" joins a class to its parents.
            if label != label.strip() or not all(map(str.strip, label.split(":"))) or not is_plain(label):
                raise AnnotationError(f"A class cannot be called {label!r}: remove blanks at its ends and line breaks.")
            names.add(label)
        given = np.empty(len(chunk), dtype=object)
        given[:] = [polygon.polygon for polygon in chunk]
        _check(given, start)
        shapes, grid, offsets, kept, repaired = _snap(given)
        found, coordinates = [chunk[i] for i in kept], _json(grid, offsets)
        ids = [seen.fresh(*one) for one in zip(found, coordinates, strict=True)]
        multiple = (np.diff(offsets[2]) > 1).tolist()
        written = Written(len(kept), repaired, len(chunk) - len(kept))
        yield Batch(found, shapes, ids, coordinates, multiple, written)
        start += len(chunk)


def _check(shapes: NDArray[Any], start: int) -> None:
    """AnnotationError for the first shape that no writer can do anything with."""
    areas = np.isin(shapely.get_type_id(shapes), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    if not areas.all():
        raise AnnotationError(f"Object {start + int(np.argmin(areas))} is not a polygon: leave points and lines out.")
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    near = (np.abs(xy) <= FARTHEST).all(axis=1)  # False for NaN too
    if not near.all():
        number = start + int(owner[np.argmin(near)])
        raise AnnotationError(
            f"Object {number} has a coordinate that no slide has: give level-0 pixels, finite numbers."
        )


def _snap(shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], Offsets, NDArray[np.intp], int]:
    """Valid shapes on the grid.

    Returns:
        (n,) MultiPolygons; their (m, 2) coordinates in hundredths of a px; the offsets of these; the positions of the
        n shapes among the given ones; how many of the n had to be repaired
    """
    kept = np.flatnonzero(~shapely.is_empty(shapes))
    snapped, grid, offsets = _round(shapes[kept])
    bad = ~shapely.is_valid(snapped)
    slow = bad | (shapely.area(snapped) < THIN_PX * shapely.length(snapped))
    if not slow.any():
        return snapped, grid, offsets, kept, 0
    snapped[slow] = _onto_grid(make_valid(shapes[kept][slow])[0])
    alive = ~shapely.is_empty(snapped)
    kept, repaired = kept[alive], int((bad & alive).sum())
    snapped, grid, offsets = _round(snapped[alive])
    if not shapely.is_valid(snapped).all():
        reason = shapely.is_valid_reason(snapped[np.argmin(shapely.is_valid(snapped))])
        raise AnnotationError(f"An object could not be made valid ({reason}): draw it again or leave it out.")
    return snapped, grid, offsets, kept, repaired


def on_grid(shape: Polygon | MultiPolygon) -> tuple[str, bytes] | None:
    """One shape as type and JSON coordinates of a GeoJSON geometry, valid on the grid; None if nothing is left of it."""
    shapes, grid, offsets, _, _ = _snap(np.array([shape], dtype=object))
    if not len(shapes):
        return None
    return "MultiPolygon" if offsets[2][1] > 1 else "Polygon", _json(grid, offsets)[0]


def _onto_grid(shapes: NDArray[Any]) -> NDArray[Any]:
    """Valid shapes, or empty ones, that the snapping of another reader leaves as they are."""
    with np.errstate(all="ignore"):  # GEOS computes with infinities on its way
        for _ in range(4):  # the first round nearly always settles it
            before = shapes
            # A shape remembers its grid and is not snapped to it twice, unless it is taken off it in between.
            # Snapping turns the rings; the normal form makes a second writing give the same bytes.
            free = shapely.set_precision(shapes, 0)
            shapes = shapely.normalize(shapely.set_precision(free, 1 / STEPS_PER_PX))
            if shapely.equals_exact(before, shapes).all():
                break
    return np.array([only_areas(shape) for shape in shapes], dtype=object)


def _round(shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], Offsets]:
    """Shapes with rounded coordinates, perhaps invalid; a reader of the text gets exactly the double k / 100."""
    if not len(shapes):
        nothing = np.zeros(1, dtype=np.int64)
        return shapes, np.empty((0, 2), dtype=np.int64), (nothing, nothing, nothing)
    kind, xy, offsets = shapely.to_ragged_array(shapes, include_z=False)
    if kind == shapely.GeometryType.POLYGON:
        offsets = (*offsets, np.arange(len(shapes) + 1))
    grid = np.rint(xy * STEPS_PER_PX).astype(np.int64)
    snapped = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, grid / STEPS_PER_PX, offsets)
    return snapped, grid, offsets


def _json(grid: NDArray[np.int64], offsets: Offsets) -> list[bytes]:
    """GeoJSON coordinates of every object, at most two decimals and no more digits than needed."""
    points, rings, parts = (level.astype(np.int64) for level in offsets)
    text = np.empty(POINT_CHARS * len(grid) + 3 * (len(points) + len(rings) + len(parts)), np.uint8)
    ends = _spell(grid, points, rings, parts, text).tolist()
    return [text[a:b].tobytes() for a, b in pairwise([0, *ends])]


@njit(cache=True, nogil=True, error_model="numpy")
def _spell(grid, points, rings, parts, text):  # type: ignore[no-untyped-def]
    """Write the coordinates of all objects into `text`, without anything between them; returns where each one ends."""
    ends = np.empty(len(parts) - 1, np.int64)
    at = 0
    for o in range(len(parts) - 1):
        several = parts[o + 1] > parts[o] + 1
        if several:
            text[at], at = OPEN, at + 1
        for p in range(parts[o], parts[o + 1]):
            text[at], at = OPEN, at + 1
            for r in range(rings[p], rings[p + 1]):
                text[at], at = OPEN, at + 1
                for i in range(points[r], points[r + 1]):
                    text[at], at = OPEN, at + 1
                    at = _number(grid[i, 0], text, at)
                    text[at], at = COMMA, at + 1
                    at = _number(grid[i, 1], text, at)
                    text[at], text[at + 1], at = CLOSE, COMMA, at + 2
                text[at - 1], text[at], at = CLOSE, COMMA, at + 1  # over the comma behind the last point
            text[at - 1], text[at], at = CLOSE, COMMA, at + 1
        if several:
            text[at - 1], text[at], at = CLOSE, COMMA, at + 1
        at -= 1
        ends[o] = at
    return ends


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def _number(hundredths, text, at):  # type: ignore[no-untyped-def]
    """Write a number of hundredths behind place `at`; returns where it ends."""
    if hundredths < 0:
        text[at], at = MINUS, at + 1
    size = abs(hundredths)
    whole = size // STEPS_PER_PX
    rest = size - whole * STEPS_PER_PX
    power = 1
    while whole >= 10 * power:
        power *= 10
    while power:
        digit = whole // power
        text[at], at = ZERO + digit, at + 1
        whole, power = whole - digit * power, power // 10
    if rest:
        text[at], text[at + 1], at = POINT, ZERO + rest // 10, at + 2
        if rest % 10:
            text[at], at = ZERO + rest % 10, at + 1
    return at


class SeenIds:
    """Gives every object an id that no other object of the file has; remembers about 80 bytes for each."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._repeats: dict[bytes, int] = {}

    def fresh(self, polygon: LabelledPolygon, coordinates: bytes) -> str:
        """The object's own id; without one, or if it is taken, the version 5 UUID of class, polygon and occurrence."""
        name = b"%b\n%b" % ((polygon.label or "").encode(), coordinates)
        own = UUID.fullmatch(polygon.id or "")
        first = found = bytes.fromhex(own[0].replace("-", "")) if own else _uuid5(name)
        while found in self._seen:
            self._repeats[first] = self._repeats.get(first, 1) + 1
            found = _uuid5(b"%b\n%d" % (name, self._repeats[first]))
        self._seen.add(found)
        text = found.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _uuid5(name: bytes) -> bytes:
    """The version 5 UUID of a name (RFC 9562): `uuid.uuid5` without its object, which takes longer than the hash."""
    found = bytearray(hashlib.sha1(NAMESPACE.bytes + name, usedforsecurity=False).digest()[:16])
    found[6], found[8] = found[6] & 0x0F | 0x50, found[8] & 0x3F | 0x80
    return bytes(found)
