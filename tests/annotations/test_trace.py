"""Label maps to outlines and back: exact, valid, the same for every way of cutting the map, in little memory."""

import gc
import itertools
import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from shapely import Polygon

from wsiseg.annotations.contours import trace_pixels
from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import rasterise
from wsiseg.annotations.trace import trace
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import ClassError, GeometryError
from wsiseg.geometry import Box, Frame

CLASSES = ClassMap(("background", "tubule", "glomerulus", "vessel", "nucleus"))


def labels_of(*rows):
    return np.array([[int(c) for c in row] for row in rows], np.uint8)


def spiral(size):
    """One corridor and one wall, wound round each other."""
    out, (y, x), (dy, dx) = np.zeros((size, size), np.uint8), (0, 0), (0, 1)
    for length in [size, *(k for n in range(size - 1, 0, -2) for k in (n, n))]:
        for _ in range(length - 1 + (length < size)):
            out[y, x] = 1
            y, x = min(y + dy, size - 1), min(x + dx, size - 1)
        dy, dx = dx, -dy
    return out


ys, xs = np.indices((12, 13))
NASTY = {
    "checkerboard": (xs + ys) % 2,
    "checkerboard of two classes": 1 + (xs + ys) % 2,
    "checkerboard of three classes": 1 + (xs + 2 * ys) % 3,
    "diagonal stripes": (xs + ys) // 2 % 3,
    "staircase": (xs == ys) | (xs == ys + 1),
    "diagonal only": xs == ys,
    "spiral": spiral(13),
    "rings in rings": np.minimum.reduce([xs, ys, 12 - xs, 11 - ys]) % 2 + 1,
    "rings of all classes": np.minimum.reduce([xs, ys, 12 - xs, 11 - ys]) % 5,
    "comb": (xs % 2 == 0) | (ys == 0),
    "comb upside down": (xs % 2 == 0) | (ys == 11),
    "sieve": (xs % 2 == 0) | (ys % 2 == 0),
    "full": np.ones((5, 7)),
    "empty": np.zeros((5, 7)),
    "one pixel": np.ones((1, 1)),
    "one row": xs[:1] % 3,
    "one column": ys[:, :1] // 2 % 2,
    "shell bites its tail": labels_of("01110", "11011", "10101", "11010", "01100"),
    "holes that touch": labels_of("11111", "10111", "11011", "11101", "11111"),
    "holes that touch the shell": labels_of("0111", "1011", "1101", "1110"),
    "an island touches the hole round it": labels_of("111111", "100001", "101101", "101101", "110001", "111111"),
    "a class in a class in a class": labels_of("1111111", "1222221", "1233321", "1230321", "1233321", "1222221"),
}
nasty = [np.ascontiguousarray(a, np.uint8) for a in NASTY.values()]


def blobs(seed, sigma, classes=4, size=(40, 33)):
    """Smooth random shapes of all classes, as networks draw them."""
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    return ndimage.gaussian_filter(noise, (0, sigma, sigma)).argmax(axis=0).astype(np.uint8)


random_maps = st.one_of(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 18)), elements=st.integers(0, 2)),
    arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 7)), elements=st.integers(0, 4)),
    st.builds(blobs, st.integers(0, 999), st.floats(0.3, 4), st.integers(2, 5)),
    st.builds(spiral, st.integers(1, 20)),
    st.sampled_from(nasty),
)


@st.composite
def cut_maps(draw):
    """A label map and a way to cut it into bands; empty bands are bands too."""
    labels = draw(random_maps)
    cuts = sorted(draw(st.lists(st.integers(0, len(labels)), max_size=len(labels) + 3)))
    return labels, np.split(labels, cuts)


def plain(traced):
    return [(label, *(shapely.get_coordinates(r).tolist() for r in rings_of(p))) for label, p in traced]


def rings_of(polygon):
    return (polygon.exterior, *polygon.interiors)


def painted(outlines, shape, frame=None, level0=None):
    frame = frame or Frame(shape[1], shape[0], 0.5)
    return rasterise(outlines, CLASSES, Box(0, 0, shape[1], shape[0]), frame, level0 or frame)


def outlined(labels, **options):
    frame = Frame(labels.shape[1], labels.shape[0], 1.0)
    return list(trace([labels], CLASSES, frame, frame, **options))


