"""All measurements of one slide, from its outlines and its tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from wsiseg.annotations.canonical import canonical
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.geometry import Frame
from wsiseg.measure import columns
from wsiseg.measure.edges import edge_share, is_cut
from wsiseg.measure.figures import slide_counts, slide_means
from wsiseg.measure.names import ClassRoles
from wsiseg.measure.parents import NOBODY, parents
from wsiseg.measure.shapes import (
    Numbers,
    Shapes,
    equivalent_diameter,
    in_um,
    perimeter_and_circularity,
)
from wsiseg.measure.stereology import checked_thickness

# Column name -> one value a row: text (None where there is none), whole numbers, booleans, or floats (NaN where none).
Table: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TissueContext:
    """Where the outlines lie.

    Attributes:
        slide: the slide's name
        frame: level 0, in which all outlines are given
        tissue: level-0 pixels
        cortex: level-0 pixels; None if nobody said where it is
    """

    slide: str
    frame: Frame
    tissue: Polygon | MultiPolygon
    cortex: Polygon | MultiPolygon | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The tables of one slide, with the columns of `wsiseg.measure.columns`, and its outlines with their numbers.

    Attributes:
        slides: one row
        glomeruli: one row each, in the order of the outlines
        podocytes: one row each; None if the outlines know no podocyte class
        polygons: all outlines, on the grid of 0.01 px and with the ids of the tables; glomeruli and podocytes carry
            their measurements
    """

    slides: Table
    glomeruli: Table
    podocytes: Table | None
    polygons: tuple[LabelledPolygon, ...]

    def tables(self) -> dict[str, Table]:
        """Name -> table, those that there are."""
        found = {"slides": self.slides, "glomeruli": self.glomeruli}
        return found if self.podocytes is None else found | {"podocytes": self.podocytes}


def measure(
    regions: Sequence[LabelledPolygon],
    place: TissueContext,
    names: ClassRoles,
    *,
    thickness_um: float | None = None,
    seed: int = 0,
) -> Measured:
    """Measure a slide.

    Args:
        regions: in level-0 pixels, of any classes
        place: the slide's plane and tissue
        names: which classes are what
        thickness_um: of the section; without it there are no densities
        seed: of the bootstrap

    Raises:
        GeometryError: no section has this thickness
        AnnotationError: an outline is no polygon or has an impossible name or coordinate
    """
    if thickness_um is not None:
        thickness_um = checked_thickness(thickness_um)
    # As every writer of outlines sees them: then ids and areas are those of the GeoJSON.
    settled = [
        replace(region, polygon=shape, id=uuid)
        for batch in canonical(regions)
        for region, shape, uuid in zip(batch.polygons, batch.shapes, batch.ids, strict=True)
    ]
    tissue = _in_um(place.tissue, place.frame)
    where = [i for i, r in enumerate(settled) if r.label in names.any_glomeruli]
    glomeruli = _Objects([settled[i] for i in where], place)
    table = _glomeruli(glomeruli, tissue, names)
    nuclei_at = [i for i, r in enumerate(settled) if r.label in names.podocytes]
    nuclei = _Objects([settled[i] for i in nuclei_at], place) if names.podocytes else None
    held: NDArray[np.int64] = np.empty(0, np.int64)
    podocytes = None
    if nuclei is not None:
        held = parents(glomeruli.pixels, nuclei.pixels)
        podocytes = _podocytes(nuclei, glomeruli, held)
        _count(table, podocytes, held)
    cortex = None if place.cortex is None else shapely.intersection(_in_um(place.cortex, place.frame), tissue)
    row = slide_counts(tissue, cortex, table) | slide_means(table, podocytes, held, thickness_um, seed)
    if podocytes is not None:
        row |= {"podocytes": int((held != NOBODY).sum()), "podocytes_outside": int((held == NOBODY).sum())}
    if thickness_um is not None and podocytes is not None:
        row["section_thickness_um"] = thickness_um
        bare = table["podocytes"] / (table["area_um2"] * thickness_um) * 1e6
        table["uncorrected_density_per_1e6_um3"] = bare
        table["podocyte_density_per_1e6_um3"] = np.where(bare == 0, 0.0, bare * row["correction_factor"])
    there = {"podocytes": podocytes is not None, "thickness": thickness_um is not None, "cortex": cortex is not None}
    slides = {
        "slide": _text([place.slide]),
        "mpp_x": np.array([place.frame.mpp]),
        "mpp_y": np.array([place.frame.mpp_y]),
    }
    slides |= {name: np.array([value]) for name, value in row.items()}
    _with_measurements(settled, where, table, columns.GLOMERULI)
    if podocytes is not None:
        _with_measurements(settled, nuclei_at, podocytes, columns.PODOCYTES)
        podocytes = _ordered("podocytes", podocytes, there)
    return Measured(
        _ordered("slides", slides, there), _ordered("glomeruli", table, there), podocytes, tuple(settled)
    )  # fmt: skip


