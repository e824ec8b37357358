"""Properties of the tiling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsiseg.errors import GeometryError
from wsiseg.geometry import Box, Frame
from wsiseg.grid import Grid


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    size = draw(st.integers(1, 24))
    overlap = 2 * draw(st.integers(0, size // 4))
    return Grid(Frame(draw(st.integers(0, 70)), draw(st.integers(0, 70)), 1.0), size, overlap)


boxes = st.builds(Box, *[st.integers(-30, 90)] * 2, *[st.integers(0, 40)] * 2)


@given(grids())
def test_keep_boxes_partition_the_frame(grid: Grid) -> None:
    seen = np.zeros(grid.frame.box.shape, int)
    for tile in grid:
        assert tile.keep
        assert tile.read.contains(tile.keep)
        assert tile.read.shape == (grid.size, grid.size)
        seen[tile.keep.slices] += 1
    assert (seen == 1).all()


@given(grids(), boxes)
def test_finding_tiles_agrees_with_looking_at_all(grid: Grid, box: Box) -> None:
    assert list(grid.touching(box)) == [t for t in grid if t.read.overlap(box)]
    inside = [t for t in grid if t.keep.overlap(box)]
    cells = list(grid.cells(box))
    assert [t for t in cells if t.keep.overlap(box)] == inside


@given(grids())
def test_no_pixel_is_read_by_more_than_four_tiles(grid: Grid) -> None:
    seen = np.zeros(grid.frame.box.shape, int)
    for tile in grid:
        inside = tile.read.overlap(grid.frame.box)
        seen[inside.slices] += 1
    assert seen.max(initial=0) <= 4


@given(grids())
def test_grids_survive_json(grid: Grid) -> None:
    assert Grid.from_json(grid.to_json()) == grid
    assert len(grid) == len(list(grid))


@pytest.mark.parametrize("overlap", [-2, 3, 10])
def test_impossible_overlaps_are_refused(overlap: int) -> None:
    with pytest.raises(GeometryError, match="overlap"):
        Grid(Frame(10, 10, 1.0), 16, overlap)


def test_tiles_outside_are_refused() -> None:
    with pytest.raises(IndexError):
        _ = Grid(Frame(10, 10, 1.0), 4)[3, 0]


@given(st.integers(-2, 9), st.integers(-2, 9))
def test_tiles_are_those_inside_the_shape(row: int, col: int) -> None:
    grid = Grid(Frame(300, 500, 0.5), 100, 20)
    rows, cols = grid.shape
    if row in range(rows) and col in range(cols):
        assert (grid[row, col].row, grid[row, col].col) == (row, col)
        assert grid[row, col] in list(grid)
    else:
        with pytest.raises(IndexError, match=f"outside a grid of {rows} × {cols}"):
            _ = grid[row, col]
