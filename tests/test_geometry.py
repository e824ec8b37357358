"""Properties of boxes and frames."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsiseg.errors import GeometryError
from wsiseg.geometry import Box, Frame

boxes = st.builds(Box, *[st.integers(-50, 50)] * 2, *[st.integers(0, 40)] * 2)
mpps = st.floats(0.1, 10)


def pixels(box: Box) -> set[tuple[int, int]]:
    return {(x, y) for x in range(box.x, box.right) for y in range(box.y, box.bottom)}


@given(boxes, boxes)
def test_overlap_is_the_intersection_of_the_pixels(a: Box, b: Box) -> None:
    assert pixels(a.overlap(b)) == pixels(a) & pixels(b)
    assert a.contains(b) == (pixels(b) <= pixels(a))


def test_slices_cross_from_xy_to_row_column() -> None:
    assert Box(3, 5, 2, 4).slices == (slice(5, 9), slice(3, 5))
    with pytest.raises(GeometryError, match="overlap"):
        _ = Box(-1, 0, 2, 2).slices


@pytest.mark.parametrize("size", [(-1, 3), (3, -1)])
def test_a_box_of_negative_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(GeometryError):
        Box(0, 0, *size)


@given(boxes, mpps, mpps, mpps)
def test_a_mapped_box_covers_the_same_micrometres_and_no_pixel_more(
    box: Box, mpp: float, mpp_y: float, to: float
) -> None:
    frame = Frame(1000, 1000, mpp, mpp_y)
    other = frame.at(to)
    mapped = frame.map(box, to=other)
    for low, high, low2, high2, scale in (
        (box.x, box.right, mapped.x, mapped.right, mpp / to),
        (box.y, box.bottom, mapped.y, mapped.bottom, mpp_y / to),
    ):
        assert low2 <= low * scale + 1e-5
        assert high2 >= high * scale - 1e-5
        assert low2 > low * scale - 1 - 1e-5
        assert high2 < high * scale + 1 + 1e-5


@given(st.integers(1, 100_000), st.integers(1, 100_000), mpps, mpps)
def test_a_frame_at_another_resolution_covers_the_slide(width: int, height: int, mpp: float, to: float) -> None:
    other = Frame(width, height, mpp).at(to)
    assert width * mpp / to - 1e-5 <= other.width < width * mpp / to + 1
    assert height * mpp / to - 1e-5 <= other.height < height * mpp / to + 1
    assert other.mpp == other.mpp_y == to


def test_round_trips_at_whole_factors_are_exact() -> None:
    level0 = Frame(4443, 3567, 0.2525)
    coarse = level0.at(1.01)
    assert (coarse.width, coarse.height) == (1111, 892)
    assert coarse.scale_to(level0) == (4.0, 4.0)
    assert coarse.map(Box(1, 2, 3, 4), to=level0) == Box(4, 8, 12, 16)


@pytest.mark.parametrize("mpp", [0.0, -1.0, math.nan, math.inf])
def test_impossible_resolutions_are_refused(mpp: float) -> None:
    with pytest.raises(GeometryError):
        Frame(10, 10, 1.0).at(mpp)


def test_frames_survive_json() -> None:
    frame = Frame(7, 9, 0.25, 0.26)
    assert Frame.from_json(frame.to_json()) == frame


@given(boxes, boxes, st.integers(-60, 60), st.integers(-60, 60), st.integers(0, 9))
def test_moving_and_growing_boxes_moves_and_grows_their_pixels(a: Box, outer: Box, dx: int, dy: int, by: int) -> None:
    assert pixels(a.shift(dx, dy)) == {(x + dx, y + dy) for x, y in pixels(a)}
    assert pixels(a.relative_to(outer)) == {(x - outer.x, y - outer.y) for x, y in pixels(a)}
    grown = a.grow(by)
    assert (grown.x, grown.y, grown.right, grown.bottom) == (a.x - by, a.y - by, a.right + by, a.bottom + by)


def test_what_rounding_adds_to_a_whole_number_is_no_pixel() -> None:
    """0.1 + 0.2 is 0.30000000000000004: a box must not grow by a pixel for it."""
    frame = Frame(3000, 3000, 0.1)
    for to in (0.3, 0.7, 1.1):
        other = frame.at(to)
        assert other.width == math.ceil(round(3000 * 0.1 / to, 6))
        for n in range(1, 40):
            edge = round(n * to / 0.1)
            mapped = frame.map(Box(edge, edge, edge, edge), to=other)
            assert (mapped.x, mapped.y, mapped.right, mapped.bottom) == (n, n, 2 * n, 2 * n)