class _Objects:
    """Annotations of one kind: level-0 pixels, and µm."""

    def __init__(self, regions: list[LabelledPolygon], place: TissueContext) -> None:
        self.polygons = regions
        self.slide = place.slide
        self.pixels: Shapes = np.empty(len(regions), dtype=object)
        self.pixels[:] = [r.polygon for r in regions]
        self.um = in_um(self.pixels, place.frame)
        self.area: Numbers = shapely.area(self.um)

    def head(self) -> Table:
        return {
            "slide": _text([self.slide] * len(self.polygons)),
            "id": _text([r.id for r in self.polygons]),
            "class": _text([r.label for r in self.polygons]),
            "area_um2": self.area,
        }

    def place(self) -> Table:
        centre = shapely.get_coordinates(shapely.centroid(self.um)).reshape(-1, 2)
        score = np.array([np.nan if r.score is None else r.score for r in self.polygons], np.float64)
        return {"centroid_x_um": centre[:, 0], "centroid_y_um": centre[:, 1], "score": score}


def _glomeruli(objects: _Objects, tissue: Polygon | MultiPolygon, names: ClassRoles) -> Table:
    perimeter, circularity = perimeter_and_circularity(objects.um)
    share = edge_share(objects.um, tissue)
    return objects.head() | {
        "perimeter_um": perimeter,
        "equivalent_diameter_um": equivalent_diameter(objects.area),
        "circularity": circularity,
        "sclerotic": np.array([r.label in names.sclerotic for r in objects.polygons], np.bool_),
        "edge_share": share,
        "cut": is_cut(share),
        **objects.place(),
    }


def _podocytes(nuclei: _Objects, glomeruli: _Objects, held: NDArray[np.int64]) -> Table:
    parent = _text([None if i == NOBODY else glomeruli.polygons[i].id for i in held])
    return nuclei.head() | {
        "parent": parent,
        "equivalent_diameter_um": equivalent_diameter(nuclei.area),
        **nuclei.place(),
    }


def _count(glomeruli: Table, podocytes: Table, held: NDArray[np.int64]) -> None:
    """Add to the glomeruli what they hold."""
    inside, n = held != NOBODY, len(glomeruli["id"])
    area = np.bincount(held[inside], podocytes["area_um2"][inside], minlength=n)
    glomeruli["podocytes"] = np.bincount(held[inside], minlength=n)
    glomeruli["podocyte_nuclear_area_um2"] = area
    glomeruli["podocyte_nuclear_share"] = area / glomeruli["area_um2"]


def _with_measurements(
    regions: list[LabelledPolygon], where: Sequence[int], table: Table, known: tuple[columns.Column, ...]
) -> None:
    """Put the numbers of a table beside those that the outlines had already; a measurement made anew wins."""
    shown = {column.shown: table[column.name] for column in known if column.shown and column.name in table}
    for row, i in enumerate(where):
        numbers = {name: float(values[row]) for name, values in shown.items()}
        regions[i] = replace(regions[i], measurements={**regions[i].measurements, **numbers})


def _ordered(name: str, table: Table, there: Mapping[str, bool]) -> Table:
    wanted = columns.names_of(name, **there)
    assert set(wanted) == set(table), f"{name}: {set(wanted) ^ set(table)}"
    return {column: table[column] for column in wanted}


def _in_um(shape: Polygon | MultiPolygon, frame: Frame) -> Polygon | MultiPolygon:
    return in_um(np.array([shape], dtype=object), frame)[0]


def _text(values: Sequence[str | None]) -> NDArray[Any]:
    text = np.empty(len(values), dtype=object)
    text[:] = values
    return text
