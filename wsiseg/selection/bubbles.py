"""Detect air bubbles under the coverslip, dark and almost closed rims, in a small picture: pure arrays.

The surface of a bubble bends light out of the objective's way, so that its rim is dark in every colour alike, while its
inside is about as bright as what lies around it. Air bubbles are among the artefacts that HistoQC looks for (Janowczyk
et al., JCO Clinical Cancer Informatics 3, 2019), by examples; here it is a rule on the rim: dark, without colour,
thinner than a stroke of pen, hollow, and along most of its own convex hull.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from shapely import Polygon, convex_hull, multipoints
from skimage.draw import polygon2mask

from wsiseg.selection.masks import Mask, close
from wsiseg.selection.tissue import Colours, most, spread

RIM_LIGHT, RIM_COLOUR = 0.6, 0.20  # transmittance of a rim at most, and how far its channels may differ
RIM_GAP_UM = 40.0  # bridged
RIM_WIDTH_UM = 80.0  # a stroke of pen is wider
LEAST_UM, LONGEST = 100.0, 3.0  # least diameter, and length by width
ROUND = (0.9, 1.15)  # area of the hull, as a multiple of the ellipse in its rectangle
HOLLOW = 0.75  # dark fraction of the hull at most
AROUND = 0.7  # fraction of the hull's line that is dark at least

RULES: dict[str, Any] = {
    "bubble": [RIM_LIGHT, RIM_COLOUR, RIM_GAP_UM, RIM_WIDTH_UM],
    "bubble_shape": [LEAST_UM, LONGEST, *ROUND, HOLLOW, AROUND],
}

Um = tuple[float, float]  # µm per px along rows and columns


def bubbles(light: Colours, um: Um) -> Mask:
    """Bubbles with their rims: bool (h, w) from transmittances (h, w, 3), 0 to 1."""
    rim = (most(light) < RIM_LIGHT) & (spread(light) < RIM_COLOUR)
    rim &= ~ndimage.binary_opening(rim, np.ones([max(2, round(RIM_WIDTH_UM / u)) for u in um]))
    rim = close(rim, RIM_GAP_UM, um)
    found = np.zeros(rim.shape, np.bool_)
    parts, _ = ndimage.label(rim, np.ones((3, 3)))
    for label, place in enumerate(ndimage.find_objects(parts), 1):
        if any((s.stop - s.start) * u < LEAST_UM for s, u in zip(place, um, strict=True)):
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
    if sides[0] < LEAST_UM - 2 * max(um) or sides[1] > LONGEST * sides[0]:
        return False
    if not ROUND[0] < pixels.area / (np.pi / 4 * sides[0] * sides[1]) < ROUND[1]:
        return False
    if part.sum() * um[0] * um[1] > HOLLOW * pixels.area:
        return False
    line = hull.exterior
    along = np.array([line.interpolate(d).coords[0] for d in np.arange(0, line.length, 0.5)]).round().astype(int)
    near = ndimage.binary_dilation(part, np.ones((3, 3)))
    return bool(near[along[:, 0], along[:, 1]].mean() >= AROUND)
