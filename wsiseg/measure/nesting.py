"""Which object contains which, by centroids.

`parents` follows QuPath's "Resolve hierarchy" for glomeruli and nuclei: a nucleus belongs to the glomerulus in which its
centroid lies, the border included. Where glomeruli overlap, QuPath inserts annotations from the largest to the smallest,
and each takes what its own parent held (`PathObjectHierarchy`): of glomeruli one within the other the innermost has the
nucleus, of two that overlap in part the larger, of equals the one that comes first in the file. `Nesting` does the same
for objects of any classes, without QuPath's order of insertion: each object lies in the smallest larger one that holds
its centroid.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import STRtree

from wsiseg.measure.shapes import Shapes

NOBODY = -1


def parents(glomeruli: Shapes, nuclei: Shapes) -> NDArray[np.int64]:
    """The glomerulus of each nucleus.

    Args:
        glomeruli: (n,) shapes, in any one plane
        nuclei: (m,) shapes in the same plane

    Returns:
        (m,) place among the glomeruli, or `NOBODY`
    """
    found = np.full(len(nuclei), NOBODY, np.int64)
    if not len(glomeruli) or not len(nuclei):
        return found
    nucleus, glomerulus = STRtree(glomeruli).query(shapely.centroid(nuclei), predicate="intersects")
    alone = np.bincount(nucleus, minlength=len(nuclei)) == 1
    single = alone[nucleus]
    found[nucleus[single]] = glomerulus[single]
    if single.all():
        return found
    rank = np.empty(len(glomeruli), np.int64)
    rank[np.argsort(-shapely.area(glomeruli), kind="stable")] = np.arange(len(glomeruli))
    around = _around(glomeruli, rank)
    for i in np.unique(nucleus[~single]):
        for candidate in sorted(glomerulus[nucleus == i], key=rank.__getitem__):
            if around[candidate] == found[i]:
                found[i] = candidate
    return found


def _around(glomeruli: Shapes, rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the smallest of the larger glomeruli that cover each one, or `NOBODY`."""
    around = np.full(len(glomeruli), NOBODY, np.int64)
    for inner, outer in zip(*STRtree(glomeruli).query(glomeruli, predicate="covered_by"), strict=True):
        if rank[outer] < rank[inner] and (around[inner] == NOBODY or rank[outer] > rank[around[inner]]):
            around[inner] = outer
    return around


class Nesting:
    """Which objects of any classes lie in which.

    An object lies in another one that has another class, is larger, and holds its centroid.

    Args:
        shapes: (n,) in any one plane
        labels: (n,) class of each, as integers
    """

    def __init__(self, shapes: Shapes, labels: NDArray[np.int64]) -> None:
        self.labels, self.area = labels, shapely.area(shapes)
        # The tree holds the points, because shapely prepares the shapes that it asks with.
        outer, inner = STRtree(shapely.centroid(shapes)).query(shapes, predicate="intersects")
        inside = (self.area[outer] > self.area[inner]) & (labels[outer] != labels[inner])
        self._outer, self._inner = outer[inside], inner[inside]

    def parents(self) -> NDArray[np.int64]:
        """(n,) the smallest object that each one lies in, or `NOBODY`."""
        found = np.full(len(self.labels), NOBODY, np.int64)
        order = np.lexsort((-self._outer, -self.area[self._outer]))  # the smallest is written last
        found[self._inner[order]] = self._outer[order]
        return found

    def count(self, label: int) -> NDArray[np.int64]:
        """(n,) how many objects of a class lie in each object."""
        return np.bincount(self._outer[self.labels[self._inner] == label], minlength=len(self.labels))

    def area_of(self, label: int) -> NDArray[np.float64]:
        """(n,) the sum of the areas of the objects of a class that lie in each object."""
        here = self.labels[self._inner] == label
        areas = self.area[self._inner[here]]
        return np.bincount(self._outer[here], areas, minlength=len(self.labels)).astype(np.float64)
