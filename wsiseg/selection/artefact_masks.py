"""Detect blur, pen and folds in a small picture of a slide: pure arrays.

Coloured pen is found in the same way as `wsiseg.selection.tissue` finds it. Black pen lets no colour through and is
wider than anything dark and grey in a section. Both are rules on colour, as in HistoQC (Janowczyk et al., "HistoQC: an
open-source quality control tool for digital pathology slides", JCO Clinical Cancer Informatics 3, 2019). A stroke found
on glass is followed over the tissue, where blue, green and black ink let less red through than any stain.

Where a section is folded the light passes it twice, so that its optical density is twice that of the tissue around,
in every stain alike (Palokangas, Selinummi and Yli-Harja, "Segmentation of folds in tissue section images", EMBC 2007,
who look for what is both darker and more saturated than the rest; Bautista and Yagi, EMBC 2009). A crowd of nuclei is
darker too, but its counterstain is not stronger. So a fold must exceed its surroundings in both: in the mean optical
density, and in how much denser green is than red.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsiseg.selection.masks import Mask, close, dilate, reconstruct, remove_small
from wsiseg.selection.tissue import PEN_MIN_UM2, PEN_REACH_UM, SMOOTH_UM, Colours, coloured_pen, most, spread

Um = tuple[float, float]  # µm per px along rows and columns

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

RULES: dict[str, Any] = {
    "blur": [BLURRED, SOFT, BLUR_MIN_UM2],
    "fold": [FOLDED, FOLD_RIM, FOLD_MIN_UM2, FOLD_SURE_UM2],
    "fold_shape": [FOLD_AROUND_UM, FOLD_LONG],
    "pen": [*BLACK, *BLACK_RIM, INK_RED, STROKE_WIDTH_UM],
}


def blur(sharpness: NDArray[np.float32], um: Um) -> Mask:
    """Where tissue is out of focus: bool (h, w) from `wsiseg.selection.focus.sharpness`, NaN outside the tissue."""
    known = np.isfinite(sharpness)
    value = np.where(known, sharpness, np.inf)
    mask = reconstruct(value < SOFT, value < BLURRED)
    return remove_small(close(mask, 5 * um[1], um) & known, BLUR_MIN_UM2 / (um[0] * um[1]))


def pen(light: Colours, um: Um) -> Mask:
    """Strokes of pen of any colour: bool (h, w) from transmittances (h, w, 3)."""
    ink = coloured_pen(light, um) | _black_pen(light, um)
    over_tissue = _wide(light[..., 0] < INK_RED, um)
    return reconstruct(ink | over_tissue, ink)


def _black_pen(light: Colours, um: Um) -> Mask:
    brightest, colour = most(light), spread(light)
    sure = (brightest < BLACK[0]) & (colour < BLACK[1])
    core = remove_small(_wide(sure, um), PEN_MIN_UM2 / (um[0] * um[1]))
    if not core.any():
        return core
    rim = (brightest < BLACK_RIM[0]) & (colour < BLACK_RIM[1])
    near = dilate(core, PEN_REACH_UM, um)
    return dilate(reconstruct((rim | core) & near, core), 2 * SMOOTH_UM, um)


def _wide(mask: Mask, um: Um) -> Mask:
    """Where a stroke's square fits in: no hair, no edge of the coverslip, no few nuclei."""
    size = [max(1, round(STROKE_WIDTH_UM / u)) for u in um]
    return ndimage.binary_opening(mask, np.ones(size))


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
