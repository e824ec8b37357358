"""Measurements: numbers that can be worked out by hand, and properties of every polygon."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Point, Polygon, affinity, box

from tests.measure.hierarchy import resolve
from tests.measure.scene import ALL, TISSUE, disc, measured, scene, to_px
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import Rasteriser
from wsiseg.annotations.trace import trace
from wsiseg.classes import ClassMap
from wsiseg.errors import ClassError, GeometryError
from wsiseg.geometry import Box, Frame
from wsiseg.measure import sample
from wsiseg.measure.edges import edge_fraction, tissue_outline
from wsiseg.measure.kidney.roles import ClassRoles, roles_of
from wsiseg.measure.kidney.stereology import K, correction_factor, true_caliper
from wsiseg.measure.nesting import NOBODY, parents
from wsiseg.measure.shapes import equivalent_diameter, in_um, perimeter_and_circularity
from wsiseg.selection.tissue import TissueMask

# --- stereology


def test_the_correction_by_hand() -> None:
    assert true_caliper(6, 3) == pytest.approx(7.5)
    assert correction_factor(7.5, 3) == pytest.approx(2 / 7)
    for thickness in (0, -3, math.nan, math.inf):
        with pytest.raises(GeometryError, match=r"cannot be .* thick"):
            true_caliper(6, thickness)


@given(st.floats(1, 20), st.floats(0.5, 20))
def test_the_caliper_solves_its_equation(d: float, t: float) -> None:
    caliper = float(true_caliper(d, t))
    assert (t + caliper) * d == pytest.approx(t * caliper + K * caliper**2)
    assert caliper > d * 0.99, "a profile is a nucleus or a cap of one"
    assert 0 < correction_factor(caliper, t) < 1


def test_the_corrected_density_is_that_of_the_volume() -> None:
    """Spheres of 7.5 µm thrown into a block at 400 per 10⁶ µm³, seen in a section of 3 µm.

    The stated error is 10 %: 3 % of chance, and 5 % because here not one cap is too small to be seen (k = π/4).
    """
    rng = np.random.default_rng(5)
    diameter, thickness, density, radius = 7.5, 3.0, 400e-6, 70.0
    regions = []
    for x in range(200, 1500, 200):
        for y in range(200, 1500, 200):
            regions.append(disc(x, y, radius))
            count = rng.poisson(density * math.pi * radius**2 * (thickness + diameter))
            angle, far = rng.uniform(0, 2 * math.pi, count), radius * np.sqrt(rng.uniform(0, 1, count))
            depth = np.maximum(0, np.abs(rng.uniform(-1, 1, count) * (thickness + diameter) / 2) - thickness / 2)
            profile = np.sqrt((diameter / 2) ** 2 - depth**2)
            regions += [
                disc(x + f * math.cos(a), y + f * math.sin(a), max(p, 0.2), "Podocyte")
                for a, f, p in zip(angle, far, profile, strict=True)
            ]
    found = measured(regions, thickness_um=thickness)["slides"]
    assert found["mean_podocyte_density_per_1e6_um3"][0] == pytest.approx(400, rel=0.10)
    assert found["mean_uncorrected_density_per_1e6_um3"][0] > 3 * 400, "every profile counted is far too many"
    assert found["caliper_um"][0] == pytest.approx(7.5, rel=0.08)
    low, high = (found[f"mean_podocyte_density_per_1e6_um3_{end}"][0] for end in ("low", "high"))
    assert 0 < high - low < 60


# --- shapes


def test_sizes_by_hand() -> None:
    holed = Polygon(box(200, 200, 400, 300).exterior, [box(250, 220, 270, 240).exterior])
    found = measured([LabelledPolygon(holed, "Glomerulus"), disc(800, 800, 50)], (0.5, 0.25))["glomeruli"]
    assert found["area_um2"][0] == pytest.approx(200 * 100 - 400, abs=0.01)
    assert found["equivalent_diameter_um"][0] == pytest.approx(2 * math.sqrt(19600 / math.pi), rel=1e-6)
    assert found["perimeter_um"] == pytest.approx([600, 100 * math.pi], rel=0.025)
    assert found["circularity"][1] == pytest.approx(1, abs=1e-3)
    assert found["circularity"][0] == pytest.approx(4 * math.pi * 20000 / 600**2, abs=0.03)
    assert found["centroid_x_um"][1] == pytest.approx(800, abs=0.01)
    parts = np.array([MultiPolygon([box(0, 0, 100, 100), box(200, 0, 300, 100)])], dtype=object)
    assert perimeter_and_circularity(parts)[0] == pytest.approx(800, rel=0.04)


@st.composite
def stars(draw: st.DrawFn) -> Polygon:
    """Star-shaped outlines around (0, 0), 0.7 to 1.3 times a radius of 30 to 110 µm."""
    points = draw(st.integers(8, 40))
    radius = draw(st.floats(30, 110)) * np.array(draw(st.lists(st.floats(0.7, 1.3), min_size=points, max_size=points)))
    angle = 2 * math.pi * np.arange(points) / points
    return Polygon(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))


@given(st.lists(stars(), min_size=1, max_size=4), st.data())
@settings(max_examples=40)
def test_no_number_depends_on_the_plane(shapes: list[Polygon], data: st.DataObject) -> None:
    regions: list[LabelledPolygon] = []
    for i, shape in enumerate(shapes):
        x, y = (250, 550, 900, 1250)[i], (230, 1300, 700, 500)[i]
        label = data.draw(st.sampled_from(["Glomerulus", "Sclerotic glomerulus"]))
        regions.append(LabelledPolygon(affinity.translate(shape, x, y), label))
        for k in range(data.draw(st.integers(0, 3))):
            far = math.sqrt(shape.area / math.pi) * (0.3, 0.5, 2.0)[k]  # inside, inside, outside
            regions.append(disc(x + far, y, 3 + k, "Podocyte"))
    mpp = data.draw(st.tuples(*[st.sampled_from([0.125, 0.2503, 0.499, 1.0, 1.7])] * 2))
    one = measured(regions, (0.25, 0.25), thickness_um=3, cortex=box(100, 100, 900, 900))
    other = measured(regions, mpp, thickness_um=3, cortex=box(100, 100, 900, 900))
    for name in ("glomeruli", "podocytes", "slides"):
        for column, values in one.tables[name].items():
            again = other.tables[name][column]
            if column in ("id", "parent", "mpp_x", "mpp_y"):
                continue
            if values.dtype.kind == "f":
                np.testing.assert_allclose(again, values, rtol=0.01, atol=0.02, err_msg=column)
            else:
                assert (again == values).all(), column
    ids, again_ids = (m["glomeruli"]["id"].tolist() for m in (one, other))
    assert [p and ids.index(p) for p in one["podocytes"]["parent"]] == [
        p and again_ids.index(p) for p in other["podocytes"]["parent"]
    ]


@pytest.mark.parametrize("mpp", [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0), (2.0, 2.0), (0.5, 1.0)], ids=str)
def test_pixel_steps_do_not_count(mpp: tuple[float, float]) -> None:
    """The exact edges of pixels, as predictions have them, of shapes whose numbers are known."""
    classes = ClassMap(("Background", "Glomerulus"))
    shapes = [
        Point(200.3, 200.1).buffer(80, 64),
        affinity.rotate(affinity.scale(Point(200, 500).buffer(90), 1, 0.6), 27),
    ]
    frame = Frame(round(400 / mpp[0]), round(700 / mpp[1]), *mpp)
    pixels = Rasteriser([LabelledPolygon(to_px(s, mpp), "Glomerulus") for s in shapes], classes, frame, frame).read(
        frame.box
    )
    traced = [affinity.scale(r.polygon, *mpp, origin=(0, 0)) for r in trace([pixels], classes, frame, frame)]
    assert traced[0].length > 1.2 * shapes[0].length, "a staircase"
    exact = np.array(shapes, dtype=object)
    steps = np.array(traced, dtype=object)
    assert shapely.area(steps) == pytest.approx(shapely.area(exact), rel=0.01)
    assert perimeter_and_circularity(steps)[0] == pytest.approx(shapely.length(exact), rel=0.01)
    assert perimeter_and_circularity(steps)[1] == pytest.approx(perimeter_and_circularity(exact)[1], abs=0.01)


@given(stars())
def test_nothing_is_rounder_than_a_disc(shape: Polygon) -> None:
    perimeter, circularity = perimeter_and_circularity(np.array([shape], dtype=object))
    assert 0 < circularity[0] <= 1 + 1e-9
    assert perimeter[0] <= shape.length * (1 + 1e-9), "smoothing never lengthens"


@pytest.mark.parametrize("mpp", [0.1, 0.25, 0.5])
def test_nuclei_of_pixels_keep_their_diameter(mpp: float) -> None:
    rng, side = np.random.default_rng(0), round(200 / mpp)
    classes, frame = ClassMap(("Background", "Podocyte")), Frame(side, side, mpp)
    centres = 10 + 20 * np.stack(np.divmod(np.arange(81), 9), axis=1) + rng.uniform(size=(81, 2))
    nuclei = [LabelledPolygon(to_px(Point(*centre).buffer(3.5, 32), (mpp, mpp)), "Podocyte") for centre in centres]
    pixels = Rasteriser(nuclei, classes, frame, frame).read(frame.box)
    traced = np.array([r.polygon for r in trace([pixels], classes, frame, frame)], dtype=object)
    assert len(traced) == 81
    assert equivalent_diameter(shapely.area(in_um(traced, frame))).mean() == pytest.approx(7, rel=0.005)


# --- edges


def test_what_the_tissue_cuts() -> None:
    whole, far, chord = Point(500, 500).buffer(80), Point(500, 180 + 25).buffer(80), Point(900, 160).buffer(80)
    shapes = np.array([whole, far, shapely.intersection(chord, TISSUE), Point(1550, 1550).buffer(30)], dtype=object)
    share = edge_fraction(shapes, TISSUE)
    assert share[0] == share[1] == 0, "25 µm of tissue lie between"
    straight, radius = 2 * math.sqrt(80**2 - 60**2), 80  # the chord at y = 100, and arcs up to y = 116
    arc = 2 * radius * (math.asin(60 / 80) - math.asin(44 / 80))
    rest = 2 * radius * (math.pi - math.acos(60 / 80)) + straight
    assert share[2] == pytest.approx((straight + arc) / rest, rel=0.01)
    assert share[3] == 1, "outside the tissue"
    found = measured([LabelledPolygon(s, "Glomerulus") for s in shapes])
    assert found["glomeruli"]["cut"].tolist() == [False, False, True, True]
    assert found["slides"]["cut_glomeruli"] == 2
    hole = shapely.difference(TISSUE, box(560, 300, 700, 700))
    assert edge_fraction(shapes[:1], hole)[0] > 0.1, "a hole is an end, too"


def test_the_slide_and_its_bounds_end_the_tissue() -> None:
    level0 = Frame(1000, 800, 1.0)
    everywhere = TissueMask(np.ones((100, 125), np.bool_), Frame(125, 100, 8.0))
    outline = tissue_outline(everywhere, level0, Box(200, 0, 700, 900))
    assert outline.bounds == (200, 0, 900, 800)
    assert outline.area == 700 * 800
    halves = np.array([Point(200, 400).buffer(80), Point(550, 400).buffer(80)], dtype=object)
    assert (edge_fraction(halves, outline) > 0.1).tolist() == [True, False]


# --- parents


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2), min_size=1, max_size=7),
    st.lists(st.tuples(*[st.integers(0, 24)] * 2), min_size=1, max_size=12),
)
@settings(max_examples=150)
def test_parents_are_those_of_qupath(boxes: list[tuple[int, ...]], centres: list[tuple[int, int]]) -> None:
    annotations = [box(x, y, x + w, y + h) for x, y, w, h in boxes]
    nuclei = [box(x - 1, y - 1, x + 1, y + 1) for x, y in centres]
    found = parents(np.array(annotations, dtype=object), np.array(nuclei, dtype=object))
    assert found.tolist() == resolve(annotations, nuclei)


def test_overlapping_glomeruli() -> None:
    large, inner, beside = box(0, 0, 100, 100), box(10, 10, 30, 30), box(90, 0, 150, 50)
    nuclei = np.array(
        [box(19, 19, 21, 21), box(94, 9, 96, 11), box(99, 199, 101, 201), box(29, 19, 31, 21)], dtype=object
    )
    found = parents(np.array([inner, beside, large], dtype=object), nuclei)
    assert found.tolist() == [0, 2, NOBODY, 0], "the innermost; the larger; nobody; on the border is inside"
    assert parents(np.empty(0, dtype=object), nuclei).tolist() == [NOBODY] * 4


# --- the slide


def test_a_slide_by_hand() -> None:
    found = measured(scene(), thickness_um=3)
    g = found["glomeruli"]
    assert g["class"].tolist() == ["Glomerulus", "Glomerulus", "Sclerotic glomerulus"]
    assert (g["sclerotic"].tolist(), g["cut"].tolist()) == ([False, False, True], [False, True, False])
    assert g["podocytes"].tolist() == [2, 0, 0]
    nuclear = shapely.area([scene()[1].polygon, scene()[4].polygon]).sum()
    assert g["podocyte_nuclear_area_um2"][0] == pytest.approx(nuclear, abs=0.2)
    assert g["podocyte_nuclear_fraction"][0] == pytest.approx(nuclear / g["area_um2"][0], rel=0.01)
    d = 7.0  # the mean of 8 and 6
    factor = 1 / (float(true_caliper(d, 3)) / 3 + 1)
    assert g["podocyte_density_per_1e6_um3"] == pytest.approx(
        [2 * factor / (g["area_um2"][0] * 3) * 1e6, 0, 0], rel=0.01
    )
    assert found["podocytes"]["parent"].tolist() == [g["id"][0], g["id"][0], None]
    s = {name: values[0] for name, values in found["slides"].items()}
    assert s["tissue_area_mm2"] == pytest.approx(1.96)
    assert (s["glomeruli"], s["sclerotic_glomeruli"], s["cut_glomeruli"], s["used_glomeruli"]) == (3, 1, 1, 1)
    assert s["glomeruli_per_mm2"] == pytest.approx(3 / 1.96)
    assert s["sclerotic_fraction"] == pytest.approx(1 / 3)
    assert (s["podocytes"], s["podocytes_outside"], s["mean_podocytes"]) == (2, 1, 2)
    assert s["mean_area_um2"] == pytest.approx(g["area_um2"][0])
    assert s["profile_diameter_um"] == pytest.approx(d, rel=0.01)
    assert np.isnan(s["mean_area_um2_low"]), "one glomerulus does not vary"


def test_what_nobody_looked_for_is_absent_not_none() -> None:
    glomeruli = [r for r in scene() if r.label != "Podocyte"]
    found = measured(glomeruli, names=replace(ALL, podocytes=()), thickness_um=3)
    assert "podocytes" not in found.tables
    assert not [c for t in found.tables.values() for c in t if "podocyte" in c or "density" in c or "thickness" in c]
    found = measured(glomeruli, thickness_um=3)
    assert found["glomeruli"]["podocytes"].tolist() == [0, 0, 0]
    assert found["slides"]["mean_podocyte_density_per_1e6_um3"] == 0
    assert np.isnan(found["slides"]["correction_factor"][0])
    assert not [c for t in measured(scene()).tables.values() for c in t if "density" in c or "correction" in c]


def test_an_empty_slide() -> None:
    found = measured([], tissue=Polygon(), thickness_um=3, cortex=box(0, 0, 9, 9))
    assert found["slides"]["glomeruli"] == found["slides"]["tissue_area_mm2"] == 0
    for name in ("glomeruli_per_mm2", "glomeruli_per_mm2_cortex", "sclerotic_fraction", "mean_area_um2"):
        assert np.isnan(found["slides"][name][0]), name


def test_glomeruli_in_the_cortex() -> None:
    s = measured(scene(), cortex=box(0, 0, 850, 850))["slides"]
    assert s["cortex_area_mm2"] == pytest.approx(0.75**2), "only where there is tissue"
    assert s["glomeruli_per_mm2_cortex"] == pytest.approx(2 / 0.75**2)


class Numbers:
    """Objects with one column, as a sample asks for them."""

    def __init__(self, values: np.ndarray) -> None:
        self.objects = self
        self.column = values

    def values(self, name: str) -> np.ndarray:
        return self.column


def mean_of(values: np.ndarray, seed: int) -> tuple[float, float, float]:
    used = np.ones(len(values), np.bool_)
    return sample.estimates({"x": lambda s: s.mean(s.values("x"))}, Numbers(values), used, seed)["x"]


def test_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).gamma(2, 50, 40)
    drawn = next(sample.draws(np.random.Generator(np.random.PCG64(7)), 40))
    assert (drawn.sum(1) == 40).all(), "as many as there are"
    mean, *ends = mean_of(values, seed=7)
    assert mean == pytest.approx(values.mean())
    about = 1.96 * values.std() / math.sqrt(40)
    assert ends == pytest.approx((values.mean() - about, values.mean() + about), rel=0.05)
    assert mean_of(values, seed=7) == (mean, *ends)
    assert mean_of(values, seed=8) != (mean, *ends)
    monkeypatch.setattr(sample, "AT_ONCE", 333)
    assert mean_of(values, seed=7) == pytest.approx((mean, *ends)), "memory changes nothing"
    assert np.isnan(sample.interval(np.array([np.nan]))[0])
    assert np.isnan(mean_of(values[:1], seed=7)[1]), "one object does not vary"


def test_many_objects_are_drawn_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).gamma(2, 50, 3000)
    monkeypatch.setattr(sample, "MOST_UNITS", 500)
    mean, low, high = mean_of(values, seed=7)
    about = 1.96 * values.std() / math.sqrt(3000)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - about, mean + about), rel=0.01)


# --- names


def test_which_class_is_what() -> None:
    assert roles_of({"Glomerulus", "Sclerotic glomerulus", "Podocyte", "X"}) == ALL
    assert roles_of({"GS", "Glomerulus"}, sclerotic=("GS",)) == ClassRoles(("Glomerulus",), ("GS",))
    assert roles_of(()) == ClassRoles((), ()), "a file without any object"
    with pytest.raises(ClassError, match=r"'Podocyt'.*Did you mean 'Podocyte'"):
        roles_of({"Glomerulus", "Podocyte"}, podocytes=("Podocyt",))
    with pytest.raises(ClassError, match="two roles"):
        roles_of({"Glomerulus"}, glomeruli=("Glomerulus",), sclerotic=("Glomerulus",))
    with pytest.raises(ClassError, match="--glomeruli"):
        roles_of({"Tubule"})