@pytest.mark.parametrize("labels", nasty, ids=NASTY)
def test_the_laws_hold_for_nasty_maps(labels):
    check_laws(labels)


@settings(max_examples=200)
@given(labels=random_maps)
def test_the_laws_hold_for_random_maps(labels):
    check_laws(labels)


def check_laws(labels):
    found = list(trace_pixels([labels]))
    count = sum(ndimage.label(labels == label)[1] for label in np.unique(labels[labels > 0]))
    assert len(found) == count
    for _, polygon in found:
        assert polygon.is_valid
        assert polygon.exterior.is_ccw  # clockwise on the screen, where y runs down
        assert not any(hole.is_ccw for hole in polygon.interiors)
        for ring in rings_of(polygon):
            corners = shapely.get_coordinates(ring)
            steps = np.diff(corners, axis=0)
            horizontal = steps[:, 1] == 0
            assert (horizontal ^ (steps[:, 0] == 0)).all()
            assert (horizontal ^ np.roll(horizontal, 1)).all()  # a turn at every corner
            assert tuple(corners[0, ::-1]) == min(map(tuple, corners[:, ::-1]))
            assert len(np.unique(corners[:-1], axis=0)) == len(corners) - 1
    ends = [max(((y, x) for x, y in polygon.exterior.coords)) for _, polygon in found]
    assert ends == sorted(ends)
    assert (painted([LabelledPolygon(p, CLASSES.names[label]) for label, p in found], labels.shape) == labels).all()


@settings(max_examples=150)
@given(cut=cut_maps())
@example((nasty[6], np.split(nasty[6], range(1, 13))))
def test_the_bands_change_nothing(cut):
    labels, bands = cut
    assert plain(trace_pixels(bands)) == plain(trace_pixels([labels]))


@settings(max_examples=100)
@given(labels=random_maps, mpp=st.floats(0.2, 2), fx=st.floats(0.2, 9), fy=st.floats(0.2, 9))
def test_scales_that_are_neither_whole_nor_equal_are_undone(labels, mpp, fx, fy):
    height, width = labels.shape
    frame = Frame(width, height, mpp)
    level0 = Frame(10 * width, 10 * height, mpp / fx, mpp / fy)
    regions = list(trace([labels], CLASSES, frame, level0))
    assert (painted(regions, labels.shape, frame, level0) == labels).all()
    sx, sy = frame.scale_to(level0)
    assert sum(r.polygon.area for r in regions) == pytest.approx((labels > 0).sum() * sx * sy)
    assert all(r.polygon.is_valid for r in regions)


def test_outlines_run_along_the_edges_of_pixels():
    (label, polygon), *rest = trace_pixels([labels_of("0000", "0220", "0200")])
    assert not rest
    assert label == 2
    assert polygon.exterior.coords[:] == [(1, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 1)]


def test_an_object_comes_out_before_the_next_band_is_asked_for():
    asked = []

    def bands():
        for i, row in enumerate(["0100", "0102", "0002", "0000"]):
            asked.append(i)
            yield labels_of(row)

    stream = trace_pixels(bands())
    assert next(stream)[0] == 1
    assert asked == [0, 1, 2]
    assert next(stream)[0] == 2
    assert asked == [0, 1, 2, 3]


def test_memory_does_not_grow_with_the_number_of_rows():
    band = np.tile(blobs(1, 3, size=(64, 64)), (1, 4))

    def peak(times):
        gc.collect()
        tracemalloc.start()
        count = sum(1 for _ in trace_pixels(itertools.repeat(band, times)))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, size

    peak(2)
    (few, small), (many, large) = peak(10), peak(60)
    assert many > 5 * few
    assert large < 1.1 * small


def test_an_object_as_high_as_the_map_keeps_all_its_holes():
    labels = np.ones((4001, 21), np.uint8)
    labels[1::2, 1::2] = 0
    ((_, polygon),) = trace_pixels(labels[i : i + 37] for i in range(0, len(labels), 37))
    assert len(polygon.interiors) == 2000 * 10
    assert polygon.area == labels.sum()


