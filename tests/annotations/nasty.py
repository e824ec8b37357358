"""Annotations as nobody should draw them: crossing, folded, touching, tiny, huge and far away."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon, box

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap

CLASSES = ClassMap(("Background", "Glomerulus", "Sclerotic glomerulus", "Immune: CD3"))

# On few whole numbers corners meet and edges overlap all the time.
_corner = st.tuples(st.integers(0, 6), st.integers(0, 6))
_ring = st.lists(_corner, min_size=3, max_size=9)


@st.composite
def polygons(draw: st.DrawFn) -> Polygon:
    kind = draw(st.sampled_from(["ring", "holes", "sliver", "frame"]))
    if kind == "sliver":
        length = draw(st.sampled_from([1.0, 100.0, 1e5]))
        return Polygon([(0, 0), (length, draw(st.floats(0, 0.02))), (length, draw(st.floats(-0.02, 0.02)))])
    if kind == "frame":  # holes that touch each other, the shell, or lie outside
        holes = draw(st.lists(st.tuples(st.integers(-1, 8), st.integers(-1, 8), st.integers(1, 4)), max_size=4))
        return Polygon(box(0, 0, 8, 8).exterior, [box(x, y, x + s, y + s).exterior for x, y, s in holes])
    return Polygon(draw(_ring), [draw(_ring) for _ in range(draw(st.integers(0, 2)))] if kind == "holes" else [])


@st.composite
def areas(draw: st.DrawFn) -> Polygon | MultiPolygon:
    """Scaled from thousandths of a px to thousands, turned, and moved up to 3 · 10⁷ px either way; nothing lies beyond `FARTHEST`."""
    parts = draw(st.lists(polygons(), min_size=1, max_size=3))
    scale = draw(st.sampled_from([0.003, 0.1, 1.0, 1 / 3, 977.13]))
    turn = draw(st.sampled_from([0.0, 0.1, 1.234]))
    move = draw(st.sampled_from([(0, 0), (0.005, -0.005), (-1234.56, 99.99), (3e7, 3e7), (-29876543.2, 3.3)]))
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) * scale
    moved = [
        Polygon(_move(part.exterior, spin, move), [_move(hole, spin, move) for hole in part.interiors])
        for part in parts
    ]
    return moved[0] if len(moved) == 1 else MultiPolygon(moved)


def _move(ring, spin, move):  # type: ignore[no-untyped-def]
    return np.array(ring.coords) @ spin + move


numbers = st.one_of(st.floats(), st.integers(-1000, 1000).map(float))

regions = st.builds(
    LabelledPolygon,
    polygon=areas(),
    label=st.sampled_from([None, *CLASSES.names[1:], "Ignore*"]),
    score=st.one_of(st.none(), st.floats(0, 1), st.just(float("nan"))),
    id=st.one_of(st.none(), st.uuids().map(str), st.sampled_from(["7", "A" * 36])),
    measurements=st.dictionaries(st.sampled_from(["Area µm^2", "a.0, b", "x"]), numbers, max_size=2),
)
