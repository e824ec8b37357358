"""Touching objects are separated, and nothing else happens to any."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from shapely import Point, Polygon, union_all
from shapely.affinity import rotate, scale

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.split import _highest, divide, split_touching
from wsiseg.geometry import Frame

LEVEL0 = Frame(1000, 800, 0.25)


def nucleus(x: float, y: float, a: float = 16, b: float = 13, turn: float = 0) -> Polygon:
    """An ellipse, px of level 0."""
    return rotate(scale(Point(x, y).buffer(1, quad_segs=32), a, b), turn)


def parts(shape: Polygon, frame: Frame = LEVEL0, radius_um: float = 2.5) -> list[LabelledPolygon]:
    return list(split_touching([LabelledPolygon(shape, "Podocyte", 0.7)], frame, LEVEL0, radius_um))


@pytest.mark.parametrize("mpp", [0.25, 0.5])
@pytest.mark.parametrize("middles", [[(100, 100), (127, 100)], [(100, 100), (129, 104), (112, 125)]])
def test_touching_nuclei_become_as_many(mpp: float, middles: list[tuple[float, float]]) -> None:
    shapes = [nucleus(x, y) for x, y in middles]
    found = parts(union_all(shapes), LEVEL0.at(mpp))
    assert len(found) == len(shapes)
    assert {(r.label, r.score) for r in found} == {("Podocyte", 0.7)}
    for shape in shapes:
        best = max(r.polygon.intersection(shape).area / r.polygon.union(shape).area for r in found)
        assert best > 0.75
    for a, b in pairwise(found):
        assert a.polygon.intersection(b.polygon).area == 0


@settings(max_examples=40)
@given(
    x=st.floats(60, 900), y=st.floats(60, 700), a=st.floats(8, 20), b=st.floats(0.55, 1), turn=st.floats(0, 180)
)  # fmt: skip
def test_one_nucleus_stays_as_it_is(x: float, y: float, a: float, b: float, turn: float) -> None:
    shape = nucleus(x, y, a, a * b, turn)
    found = parts(shape)
    assert [r.polygon for r in found] == [shape]


def test_the_parts_make_up_the_whole() -> None:
    rng = np.random.default_rng(1)
    shapes = [nucleus(*rng.uniform(50, 250, 2), *rng.uniform(10, 18, 2), rng.uniform(0, 180)) for _ in range(60)]
    for clump in union_all(shapes).geoms:
        found = parts(clump)
        assert union_all([r.polygon for r in found]).symmetric_difference(clump).area < 0.08 * clump.area
        assert sum(r.polygon.area for r in found) == pytest.approx(union_all([r.polygon for r in found]).area)


def test_what_is_too_large_to_take_apart_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = union_all([nucleus(100, 100), nucleus(127, 100)])
    assert len(parts(pair)) == 2
    monkeypatch.setattr("wsiseg.annotations.split.LARGEST_PX", 1000)
    assert [r.polygon for r in parts(pair)] == [pair]


def test_a_thin_outline_without_a_middle_stays() -> None:
    line = Polygon([(10, 10), (200, 10), (200, 12), (10, 12)])
    assert [r.polygon for r in parts(line)] == [line]


def test_a_mask_without_an_object_has_none() -> None:
    labels, count = divide(np.zeros((9, 9), bool), 3)
    assert count == 0
    assert not labels.any()


@given(st.integers(0, 10_000), st.floats(1.0, 9.0), st.integers(1, 40), st.integers(1, 40))
def test_the_highest_within_a_disc(seed: int, radius: float, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(ndimage.gaussian_filter(rng.random((height, width)), rng.uniform(0, 3)), 2)  # with plateaus
    where = rng.random(values.shape) < 0.8
    reach = max(1, round(radius))
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = x * x + y * y <= radius * radius
    slow = ndimage.maximum_filter(values, footprint=disc, mode="constant", cval=-np.inf)
    assert np.array_equal(_highest(values, where, radius), where & (values == slow))