def test_what_is_ignored_has_no_outline():
    labels = labels_of("1100", "1200", "0002")
    labels[0, 3] = labels[1, 2] = IGNORE
    assert {label for label, _ in trace_pixels([labels])} == {1, 2, IGNORE}
    regions = outlined(labels)
    assert {r.label for r in regions} == {"tubule", "glomerulus"}
    assert (painted(regions, labels.shape) == np.where(labels == IGNORE, 0, labels)).all()


@settings(max_examples=150)
@given(cut=cut_maps(), area=st.integers(0, 12), hole=st.integers(0, 12))
@example((nasty[-1], [nasty[-1]]), 0, 12)
def test_small_objects_go_and_small_empty_holes_are_filled(cut, area, hole):
    labels, bands = cut
    frame = Frame(labels.shape[1], labels.shape[0], 1.0)
    kept = [(label, p) for label, p in trace_pixels([labels]) if p.area >= area]
    tree = shapely.STRtree([p.representative_point() for _, p in kept])

    def stays(ring):
        return Polygon(ring).area >= hole or len(tree.query(Polygon(ring), "contains")) > 0

    wanted = [(CLASSES.names[n], Polygon(p.exterior, [r for r in p.interiors if stays(r)])) for n, p in kept]
    found = trace(bands, CLASSES, frame, frame, min_area_um2=area, min_hole_um2=hole)
    assert [(r.label, r.polygon.wkb) for r in found] == [(name, p.wkb) for name, p in wanted]


@pytest.mark.parametrize("framed", [False, True], ids=["all short", "one as high as the map"])
def test_objects_in_holes_are_remembered_as_long_as_need_be(framed):
    # More of them than are remembered without clearing up; what is cleared up must not be wanted later.
    labels = np.tile(labels_of("0000", "0222", "0242", "0222"), (120, 120))
    labels[2::4, 14::16] = 0  # every fourth ring is empty
    labels[:, 0] = 3 * framed
    frame = Frame(480, 480, 1.0)
    regions = trace(np.split(labels, 480), CLASSES, frame, frame, min_hole_um2=2.0)
    rings = [r.polygon for r in regions if r.label == "glomerulus"]
    assert [p.area for p in rings] == [8, 8, 8, 9] * (30 * 120)


def test_sizes_are_in_um2():
    labels = np.zeros((20, 30), np.uint8)
    labels[1:5, 1:5] = 1  # 16 px
    labels[8:18, 8:18] = 2
    labels[10:12, 10:13] = 0  # 6 px
    frame = Frame(30, 20, 0.5, 0.25)  # 0.125 µm²/px
    level0 = Frame(60, 20, 0.25)

    def count(area, hole):
        found = list(trace([labels], CLASSES, frame, level0, min_area_um2=area, min_hole_um2=hole))
        return len(found), sum(len(r.polygon.interiors) for r in found)

    assert [count(2.0, 0.75), count(2.01, 0.75), count(2.0, 0.76)] == [(2, 1), (1, 1), (2, 0)]


@settings(max_examples=100)
@given(cut=cut_maps(), tolerance=st.floats(0.3, 4), filled=st.booleans())
def test_simplified_neighbours_share_their_borders(cut, tolerance, filled):
    labels, bands = cut
    labels, bands = labels + filled, [band + filled for band in bands]
    classes = ClassMap(tuple("abcdef"))
    frame = Frame(labels.shape[1], labels.shape[0], 0.5, 0.7)
    level0 = Frame(labels.shape[1] * 2, labels.shape[0] * 2, 0.21, 0.33)
    regions = list(trace(bands, classes, frame, level0, simplify_um=tolerance))
    again = list(trace([labels], classes, frame, level0, simplify_um=tolerance))
    assert [(r.label, r.polygon.wkb) for r in regions] == [(r.label, r.polygon.wkb) for r in again]
    assert len(regions) == len(list(trace_pixels([labels])))
    assert all(r.polygon.is_valid and not r.polygon.is_empty for r in regions)
    if filled:  # everything touches
        assert shapely.coverage_is_valid(np.array([r.polygon for r in regions]))
        areas = sum(r.polygon.area for r in regions)
        assert areas == pytest.approx(shapely.union_all([r.polygon for r in regions]).area)


