"""Agreement: published figures, figures by hand, and how often an interval holds the truth."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import affinity

from tests.annotations.sample import table
from tests.measure.scene import ALL, disc, measured, scene, to_px
from tests.test_cli import refused, run
from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import ClassMap
from wsiseg.evaluation.agreement import Agreement, agreement, concordance
from wsiseg.evaluation.measurements import MeasuredPair, compare_measurements, render_measurements
from wsiseg.measure.objects import Measured

# Peak expiratory flow in l/min by a Wright and by a mini Wright meter, first readings of Bland and Altman (1986).
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_the_example_of_bland_and_altman() -> None:
    """They give a bias of -2.1 (-22.0 to 17.8), s = 38.8, and √(3 s² / n) = 16.3; their limits are bias ± 2 s."""
    found = agreement(MINI, WRIGHT)
    assert found.n == 17
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.bias_interval == pytest.approx((-22.0, 17.8), abs=0.06)
    assert found.lower == pytest.approx(-2.1176 - 1.96 * 38.765, abs=0.01)
    assert found.upper == pytest.approx(-2.1176 + 1.96 * 38.765, abs=0.01)
    for limit, (low, high) in ((found.lower, found.lower_interval), (found.upper, found.upper_interval)):
        assert (high - limit, limit - low) == pytest.approx((2.12 * 16.3, 2.12 * 16.3), abs=0.2)


def test_concordance_by_hand() -> None:
    """x̄ = 2.5, ȳ = 3, s_x² = 1.25, s_y² = 2.5, s_xy = 1.25, all over n: 2.5 / (1.25 + 2.5 + 0.25)."""
    found, interval = concordance(np.array([1.0, 2, 3, 4]), np.array([1.0, 4, 2, 5]))
    assert found == pytest.approx(5 / 8)
    # r² = 0.5, u² = 0.25 / √3.125: Lin's variance of z, term by term
    c, r, u2 = 5 / 8, math.sqrt(0.5), 0.25 / math.sqrt(3.125)
    first = (1 - 0.5) * c**2 / ((1 - c**2) * 0.5)
    second = 2 * c**3 * (1 - c) * u2 / (r * (1 - c**2) ** 2)
    third = c**4 * u2**2 / (2 * 0.5 * (1 - c**2) ** 2)
    about = 1.959964 * math.sqrt((first + second - third) / 2)
    assert interval == pytest.approx((math.tanh(math.atanh(c) - about), math.tanh(math.atanh(c) + about)), rel=1e-6)


@pytest.mark.parametrize(("shift", "r", "scale"), [(0.0, 0.8, 1.0), (0.5, 0.9, 1.3), (1.0, 0.6, 0.7)])
def test_the_interval_of_the_concordance_holds_it_as_often_as_it_says(shift: float, r: float, scale: float) -> None:
    rng = np.random.default_rng(1)
    truth = 2 * r * scale / (1 + scale**2 + shift**2)
    held = 0
    for _ in range(600):
        a, b = rng.normal(size=(2, 60))
        _, interval = concordance(a, shift + scale * (r * a + math.sqrt(1 - r * r) * b))
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert held / 600 == pytest.approx(0.95, abs=0.03)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=30), st.floats(-50, 50))
def test_laws_of_agreement(pairs: list[tuple[float, float]], shift: float) -> None:
    x, y = (np.array(side) for side in zip(*pairs, strict=True))
    one, other = agreement(x, y), agreement(y, x)
    assert one.bias == pytest.approx(-other.bias)
    if one.ccc is not None:
        assert one.ccc == pytest.approx(other.ccc)
        assert abs(one.ccc) <= 1 + 1e-9
    moved = agreement(x, x + shift)
    assert moved.bias == pytest.approx(shift, abs=1e-9)
    assert moved.sd == pytest.approx(0, abs=1e-9)
    again = agreement(x, x)
    assert again.ccc is None or again.ccc == pytest.approx(1)


def test_what_cannot_be_said_is_not_said() -> None:
    assert agreement([], []) == Agreement(0)
    assert agreement([1, math.nan], [3, 4]) == Agreement(1, 1, 3, bias=2)
    assert agreement([5, 5, 5], [5, 5, 5]).ccc is None, "nothing varies"
    assert agreement([5, 5, 5, 5], [1, 2, 3, 4]).ccc == 0
    assert agreement([1, 2, 3, 4], [1, 2, 3, 4]).ccc_interval is None
    assert agreement([0.1] * 7, [0.1 + 1e-17] * 7).ccc is None, "rounding is no variation"


def pair_of(reference: Measured, said: Measured) -> MeasuredPair:
    return MeasuredPair.of(reference, said)


def larger(regions: list[LabelledPolygon], times: float) -> list[LabelledPolygon]:
    return [replace(r, polygon=affinity.scale(r.polygon, times, times)) for r in regions]


def test_glomeruli_and_slides_are_compared() -> None:
    glomeruli = [disc(x, 700, r) for x, r in ((300, 50), (600, 70), (900, 90), (1200, 60))]
    said = [*larger(glomeruli, 1.1)[:3], disc(1300, 1300, 60)]  # one missed, one unmatched
    nuclei = [disc(300, 700, 4, "Podocyte"), disc(600, 700, 4, "Podocyte")]
    one = pair_of(measured(glomeruli + nuclei, thickness_um=3), measured(said + nuclei[:1], thickness_um=3))
    other = pair_of(measured(scene(), thickness_um=3), measured(scene(), thickness_um=3))
    result = compare_measurements([one])
    assert result["matched"] == {"found": 3, "missed": 1, "unmatched": 1}
    areas = np.pi * np.array([50, 70, 90]) ** 2
    area = result["glomeruli"]["area_um2"]
    assert area["n"] == 3
    assert area["bias"] == pytest.approx((0.21 * areas).mean(), rel=0.01)
    assert area["sd"] == pytest.approx((0.21 * areas).std(ddof=1), rel=0.01)
    assert result["glomeruli"]["podocytes"]["bias"] == pytest.approx(-1 / 3)
    assert result["slides"]["glomeruli"] == Agreement(1, 4, 4, bias=0).to_json()
    both = compare_measurements([one, other])
    assert both["matched"] == {"found": 6, "missed": 1, "unmatched": 1}
    assert both["slides"]["podocytes"]["n"] == 2
    assert both["slides"]["podocytes"]["bias"] == pytest.approx(-0.5)
    json.dumps(both, allow_nan=False)
    text = render_measurements(both)
    assert "over 6 matched glomeruli" in text
    assert len([line for line in text.splitlines() if line.startswith("area_um2")]) == 1


def test_what_only_one_side_knows_is_not_compared() -> None:
    blind = measured([r for r in scene() if r.label != "Podocyte"], names=replace(ALL, podocytes=()))
    result = compare_measurements([pair_of(measured(scene()), blind)])
    assert "area_um2" in result["glomeruli"]
    assert not [name for over in ("glomeruli", "slides") for name in result[over] if "podocyte" in name]
    nothing = compare_measurements([pair_of(measured(scene()), measured([]))])
    assert nothing["glomeruli"]["area_um2"]["n"] == 0
    assert "–" in render_measurements(nothing)


def test_the_command(tmp_path: Path) -> None:
    from wsiseg.pictures import save_picture

    pixels = np.full((400, 400, 3), 245, np.uint8)
    pixels[25:375, 25:375] = (200, 130, 170)
    save_picture(tmp_path / "a.png", pixels)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    classes = ClassMap(("Background", "Artery", "Glomerulus", "Podocyte", "Sclerotic glomerulus"))
    regions = [replace(r, polygon=to_px(r.polygon, (4.0, 4.0))) for r in scene()]
    write_annotations(tmp_path / "truth.geojson", regions, classes=classes)
    write_annotations(tmp_path / "said.geojson", larger(regions, 1.05), classes=classes)
    slides = [word for name in "ab" for word in ("--slide", f"{name}.png")]
    files = ["--truth", "truth.geojson", "--prediction", "said.geojson"]
    done = run(
        "evaluate", *slides, *files, *files, "--mpp", 4, "--resolution", 4, "--measurements", "--thickness-um", 3,
        "--csv", "agreement.csv", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["slides"]) == ["a.png", "b.png"]
    rows = {(row["over"], row["measurement"]): row for row in table(tmp_path / "agreement.csv")}
    area = result["measurements"]["glomeruli"]["area_um2"]
    assert area["n"] == 6
    assert float(rows["glomeruli", "area_um2"]["bias"]) == pytest.approx(area["bias"])
    assert float(rows["glomeruli", "area_um2"]["bias_low"]) == pytest.approx(area["bias_interval"][0])
    assert rows["slides", "glomeruli"]["ccc"] == "", "it does not vary"
    assert "once for each" in refused("evaluate", *slides, *files, "--mpp", 4, cwd=tmp_path)
    assert "add --measurements" in refused("evaluate", *slides[:2], *files, "--csv", "b.csv", cwd=tmp_path)
