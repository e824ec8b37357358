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