def test_simplification_is_in_um_whatever_the_pixels():
    labels = blobs(3, 2)

    def corners(frame, level0, tolerance):
        regions = trace([labels], CLASSES, frame, level0, simplify_um=tolerance)
        return np.concatenate([shapely.get_coordinates(r.polygon) for r in regions])

    fine, coarse, oblong = Frame(33, 40, 0.5), Frame(33, 40, 1.0), Frame(33, 40, 2.0, 0.5)
    wanted = corners(coarse, coarse, 2.0)
    assert len(wanted) < len(corners(coarse, coarse, 1.0))
    np.testing.assert_array_equal(corners(fine, fine, 1.0), wanted)
    np.testing.assert_array_equal(corners(oblong, oblong, 2.0), wanted)
    np.testing.assert_allclose(corners(oblong, Frame(99, 99, 0.3, 0.7), 2.0), wanted * [2.0 / 0.3, 0.5 / 0.7])


def test_what_is_ignored_does_not_hold_objects_together():
    labels = labels_of("110000", "000330", "000000", "200000")
    labels[:, 2] = IGNORE  # touches tubule and vessel, and is complete later than glomerulus
    assert [r.label for r in outlined(labels, simplify_um=0.1)] == ["tubule", "vessel", "glomerulus"]
    labels[:, 2] = 4  # touches them too, and holds them back
    assert [r.label for r in outlined(labels, simplify_um=0.1)] == ["glomerulus", "tubule", "vessel", "nucleus"]


def test_simplified_outlines_have_fewer_corners_and_nearly_the_same_area():
    labels = blobs(7, 6, classes=3, size=(200, 200))
    exact, simple = outlined(labels), outlined(labels, simplify_um=2.0)
    corners = [sum(shapely.get_num_coordinates(r.polygon) for r in regions) for regions in (exact, simple)]
    assert corners[1] < corners[0] / 3
    for label in ("tubule", "glomerulus"):
        areas = [sum(r.polygon.area for r in regions if r.label == label) for regions in (exact, simple)]
        assert areas[1] == pytest.approx(areas[0], rel=0.03)


def test_nothing_to_outline():
    assert list(trace_pixels([])) == []
    assert list(trace_pixels([np.zeros((0, 5), np.uint8)])) == []
    assert list(trace_pixels([np.zeros((5, 0), np.uint8)])) == []
    assert outlined(np.zeros((3, 3), np.uint8), simplify_um=1.0, min_hole_um2=2.0) == []


def test_bands_that_are_no_label_map_are_refused():
    with pytest.raises(GeometryError, match="uint8"):
        list(trace_pixels([np.zeros((2, 2))]))
    with pytest.raises(GeometryError, match="wide"):
        list(trace_pixels([np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)]))
    frame = Frame(4, 4, 1.0)
    with pytest.raises(GeometryError, match="3 rows"):
        list(trace([np.zeros((3, 4), np.uint8)], CLASSES, frame, frame))
    with pytest.raises(GeometryError, match="-1"):
        list(trace([np.zeros((4, 4), np.uint8)], CLASSES, frame, frame, min_area_um2=-1))


def test_a_label_without_a_name_is_refused():
    with pytest.raises(ClassError, match="label 7"):
        outlined(np.full((2, 2), 7, np.uint8))


@pytest.mark.parametrize("mpp", [4.0, 7.3])
def test_outlines_that_people_drew_survive_as_pixels(annotations, mpp):
    outlines = read_annotations(annotations / "qupath-kidney" / "kidney-annotations-1.geojson").polygons
    labels = sorted({r.label for r in outlines if r.label})
    classes = ClassMap(("background", *labels))
    right, bottom = np.ceil(shapely.total_bounds([r.polygon for r in outlines]))[2:]
    level0 = Frame(int(right), int(bottom), 0.5)
    frame = level0.at(mpp)
    drawn = [r for r in outlines if r.label]
    pixels = rasterise(drawn, classes, frame.box, frame, level0)
    assert len(drawn) > 5
    assert (pixels > 0).sum() == pytest.approx(
        shapely.union_all([r.polygon for r in drawn]).area * (0.5 / mpp) ** 2, rel=0.02
    )
    bands = (pixels[y : y + 100] for y in range(0, len(pixels), 100))
    back = list(trace(bands, classes, frame, level0))
    assert all(r.polygon.is_valid for r in back)
    assert (rasterise(back, classes, frame.box, frame, level0) == pixels).all()
