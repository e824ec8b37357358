"""Annotations to labels: the pixel-centre rule, ties, painting order, boxes and scales."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon
from shapely.affinity import scale

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser, rasterise
from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import AnnotationError, ClassError
from wsiseg.geometry import Box, Frame

CLASSES = ClassMap(("background", "tubule", "glomerulus", "vessel"))
FRAME = Frame(40, 30, 0.5)

corner = st.tuples(st.floats(-5, 45, width=32), st.floats(-5, 35, width=32))
half_corner = st.tuples(st.integers(-10, 90), st.integers(-10, 70)).map(lambda p: (p[0] / 2, p[1] / 2))


def paint(*regions, box=FRAME.box, frame=FRAME, level0=FRAME):
    return rasterise([LabelledPolygon(polygon, label) for polygon, label in regions], CLASSES, box, frame, level0)


@st.composite
def stars(draw, points=corner):
    """Valid polygons, convex and not, some with holes."""
    ring = draw(st.lists(points, min_size=3, max_size=9, unique=True))
    shape = shapely.make_valid(Polygon(ring), method="structure", keep_collapsed=False)
    return shape if shape.geom_type in ("Polygon", "MultiPolygon") else Polygon()


def test_pixel_edges_are_kept():
    out = paint((shapely.box(3, 4, 7, 9), "tubule"))
    assert out.dtype == np.uint8
    assert out.shape == (30, 40)
    expected = np.zeros((30, 40), np.uint8)
    expected[4:9, 3:7] = 1
    np.testing.assert_array_equal(out, expected)


def test_a_hole_is_out_and_an_island_in_it_is_in():
    ring = Polygon(shapely.box(0, 0, 12, 12).exterior.coords, [shapely.box(2, 2, 10, 10).exterior.coords])
    out = paint((MultiPolygon([ring, shapely.box(4, 4, 6, 6)]), "vessel"))
    assert (out == 3).sum() == 144 - 64 + 4
    assert out[3, 3] == 0
    assert out[5, 5] == 3


@settings(max_examples=100, deadline=None)
@given(shape=stars())
def test_a_pixel_is_in_where_its_centre_is(shape):
    ys, xs = np.mgrid[0:30, 0:40] + 0.5
    boundary = shapely.distance(shapely.points(xs, ys), shape.boundary if not shape.is_empty else shape) < 1e-9
    inside = shapely.contains_xy(shape, xs, ys)
    out = paint((shape, "tubule")) == 1
    np.testing.assert_array_equal(out[~boundary], inside[~boundary])


@settings(max_examples=100, deadline=None)
@given(corners=st.lists(half_corner, min_size=4, max_size=12, unique=True))
def test_neighbours_share_out_every_pixel_of_a_common_border(corners):
    # Corners on pixel centres and pixel corners: as many ties as can be.
    triangles = [t for t in shapely.delaunay_triangles(shapely.MultiPoint(corners)).geoms if t.area > 0]
    votes = sum((paint((t, "tubule")).astype(int) for t in triangles), np.zeros((30, 40), int))
    assert votes.max(initial=0) <= 1
    ys, xs = np.mgrid[0:30, 0:40] + 0.5
    hull = shapely.union_all(triangles) if triangles else Polygon()
    assert (votes[shapely.contains_properly(hull, shapely.points(xs, ys))] == 1).all()


def test_a_centre_on_the_left_or_top_edge_is_in_and_on_the_right_or_bottom_edge_out():
    out = paint((shapely.box(2.5, 3.5, 5.5, 7.5), "tubule"))
    expected = np.zeros((30, 40), np.uint8)
    expected[3:7, 2:5] = 1
    np.testing.assert_array_equal(out, expected)


def test_the_later_class_wins_whatever_the_order_of_outlines_and_ignore_wins_over_all():
    big, small = shapely.box(0, 0, 20, 20), shapely.box(5, 5, 10, 10)
    hole = (shapely.box(8, 8, 12, 12), "Ignore*")
    for order in ([(big, "tubule"), (small, "vessel"), hole], [hole, (small, "vessel"), (big, "tubule")]):
        out = paint(*order)
        assert (out[0, 0], out[6, 6], out[9, 9], out[11, 11]) == (1, 3, IGNORE, IGNORE)


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(stars(half_corner), min_size=1, max_size=4),
    box=st.builds(Box, st.integers(-8, 40), st.integers(-8, 30), st.integers(0, 30), st.integers(0, 30)),
)
def test_every_box_shows_the_same_pixels(shapes, box):
    regions = [LabelledPolygon(shape, CLASSES.names[1 + i % 3]) for i, shape in enumerate(shapes)]
    painter = Rasteriser(regions, CLASSES, FRAME, FRAME)
    wide = Box(-10, -10, 90, 80)
    np.testing.assert_array_equal(painter.read(box), painter.read(wide)[box.relative_to(wide).slices])


@settings(max_examples=60, deadline=None)
@given(shape=stars(), sx=st.floats(0.3, 9), sy=st.floats(0.3, 9))
def test_level0_scales_along_x_and_y_are_undone(shape, sx, sy):
    level0 = Frame(400, 300, 0.5 / sx, 0.5 / sy)
    buffer = scale(shape, *FRAME.scale_to(level0), origin=(0, 0))
    ys, xs = np.mgrid[0:30, 0:40] + 0.5
    clear = shapely.distance(shapely.points(xs, ys), shape.boundary if not shape.is_empty else shape) > 1e-6
    clear |= np.full(clear.shape, shape.is_empty)
    same = paint((shape, "vessel")) == paint((buffer, "vessel"), level0=level0)
    assert same[clear].all()


def test_nothing_to_paint():
    assert not paint().any()
    assert not paint((Polygon(), "tubule")).any()
    assert paint((shapely.box(0, 0, 9, 9), "tubule"), box=Box(3, 3, 0, 5)).shape == (5, 0)


@pytest.mark.parametrize("label", [None, "tubul"])
def test_an_unknown_class_is_refused(label):
    with pytest.raises(ClassError, match=r"class"):
        paint((shapely.box(0, 0, 1, 1), label))


@pytest.mark.parametrize("shape", [shapely.Point(1, 1), Polygon([(0, 0), (9, 0), (0, float("inf"))])])
def test_what_is_no_finite_polygon_is_refused(shape):
    with pytest.raises(AnnotationError):
        paint((shape, "tubule"))
