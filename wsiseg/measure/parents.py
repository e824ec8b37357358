"""Which glomerulus holds which nucleus, as QuPath's "Resolve hierarchy" sees it.

A nucleus belongs to the glomerulus in which its centroid lies, the border included. Where glomeruli overlap, QuPath
inserts annotations from the largest to the smallest; each takes what its own parent held (`PathObjectHierarchy`):
of glomeruli one within the other the innermost has the nucleus, of two that overlap in part the larger, of equals the
one that comes first in the file.
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
