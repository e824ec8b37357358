"""Painting very many outlines gives the very pixels that painting each gives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon

from tests.viewer.scenes import CLASSES, FRAME, outlines
from wsiseg.annotations.gather import Area
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.geometry import Box, Frame
from wsiseg.viewer.outlines import CASING, CASING_COLOUR, LINE, OutlineLayer
from wsiseg.viewer.shapes import SMALL, Shapes
from wsiseg.viewer.style import Style


def lattice(count: int) -> list[LabelledPolygon]:
    """Disjoint squares of 6 × 5 px on a lattice of 10 px, their corners off the whole pixels."""
    side = int(np.ceil(count**0.5))
    places = [(10 * (n % side) + 0.25, 10 * (n // side) + 0.75) for n in range(count)]
    return [
        LabelledPolygon(shapely.box(x, y, x + 6, y + 5), CLASSES.names[1 + n % 2]) for n, (x, y) in enumerate(places)
    ]


def areas(regions: list[LabelledPolygon]) -> list[Area]:
    return [region.polygon for region in regions]


@settings(max_examples=60)
@given(
    box=st.builds(Box, st.integers(-40, 700), st.integers(-40, 700), st.integers(1, 300), st.integers(1, 300)),
    level=st.sampled_from([1.0, 1.5, 2.0, 0.5]),
)
def test_pixels_are_those_of_the_rasteriser(box: Box, level: float) -> None:
    """With more objects than a block of the index has; larger ones stay larger than a dot at these levels."""
    regions = lattice(1500)
    frame = FRAME.at(FRAME.mpp * level)
    painted = SHAPES.paint(box, frame)
    assert np.array_equal(painted > 0, rasterise(regions, CLASSES, box, frame, FRAME) > 0)
    found = np.concatenate([[-1], SHAPES.ranked])[painted]
    for n in np.unique(found[found >= 0])[:5]:
        alone = rasterise([regions[n]], CLASSES, box, frame, FRAME)
        assert np.array_equal(found == n, alone > 0), n


SHAPES = Shapes(areas(lattice(1500)), FRAME)


def test_the_smaller_of_two_lies_on_top_and_is_found() -> None:
    large, small = shapely.box(10, 10, 60, 60), shapely.box(20, 20, 30, 30)
    for regions in (
        [LabelledPolygon(large, "A"), LabelledPolygon(small, "B")],
        [LabelledPolygon(small, "B"), LabelledPolygon(large, "A")],
    ):
        shapes = Shapes(areas(regions), FRAME)
        painted = np.concatenate([[-1], shapes.ranked])[shapes.paint(Box(0, 0, 70, 70), FRAME)]
        assert regions[painted[25, 25]].label == "B"
        assert regions[painted[15, 15]].label == "A"
        assert regions[shapes.at(25.5, 25.5)].label == "B"  # type: ignore[index]
        assert shapes.at(65.0, 25.0) is None


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(0, 24), cuts=st.lists(st.integers(0, 24), max_size=3),
    box=st.builds(Box, st.integers(-40, 1400), st.integers(-40, 1000), st.integers(1, 400), st.integers(1, 400)),
    level=st.sampled_from([1.0, 2.0, 8.0]),
)  # fmt: skip
def test_shapes_that_came_later_are_painted_as_if_they_had_been_there(
    first: int, cuts: list[int], box: Box, level: float
) -> None:
    every = areas([*outlines(), *outlines(9.0)])
    places = [0, *sorted({first, *cuts}), len(every)]
    grown = Shapes(every[: places[1]], FRAME)
    for start, end in itertools.pairwise(places[1:]):
        grown = Shapes(every[start:end], FRAME, grown)
    at_once, frame = Shapes(every, FRAME), FRAME.at(FRAME.mpp * level)
    assert np.array_equal(grown.paint(box, frame), at_once.paint(box, frame))
    assert np.array_equal(grown.bounds, at_once.bounds)
    assert grown.at(box.x + 0.5, box.y + 0.5) == at_once.at(box.x + 0.5, box.y + 0.5)


def test_no_object_vanishes_from_afar() -> None:
    regions = lattice(400)
    frame = FRAME.at(FRAME.mpp * 8)  # an object is less than a pixel
    painted = Shapes(areas(regions), FRAME).paint(frame.box, frame)
    middles = {(int(r.polygon.centroid.x // 8), int(r.polygon.centroid.y // 8)) for r in regions}
    assert {(int(x), int(y)) for y, x in np.argwhere(painted)} == middles
    assert SMALL > 6 / 8


def test_parts_of_one_object_are_one_object() -> None:
    both = shapely.MultiPolygon([shapely.box(0, 0, 10, 10), shapely.box(500, 500, 510, 510)])
    shapes = Shapes([both, shapely.box(100, 100, 110, 110)], FRAME)
    assert shapes.at(5, 5) == shapes.at(505, 505) == 0
    assert shapes.at(105, 105) == 1
    assert shapes.at(250, 250) is None, "the bounds of both parts together are no object"


@pytest.mark.parametrize("hidden", [frozenset(), frozenset({1})])
def test_hidden_classes_uncover_what_lies_below(hidden: frozenset[int]) -> None:
    regions = outlines()
    layer = OutlineLayer("x", regions, FRAME)
    index, palette = layer.tile(FRAME.box, FRAME, Style(hidden=hidden))
    shown = [r for r in regions if layer.names.index(str(r.label)) not in hidden]
    expected = rasterise(shown, CLASSES, FRAME.box, FRAME, FRAME)
    assert np.array_equal(index > 0, expected > 0)
    classes = np.where(index >= LINE, index - LINE, index.astype(int) - 1) + 1
    assert np.array_equal(np.where(index > 0, classes, 0), expected), "a vessel in a glomerulus is painted later too"
    assert palette[0, 3] == 0


def test_the_rim_is_two_pixels_wide_and_inside() -> None:
    layer = OutlineLayer("x", [LabelledPolygon(shapely.box(10, 10, 30, 24), "A")], FRAME)
    index, _ = layer.tile(Box(0, 0, 40, 40), FRAME, Style())
    expected = np.zeros((40, 40), np.uint8)
    expected[10:24, 10:30] = LINE
    expected[12:22, 12:28] = 1
    assert np.array_equal(index, expected)


def test_a_light_seam_lies_on_both_sides_of_a_line() -> None:
    layer = OutlineLayer("x", [LabelledPolygon(shapely.box(10, 10, 30, 24), "A")], FRAME)
    index, palette = layer.tile(Box(0, 0, 40, 40), FRAME, Style(fill=False))
    expected = np.zeros((40, 40), np.uint8)
    expected[9:25, 10:30] = expected[10:24, 9:31] = CASING  # its corners are open: neighbours lie on four sides
    expected[10:24, 10:30] = LINE
    expected[12:22, 12:28] = CASING
    expected[13:21, 13:27] = 1
    assert np.array_equal(index, expected)
    assert palette[CASING].tolist() == list(CASING_COLOUR)
    assert palette[1, 3] == 0


@pytest.mark.parametrize("fill", [True, False])
def test_a_rim_does_not_depend_on_the_tile(fill: bool) -> None:
    layer = OutlineLayer("x", outlines(), FRAME)
    frame = Frame(750, 550, 1.0)
    whole, _ = layer.tile(frame.box, frame, Style(fill))
    for x in range(0, 750, 130):
        for y in range(0, 550, 130):
            box = Box(x, y, 130, 130).overlap(frame.box)
            assert np.array_equal(layer.tile(box, frame, Style(fill))[0], whole[box.slices])


def test_objects_without_a_class_are_called_so() -> None:
    layer = OutlineLayer("x", [LabelledPolygon(shapely.box(10, 10, 30, 24), None)], FRAME)
    assert [c["name"] for c in layer.describe()["classes"]] == ["no class"]


def test_no_objects_at_all() -> None:
    layer = OutlineLayer("x", [], FRAME)
    assert not layer.tile(Box(0, 0, 64, 64), FRAME, Style())[0].any()
    assert layer.shapes.at(3, 3) is None
    assert layer.describe()["objects"] == 0


def test_a_shape_that_folds_over_many_blocks() -> None:
    """One long ring among many small ones is found from every tile that it crosses."""
    angle = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    ring = Polygon(np.stack([700 + 600 * np.cos(angle), 550 + 500 * np.sin(angle)], 1))
    regions = [*lattice(800), LabelledPolygon(ring, "Vessel")]
    shapes = Shapes(areas(regions), FRAME)
    box = Box(1200, 500, 100, 100)
    assert np.array_equal(shapes.paint(box, FRAME) > 0, rasterise(regions, CLASSES, box, FRAME, FRAME) > 0)
