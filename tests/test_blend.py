"""Blending: no seam, no order, no batch in the result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsiseg.geometry import Frame
from wsiseg.grid import Grid, Tile
from wsiseg.inference.blend import Blender, tile_weights, to_labels, upsample


@st.composite
def cases(draw: st.DrawFn) -> tuple[Grid, list[Tile], int]:
    size = draw(st.integers(2, 12))
    grid = Grid(
        Frame(draw(st.integers(1, 40)), draw(st.integers(1, 40)), 1.0), size, 2 * draw(st.integers(0, size // 4))
    )
    keep = draw(st.lists(st.booleans(), min_size=len(grid), max_size=len(grid)))
    return grid, [t for t, k in zip(grid, keep, strict=True) if k], draw(st.integers(0, 10_000))


def stitch(grid: Grid, tiles: list[Tile], scores: dict[Tile, np.ndarray], classes: int, first: int = 0):
    blender = Blender(grid, classes, first)
    labels, score = np.zeros(grid.frame.box.shape, np.uint8), np.zeros(grid.frame.box.shape, np.uint8)
    rows = []

    def take(before: int) -> None:
        for row, a, b in blender.rows(before=before):
            where = slice(row * grid.stride, row * grid.stride + a.shape[0])
            labels[where], score[where] = a, b
            rows.append(row)

    for tile in tiles:
        if tile.row >= first - 1:
            take(tile.row)
            blender.add(tile, scores[tile])
    take(grid.shape[0])
    assert rows == list(range(first, grid.shape[0]))
    return labels, score


@given(cases())
@settings(max_examples=60)
def test_a_constant_stitches_to_that_constant(case: tuple[Grid, list[Tile], int]) -> None:
    grid, tiles, _ = case
    constant = np.array([0.1, 0.21, 0.69], np.float32)[:, None, None] * np.ones((1, grid.size, grid.size), np.float32)
    labels, score = stitch(grid, tiles, dict.fromkeys(tiles, constant), 3)
    covered = np.zeros(grid.frame.box.shape, bool)
    for tile in tiles:
        covered[tile.read.overlap(grid.frame.box).slices] = True
    assert (labels == np.where(covered, 2, 0)).all()
    assert (score == np.where(covered, round(0.69 * 255), 0)).all()


@given(cases())
@settings(max_examples=60)
def test_rows_agree_with_adding_everything_up_at_once(case: tuple[Grid, list[Tile], int]) -> None:
    grid, tiles, seed = case
    rng = np.random.default_rng(seed)
    scores = {t: rng.random((3, grid.size, grid.size), np.float32) for t in tiles}
    labels, _ = stitch(grid, tiles, scores, 3)
    weights, total = tile_weights(grid), np.zeros((3, *grid.frame.box.shape), np.float32)
    for tile in tiles:
        inside = tile.read.overlap(grid.frame.box)
        part = inside.relative_to(tile.read).slices
        total[(slice(None), *inside.slices)] += scores[tile][(slice(None), *part)] * weights[part]
    assert (labels == total.argmax(0)).all()


@given(cases(), st.integers(0, 5))
@settings(max_examples=60)
def test_starting_in_the_middle_gives_the_same_bytes(case: tuple[Grid, list[Tile], int], first: int) -> None:
    grid, tiles, seed = case
    first = min(first, grid.shape[0])
    rng = np.random.default_rng(seed)
    scores = {t: rng.random((2, grid.size, grid.size), np.float32) for t in tiles}
    whole, part = stitch(grid, tiles, scores, 2), stitch(grid, tiles, scores, 2, first)
    below = slice(first * grid.stride, None)
    assert (whole[0][below] == part[0][below]).all()
    assert (whole[1][below] == part[1][below]).all()


def test_neighbouring_weights_add_up_to_one() -> None:
    grid = Grid(Frame(100, 100, 1.0), 32, 8)
    row = tile_weights(grid)[16]
    assert np.allclose(row[-8:] + row[:8], 1)
    assert (row > 0).all()


def test_tiles_out_of_order_are_refused() -> None:
    grid = Grid(Frame(20, 20, 1.0), 8)
    blender = Blender(grid, 2)
    blender.add(grid[1, 0], np.zeros((2, 8, 8), np.float32))
    with pytest.raises(ValueError, match="grid order"):
        blender.add(grid[0, 1], np.zeros((2, 8, 8), np.float32))


def test_an_object_of_unsure_kind_is_an_object() -> None:
    scores = np.array([[0.4, 0.6, 0.5], [0.35, 0.3, 0.2], [0.25, 0.1, 0.3]], np.float32)[:, None, :]
    assert to_labels(scores, None).tolist() == [[0, 0, 0]]
    assert to_labels(scores, 0.5).tolist() == [[1, 0, 0]], "a draw is background"
    assert to_labels(scores, 0.45).tolist() == [[1, 0, 2]]
    assert to_labels(scores, 0.39).tolist() == [[1, 1, 2]]
    for above in (0.3, 0.5, 0.7):
        assert (to_labels(scores * 8, above) == to_labels(scores, above)).all(), "weights need not add up to 1"


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 8), st.integers(0, 10_000))
@settings(max_examples=60)
def test_upsampling_reproduces_a_linear_picture_in_its_place(height: int, width: int, factor: int, seed: int) -> None:
    slope = np.random.default_rng(seed).uniform(-1, 1, 3)
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5  # centres, in pixels of the network
    coarse = (slope[0] + slope[1] * y[:, None] + slope[2] * x).astype(np.float32)
    fine = upsample(np.stack([coarse, np.full_like(coarse, 0.3)]), factor)
    y, x = (np.arange(height * factor) + 0.5) / factor, (np.arange(width * factor) + 0.5) / factor
    y, x = y.clip(0.5, height - 0.5), x.clip(0.5, width - 0.5)  # constant beyond the outermost centres
    assert np.allclose(fine[0], slope[0] + slope[1] * y[:, None] + slope[2] * x, atol=1e-5)
    assert (fine[1] == np.float32(0.3)).all()
