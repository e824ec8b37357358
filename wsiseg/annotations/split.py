"""Separate objects that touch, such as nuclei: one polygon in, one polygon for each object out.

The middle of an object is where the distance to its border is largest; a watershed of that distance (Beucher and
Lantuéjoul, "Use of watersheds in contour detection", 1979) gives each pixel to one of the middles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from shapely.affinity import affine_transform
from skimage.segmentation import watershed

from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.annotations.rasterise import ANY, covering
from wsiseg.annotations.trace import trace
from wsiseg.geometry import Box, Frame

# Of the box round what is separated. Each takes some 60 bytes, and a model that takes the whole tissue for one object
# must not use up the memory: 700 µm at 0.25 µm/px, 8 mm at 3 µm/px.
LARGEST_PX = 2**23


def split_touching(
    polygons: Iterable[LabelledPolygon], frame: Frame, level0: Frame, radius_um: float
) -> Iterator[LabelledPolygon]:
    """Split polygons into objects; a polygon with one object, or of more than `LARGEST_PX`, stays unchanged.

    Args:
        polygons: in level-0 pixels
        frame: the plane in whose pixels the border between two objects runs
        level0: the plane of the polygons
        radius_um: objects are no nearer to each other than this, from middle to middle, and a middle lies at least
            half as deep

    Yields:
        polygons with the class and score of the one that they are parts of, in level-0 pixels
    """
    (sx, sy), (ux, uy) = level0.scale_to(frame), frame.scale_to(level0)
    for region, covered in covering(polygons, frame, level0):
        left, top, right, bottom = region.polygon.bounds
        box = Box.from_bounds(
            math.floor(left * sx) - 1, math.floor(top * sy) - 1, math.ceil(right * sx) + 1, math.ceil(bottom * sy) + 1
        )
        parts, count = divide(covered(box), radius_um / frame.mpp) if box.area <= LARGEST_PX else (None, 1)
        if parts is None or count < 2:
            yield region
            continue
        for number, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
            part = (parts[rows, columns] == number).astype(np.uint8)
            local = Frame(part.shape[1], part.shape[0], frame.mpp)
            x, y = box.x + columns.start, box.y + rows.start
            for found in trace(iter([part]), ANY, local, local):
                yield replace(region, polygon=affine_transform(found.polygon, [ux, 0, 0, uy, x * ux, y * uy]), id=None)


def divide(inside: NDArray[np.bool_], radius: float) -> tuple[NDArray[np.int32], int]:
    """Number the objects of a mask, (h, w) bool, that are at least `radius` px apart.

    Returns:
        (h, w) int32, 0 outside, and how many objects there are
    """
    depth = ndimage.distance_transform_edt(inside)
    smooth = ndimage.gaussian_filter(depth, max(0.5, radius / 4)) * inside
    peaks, count = ndimage.label(_highest(smooth, (depth >= radius / 2) & inside, radius), np.ones((3, 3)))
    if count < 2:
        return inside.astype(np.int32), int(inside.any())
    parts: NDArray[np.int32] = watershed(-smooth, peaks, mask=inside)  # type: ignore[no-untyped-call]
    return parts, count


def _highest(values: NDArray[np.float64], where: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Where a value is the largest within `radius` px.

    A running maximum over a disc costs as much as the disc is large, at every pixel. Only what is no lower than its
    direct neighbours can be the largest, so only around those few is the whole disc looked at.
    """
    reach = max(1, round(radius))
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    near = x * x + y * y <= radius * radius
    beside = near[reach - 1 : reach + 2, reach - 1 : reach + 2]
    found = where & (values == ndimage.maximum_filter(values, footprint=beside))
    room = np.pad(values, reach, constant_values=-np.inf)
    for r, c in np.argwhere(found):
        found[r, c] = room[r : r + 2 * reach + 1, c : c + 2 * reach + 1][near].max() == values[r, c]
    return found
