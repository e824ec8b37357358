"""Measure the glomeruli and podocytes of one slide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from wsiseg.annotations.geojson_write import ObjectKind
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.measure.column import Table, tabulated
from wsiseg.measure.kidney.columns import GLOMERULI, PODOCYTES, SLIDES
from wsiseg.measure.kidney.roles import ClassRoles
from wsiseg.measure.kidney.stereology import checked_thickness
from wsiseg.measure.nesting import NOBODY, parents
from wsiseg.measure.objects import (
    Measured,
    Objects,
    Summary,
    TissueContext,
    one_row,
    settled,
    with_measurements,
)  # fmt: skip
from wsiseg.measure.sample import Sample


class Kidney(Summary):
    """Glomeruli and podocytes of one slide; all columns of the profile are computed from it.

    Attributes:
        roles: which classes are what
        glomeruli, podocytes: the objects; podocytes None if nobody looked for any
        held: (podocytes,) place among the glomeruli, or `NOBODY`
        thickness_um: of the section; None if nobody stated it
    """

    def __init__(
        self, polygons: Sequence[LabelledPolygon], nuclei: Sequence[LabelledPolygon] | None, place: TissueContext,
        roles: ClassRoles, thickness_um: float | None,
    ) -> None:  # fmt: skip
        self.roles, self.thickness_um = roles, thickness_um
        self.glomeruli = Objects(polygons, GLOMERULI, place, self)
        self.podocytes = None if nuclei is None else Objects(nuclei, PODOCYTES, place, self)
        self.held: NDArray[np.int64] = np.empty(0, np.int64)
        if self.podocytes is not None:
            self.held = parents(self.glomeruli.pixels, self.podocytes.pixels)
        used = ~self.glomeruli["sclerotic"] & ~self.glomeruli["cut"]
        super().__init__(place, self.glomeruli, used)

    def sums_of_podocytes(self, name: str | None = None) -> NDArray[np.float64] | NDArray[np.int64] | None:
        """(glomeruli,) the sum of a column over the podocytes that each one holds, or their number.

        None if nobody looked for podocytes.
        """
        if self.podocytes is None:
            return None
        inside = self.held != NOBODY
        values = None if name is None else self.podocytes[name][inside]
        return np.bincount(self.held[inside], values, minlength=len(self.glomeruli))

    def density(self) -> NDArray[np.float64] | None:
        """(glomeruli,) profiles per 10⁶ µm³; None without podocytes or thickness."""
        podocytes = self.glomeruli.values("podocytes")
        if podocytes is None or self.thickness_um is None:
            return None
        found: NDArray[np.float64] = podocytes / (self.glomeruli["area_um2"] * self.thickness_um) * 1e6
        return found

    def sample(self) -> Sample:
        """Every glomerulus once."""
        return Sample(self, self.used, np.ones((1, len(self.used))))

    def in_cortex(self) -> int:
        """Number of glomeruli with their centroid in the cortex."""
        return int(shapely.intersects_xy(self.place.cortex_um, *self.glomeruli.centroids.T).sum())


def measure_kidney(
    polygons: Sequence[LabelledPolygon],
    place: TissueContext,
    roles: ClassRoles,
    *,
    thickness_um: float | None = None,
    seed: int = 0,
) -> Measured:
    """Measure the glomeruli and podocytes of a slide.

    Args:
        polygons: in level-0 pixels, of any classes
        place: the slide's plane, tissue and cortex
        roles: which classes are what
        thickness_um: of the section; without it there are no densities
        seed: of the bootstrap

    Raises:
        GeometryError: no section has this thickness
        AnnotationError: an object is not a polygon or has an impossible name or coordinate
    """
    if thickness_um is not None:
        checked_thickness(thickness_um)
    everything = settled(polygons)
    rows = {"glomeruli": [i for i, r in enumerate(everything) if r.label in roles.any_glomeruli]}
    nuclei = None
    if roles.podocytes:
        rows["podocytes"] = [i for i, r in enumerate(everything) if r.label in roles.podocytes]
        nuclei = [everything[i] for i in rows["podocytes"]]
    kidney = Kidney([everything[i] for i in rows["glomeruli"]], nuclei, place, roles, thickness_um)
    tables: dict[str, Table] = {"slides": one_row(kidney.row(SLIDES, seed))}
    for name, columns, objects in (
        ("glomeruli", GLOMERULI, kidney.glomeruli), ("podocytes", PODOCYTES, kidney.podocytes),
    ):  # fmt: skip
        if objects is not None:
            tables[name] = tabulated(columns, objects)
            with_measurements(everything, rows[name], tables[name], columns)
    # QuPath's "Resolve hierarchy" goes by the centroid for detections alone.
    kinds: dict[str | None, ObjectKind] = dict.fromkeys(roles.any_glomeruli, "annotation")
    kinds |= dict.fromkeys(roles.podocytes, "detection")
    return Measured("kidney", tables, rows, tuple(everything), kinds)
