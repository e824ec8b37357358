"""Tissue on glass of any tint, and what has colour without being tissue: pen, and the rim of a coverslip."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tests.selection.test_tissue import biopsy, dice, marked, plane
from wsiseg.selection.tissue import find_tissue

Picture = NDArray[np.uint8]
# Clean, yellowed, greenish, bluish and pinkish glass, dim glass, and mounting medium gone brown.
GLASS = (
    (245, 245, 245),
    (240, 236, 228),
    (243, 235, 215),
    (240, 228, 196),
    (228, 240, 226),
    (224, 234, 244),
    (244, 230, 240),
    (205, 198, 186),
    (236, 214, 190),
)
# Transmittances at full strength: eosin, haematoxylin and eosin, PAS, DAB, silver on a green counterstain, trichrome.
STAINS = {
    "eosin": (0.90, 0.55, 0.75),
    "h&e": (0.62, 0.42, 0.68),
    "pas": (0.80, 0.40, 0.66),
    "dab": (0.62, 0.45, 0.30),
    "silver": (0.50, 0.52, 0.45),
    "blue": (0.45, 0.60, 0.85),
}


def section(glass: tuple[int, int, int], stain: str, strength: float = 1.0) -> tuple[Picture, NDArray[np.bool_]]:
    """(300, 400, 3) at 8 µm/px: an ellipse of textured tissue on glass, with the noise of a scanner; and where it is."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:300, :400]
    core = ((x - 190) / 140) ** 2 + ((y - 150) / 60) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.standard_normal((300, 400)), 1.5) * 2
    amount = np.where(core, np.clip(0.9 + 0.3 * texture, 0.4, 1.5), 0) * strength
    light = np.array(glass) * np.array(STAINS[stain]) ** amount[..., None]
    return (light + rng.normal(0, 1.5, light.shape)).clip(0, 255).astype(np.uint8), core


@pytest.mark.parametrize("glass", GLASS)
@pytest.mark.parametrize("stain", [s for s in STAINS if s != "silver"])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_any_stain_on_any_glass(glass: tuple[int, int, int], stain: str, strength: float) -> None:
    picture, core = section(glass, stain, strength)
    assert dice(find_tissue(picture, plane(picture)), core) > 0.96


@pytest.mark.parametrize("glass", GLASS)
@pytest.mark.parametrize("noise", [0, 1.5, 3])
def test_a_slide_of_glass_has_no_tissue(glass: tuple[int, int, int], noise: float) -> None:
    picture = np.array(glass) + np.random.default_rng(2).normal(0, noise, (200, 300, 3))
    assert not find_tissue(picture.clip(0, 255).astype(np.uint8), plane(picture)).any()


@pytest.mark.parametrize("light", [-6.0, 6.0])
def test_unevenly_lit_glass_has_no_tissue(light: float) -> None:
    ramp = np.linspace(0, light, 300)[None, :, None]
    picture = np.array((240, 236, 228)) + ramp + np.random.default_rng(2).normal(0, 1, (200, 300, 3))
    assert not find_tissue(picture.clip(0, 255).astype(np.uint8), plane(picture)).any()


@pytest.mark.parametrize("stain", [s for s in STAINS if s != "silver"])
def test_a_slide_of_tissue_is_all_tissue(stain: str) -> None:
    rng = np.random.default_rng(5)
    amount = np.clip(1 + 0.6 * ndimage.gaussian_filter(rng.standard_normal((200, 300)), 1.5), 0.5, 1.5)
    picture = (245 * np.array(STAINS[stain]) ** amount[..., None]).astype(np.uint8)
    assert find_tissue(picture, plane(picture)).all()


@pytest.mark.parametrize("colour", [(235, 190, 215), (200, 130, 180), (150, 110, 170)])
def test_even_tissue_without_any_glass(colour: tuple[int, int, int]) -> None:
    picture = np.array(colour) + np.random.default_rng(2).normal(0, 1, (200, 300, 3))
    assert find_tissue(picture.clip(0, 255).astype(np.uint8), plane(picture)).all()


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_a_pale_section(fraction: float) -> None:
    """Also where there is more of it than of glass: it is pinker than what is brighter."""
    picture = np.full((200, 300, 3), 245.0)
    core = np.zeros((200, 300), np.bool_)
    core[:, : round(300 * fraction)] = True
    picture[core] = (240, 230, 238)
    picture += np.random.default_rng(2).normal(0, 1, picture.shape)
    found = find_tissue(picture.clip(0, 255).astype(np.uint8), plane(picture))
    assert dice(found, core) > 0.97


def test_faint_specks_are_none() -> None:
    picture = np.full((200, 300, 3), 245.0)
    picture[50:70, 50:70] = (240, 230, 238)  # 0.026 mm²
    assert not find_tissue(picture.astype(np.uint8), plane(picture)).any()


@pytest.mark.parametrize("width", [3, 8, 20])
@pytest.mark.parametrize("tilt", [0.0, 0.05])
def test_the_brown_rim_of_a_coverslip(width: int, tilt: float) -> None:
    picture, core = biopsy()
    y, x = np.mgrid[:300, :400]
    rim = np.abs(x - 30 - tilt * y) < width / 2
    rim |= np.abs(y - 280 - tilt * x / 4) < width / 2
    picture[rim] = (picture[rim] * (0.62, 0.48, 0.30)).astype(np.uint8)
    found = find_tissue(picture, plane(picture))
    assert (found & ndimage.binary_dilation(rim, iterations=8)).sum() < 0.02 * rim.sum()
    assert dice(found, core & ~rim) > 0.97


def test_thin_brown_tissue_is_no_rim() -> None:
    """A needle biopsy in DAB: wider than a rim, and never so straight."""
    picture = np.full((300, 400, 3), 240.0)
    y, x = np.mgrid[:300, :400]
    core = np.abs(y - 150 - 30 * np.sin(x / 40)) < 35
    picture[core] *= STAINS["dab"]
    assert dice(find_tissue(picture.astype(np.uint8), plane(picture)), core) > 0.97


@pytest.mark.parametrize("glass", [(236, 238, 237), (243, 235, 215)])
def test_violet_pen(glass: tuple[int, int, int]) -> None:
    picture, core = biopsy(glass)
    picture, stroke = marked(picture, "violet")
    far = ~ndimage.binary_dilation(core, iterations=6)
    found = find_tissue(picture, plane(picture))
    assert (found & stroke & far).sum() <= 0.02 * (stroke & far).sum()
    clear = core & ~ndimage.binary_dilation(stroke, iterations=6)
    assert (found & clear).sum() >= 0.99 * clear.sum()


def test_dense_lymphoid_tissue_is_no_violet_pen() -> None:
    """The densest of a real lymph node lets (0.39, 0.24, 0.66) through."""
    picture = np.full((300, 400, 3), 240.0)
    core = np.zeros((300, 400), np.bool_)
    core[60:220, 80:300] = True
    picture[core] *= (0.39, 0.24, 0.66)
    assert dice(find_tissue(picture.astype(np.uint8), plane(picture)), core) > 0.97
