"""Detect blur, pen, folds and air bubbles in a small picture of a slide: pure arrays.

Coloured pen is found in the same way as `wsiseg.selection.tissue` finds it. Black pen lets no colour through and is
wider than anything dark and grey in a section. Both are rules on colour, as in HistoQC (Janowczyk et al., "HistoQC: an
open-source quality control tool for digital pathology slides", JCO Clinical Cancer Informatics 3, 2019). A stroke found
on glass is followed over the tissue, where blue, green and black ink let less red through than any stain.

Where a section is folded the light passes it twice, so that its optical density is twice that of the tissue around,
in every stain alike (Palokangas, Selinummi and Yli-Harja, "Segmentation of folds in tissue section images", EMBC 2007,
who look for what is both darker and more saturated than the rest; Bautista and Yagi, EMBC 2009). A crowd of nuclei is
darker too, but its counterstain is not stronger. So a fold must exceed its surroundings in both: in the mean optical
density, and in how much denser green is than red.

The surface of an air bubble under the coverslip bends light out of the objective's way, so that its rim is dark in
every colour alike, while its inside is about as bright as what lies around it. HistoQC learns air bubbles from
examples; here they are found by a rule on the rim: dark, without colour, thinner than a stroke of pen, hollow, and
along most of its own convex hull.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from shapely import Polygon, convex_hull, multipoints
from skimage.draw import polygon2mask

from wsiseg.selection.masks import Mask, close, reconstruct, remove_small
from wsiseg.selection.tissue import Colours, Um, coloured_inks, most, spread, strokes

# Sharpness (`wsiseg.selection.focus`) below which tissue is surely out of focus, and below which it still counts as
# such when it touches such a place.
BLURRED, SOFT = 1.5, 2.4
BLUR_MIN_UM2 = 20_000.0
# Transmittance of black ink at most, 0 to 1, and how far its channels may differ.
BLACK, BLACK_RIM = (0.45, 0.10), (0.75, 0.16)
INK_RED = 0.40  # transmittance of red below which tissue has blue, green or black ink over it, if a stroke leads there
STROKE_WIDTH_UM = 80.0  # a stroke holds a square of this width
# Optical density as a multiple of that around: surely a fold, and still one when it touches such a place.
FOLDED, FOLD_RIM = 1.65, 1.4
FOLD_AROUND_UM = 200.0
FOLD_MIN_UM2, FOLD_SURE_UM2 = 8_000.0, 2_500.0
FOLD_LONG = 2.5  # length by width, from the second moments: folds are bands
RIM_LIGHT, RIM_COLOUR = 0.6, 0.20  # transmittance of a bubble's rim at most, and how far its channels may differ
RIM_GAP_UM = 40.0  # bridged
BUBBLE_MIN_UM, BUBBLE_LONG = 100.0, 3.0  # least diameter, and length by width at most
ROUND = (0.9, 1.15)  # area of the hull, as a multiple of the ellipse in its rectangle
HOLLOW = 0.75  # dark fraction of the hull at most
AROUND = 0.7  # fraction of the hull's line that is dark at least

RULES: dict[str, Any] = {
    "blur": [BLURRED, SOFT, BLUR_MIN_UM2],
    "fold": [FOLDED, FOLD_RIM, FOLD_MIN_UM2, FOLD_SURE_UM2],
    "fold_shape": [FOLD_AROUND_UM, FOLD_LONG],
    "pen": [*BLACK, *BLACK_RIM, INK_RED, STROKE_WIDTH_UM],
    "bubble": [RIM_LIGHT, RIM_COLOUR, RIM_GAP_UM, STROKE_WIDTH_UM],
    "bubble_shape": [BUBBLE_MIN_UM, BUBBLE_LONG, *ROUND, HOLLOW, AROUND],
}


def blur(sharpness: NDArray[np.float32], um: Um) -> Mask:
    """Where tissue is out of focus: bool (h, w) from `wsiseg.selection.focus.sharpness`, NaN outside the tissue."""
    known = np.isfinite(sharpness)
    value = np.where(known, sharpness, np.inf)
    mask = reconstruct(value < SOFT, value < BLURRED)
    return remove_small(close(mask, 5 * um[1], um) & known, BLUR_MIN_UM2 / (um[0] * um[1]))


def pen(light: Colours, um: Um) -> Mask:
    """Strokes of pen of any colour: bool (h, w) from transmittances (h, w, 3)."""
    brightest, colour = most(light), spread(light)
    black, black_rim = ((brightest < dark) & (colour < grey) for dark, grey in (BLACK, BLACK_RIM))
    ink = strokes([*coloured_inks(light), (_wide(black, um), black_rim)], um)
    over_tissue = _wide(light[..., 0] < INK_RED, um)
    return reconstruct(ink | over_tissue, ink)


def _wide(mask: Mask, um: Um, least: int = 1) -> Mask:
    """Where a stroke's square fits in: no hair, no edge of the coverslip, no few nuclei."""
    return ndimage.binary_opening(mask, np.ones([max(least, round(STROKE_WIDTH_UM / u)) for u in um]))


def folds(light: Colours, tissue: Mask, um: Um) -> Mask:
    """Where a section lies double.

    Args:
        light: (h, w, 3) transmittances, 0 to 1
        tissue: bool (h, w), without pen
        um: µm per px along rows and columns
    """
    depth = -np.log10(np.maximum(light, np.float32(0.02)))
    grey = depth.mean(2)
    counterstain = np.maximum(depth[..., 1] - depth[..., 0], 0)
    excess = np.minimum(_multiple(grey, tissue, um), _multiple(counterstain, tissue, um))
    pixel = um[0] * um[1]
    sure = remove_small(tissue & (excess > FOLDED), FOLD_SURE_UM2 / pixel)
    mask = close(reconstruct(tissue & (excess > FOLD_RIM), sure), 3 * max(um), um)
    return _bands(remove_small(mask, FOLD_MIN_UM2 / pixel), um)


def _multiple(values: NDArray[np.float32], tissue: Mask, um: Um) -> NDArray[np.float32]:
    """Values divided by their mean over the tissue around."""
    sigma = tuple(FOLD_AROUND_UM / u for u in um)
    weight = ndimage.gaussian_filter(tissue.astype(np.float32), sigma)
    mean = ndimage.gaussian_filter(np.where(tissue, values, np.float32(0)), sigma) / np.maximum(weight, 1e-3)
    return values / np.maximum(mean, np.float32(0.03))


def _bands(mask: Mask, um: Um) -> Mask:
    """The connected parts that are longer than wide."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    keep = np.zeros(count + 1, np.bool_)
    for label, place in enumerate(ndimage.find_objects(labels), 1):
        rows, cols = np.nonzero(labels[place] == label)
        narrow, wide = np.linalg.eigvalsh(
            np.cov(np.stack([rows * um[0], cols * um[1]])) + np.eye(2) * um[0] * um[1] / 12
        )
        keep[label] = wide > FOLD_LONG**2 * narrow
    return keep[labels]


def bubbles(light: Colours, um: Um) -> Mask:
    """Bubbles with their rims: bool (h, w) from transmittances (h, w, 3), 0 to 1."""
    rim = (most(light) < RIM_LIGHT) & (spread(light) < RIM_COLOUR)
    rim &= ~_wide(rim, um, least=2)
    rim = close(rim, RIM_GAP_UM, um)
    found = np.zeros(rim.shape, np.bool_)
    parts, _ = ndimage.label(rim, np.ones((3, 3)))
    for label, place in enumerate(ndimage.find_objects(parts), 1):
        if any((s.stop - s.start) * u < BUBBLE_MIN_UM for s, u in zip(place, um, strict=True)):
            continue
        part = parts[place] == label
        hull = convex_hull(multipoints(np.argwhere(part).astype(float)))
        if isinstance(hull, Polygon) and _ring(part, hull, um):
            found[place] |= polygon2mask(part.shape, hull.exterior.coords) | part
    return found


def _ring(part: Mask, hull: Polygon, um: Um) -> bool:
    """Whether the dark pixels are a round, hollow, almost closed line; the hull in (row, column)."""
    pixels = Polygon(np.array(hull.exterior.coords) * um)
    rectangle = np.array(pixels.minimum_rotated_rectangle.exterior.coords)
    sides = sorted(np.hypot(*np.diff(rectangle[:3], axis=0).T))
    if sides[0] < BUBBLE_MIN_UM - 2 * max(um) or sides[1] > BUBBLE_LONG * sides[0]:
        return False
    if not ROUND[0] < pixels.area / (np.pi / 4 * sides[0] * sides[1]) < ROUND[1]:
        return False
    if part.sum() * um[0] * um[1] > HOLLOW * pixels.area:
        return False
    line = hull.exterior
    along = np.array([line.interpolate(d).coords[0] for d in np.arange(0, line.length, 0.5)]).round().astype(int)
    near = ndimage.binary_dilation(part, np.ones((3, 3)))
    return bool(near[along[:, 0], along[:, 1]].mean() >= AROUND)
