"""The objects of one class or kind on a slide, in µm, and the tables made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsiseg.annotations.canonical import canonical
from wsiseg.annotations.gather import Area
from wsiseg.annotations.geojson_write import ObjectKind
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.geometry import Frame
from wsiseg.measure.column import Column, Table, text
from wsiseg.measure.sample import estimates
from wsiseg.measure.shapes import Numbers, Shapes, equivalent_diameter, in_um, perimeter_and_circularity


@dataclass(frozen=True)
class TissueContext:
    """Where the objects lie.

    Attributes:
        slide: the slide's name
        frame: level 0, the plane of all polygons
        tissue: level-0 pixels
        cortex: level-0 pixels; None if nobody said where it is
    """

    slide: str
    frame: Frame
    tissue: Area
    cortex: Area | None = None

    @cached_property
    def tissue_um(self) -> Area:
        """The tissue in µm."""
        return area_in_um(self.tissue, self.frame)

    @cached_property
    def cortex_um(self) -> Area | None:
        """The cortex in µm, as far as it is tissue."""
        if self.cortex is None:
            return None
        return shapely.intersection(area_in_um(self.cortex, self.frame), self.tissue_um)


@dataclass(frozen=True, slots=True)
class Measured:
    """The tables of one slide, and its objects with their numbers.

    Attributes:
        profile: name of the profile that made them
        tables: name -> table, with the columns that the profile declares
        rows: name of a table of objects -> the place in `polygons` of each of its rows
        polygons: all objects, on the grid of 0.01 px and with the ids of the tables; those in a table carry their
            measurements
        kinds: class -> what QuPath takes it for, where the profile decides that
    """

    profile: str
    tables: dict[str, Table]
    rows: Mapping[str, Sequence[int]]
    polygons: tuple[LabelledPolygon, ...]
    kinds: Mapping[str | None, ObjectKind] = field(default_factory=dict)

    def __getitem__(self, table: str) -> Table:
        return self.tables[table]

    def polygons_of(self, table: str) -> list[LabelledPolygon]:
        """The polygons of the rows of a table of objects."""
        return [self.polygons[i] for i in self.rows[table]]


class Objects:
    """The objects of one table: polygons in pixels and in µm, and the values of each column, computed once.

    Args:
        polygons: on the grid of 0.01 level-0 px and with ids, as `settled` gives them
        columns: what is measured
        place: the slide's plane
        around: whatever else the columns are computed from

    Attributes:
        pixels, um: (n,) shapes
    """

    def __init__(
        self, polygons: Sequence[LabelledPolygon], columns: Iterable[Column], place: TissueContext, around: Any = None
    ) -> None:
        self.polygons, self.place, self.around = polygons, place, around
        self.pixels: Shapes = np.empty(len(polygons), dtype=object)
        self.pixels[:] = [r.polygon for r in polygons]
        self.um = in_um(self.pixels, place.frame)
        self._columns = {column.name: column for column in columns}
        self._values: dict[str, NDArray[Any] | None] = {}

    def __len__(self) -> int:
        return len(self.polygons)

    def values(self, name: str) -> NDArray[Any] | None:
        """(n,) the values of a column; None if it is absent."""
        if name not in self._values:
            self._values[name] = self._columns[name].compute(self)
        return self._values[name]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """(n,) the values of a column that is there."""
        found = self.values(name)
        assert found is not None, f"{name} is absent"
        return found

    @cached_property
    def smooth_outline(self) -> tuple[Numbers, Numbers]:
        """Perimeter in µm and circularity."""
        return perimeter_and_circularity(self.um)

    @cached_property
    def centroids(self) -> Numbers:
        """(n, 2) in µm."""
        return shapely.get_coordinates(shapely.centroid(self.um)).reshape(-1, 2)


class Part:
    """Some of the objects of a table, as a table of their own.

    Args:
        objects: all of them
        chosen: (n,) bool
    """

    def __init__(self, objects: Objects, chosen: NDArray[np.bool_]) -> None:
        self._objects, self._chosen = objects, chosen

    def values(self, name: str) -> NDArray[Any] | None:
        """The values of a column; None if it is absent."""
        found = self._objects.values(name)
        return None if found is None else found[self._chosen]


class Summary:
    """What the columns of a summary are computed from: the objects behind one row. Profiles add what else they need.

    Attributes:
        place: the slide's plane and tissue
        objects: over which sums and means are taken
        used: (n,) bool, the objects that means are over
    """

    def __init__(self, place: TissueContext, objects: Objects | Part, used: NDArray[np.bool_]) -> None:
        self.place, self.objects, self.used = place, objects, used

    def row(self, columns: Iterable[Column], seed: int) -> dict[str, Any]:
        """One row of a summary; columns that compute to None are left out."""
        listed = tuple(columns)
        estimated = estimates({c.name: c.compute for c in listed if c.interval}, self, self.used, seed)
        found: dict[str, Any] = {}
        for column in listed:
            value = estimated.get(column.name) if column.interval else column.compute(self)
            assert value is not None or column.absent, f"{column.name} has no value, and does not say when"
            if value is not None:
                found |= dict(zip(column.names, value if column.interval else (value,), strict=True))
        return found


# Columns of every summary of a slide.
OF_SLIDE = (
    Column("slide", "", "File name of the slide.", lambda s: s.place.slide),
    Column("mpp_x", "µm/px", "Resolution of level 0 along x; all µm come from it.", lambda s: s.place.frame.mpp),
    Column("mpp_y", "µm/px", "The same along y.", lambda s: s.place.frame.mpp_y),
    Column(
        "tissue_area_mm2", "mm²", "Area of the tissue, found in the slide or given with `--tissue`.",
        lambda s: s.place.tissue_um.area / 1e6,
    ),
)  # fmt: skip

# Columns of every table of objects.
SLIDE = Column("slide", "", "File name of the slide.", lambda o: text([o.place.slide] * len(o)))
ID = Column(
    "id", "", "UUID of the object, the same as in GeoJSON; an object without one gets it from its class and shape.",
    lambda o: text(r.id for r in o.polygons),
)  # fmt: skip
LABEL = Column(
    "class", "", "Class of the object.", lambda o: text(r.label for r in o.polygons), empty="the object has no class"
)
AREA = Column(
    "area_um2", "µm²", "Area of the object without its holes.", lambda o: shapely.area(o.um),
    shown="Area µm²", compared=True, averaged=True,
)  # fmt: skip
DIAMETER = Column(
    "equivalent_diameter_um", "µm", "Diameter of the disc of the same area.",
    lambda o: equivalent_diameter(o["area_um2"]), shown="Equivalent diameter µm", compared=True, averaged=True,
)  # fmt: skip
SHAPE = (
    Column(
        "perimeter_um", "µm",
        "Length of the outer outline, smoothed along itself so that pixel steps do not count.",
        lambda o: o.smooth_outline[0], shown="Perimeter µm", compared=True,
    ),
    DIAMETER,
    Column(
        "circularity", "0 to 1", "4π · area / perimeter² of the smoothed outer outline; 1 is a disc.",
        lambda o: o.smooth_outline[1], source="Cox 1927", shown="Circularity", compared=True, averaged=True,
    ),
)  # fmt: skip
PLACE = (
    Column("centroid_x_um", "µm", "Centroid, from the left edge of the slide's level 0.", lambda o: o.centroids[:, 0]),
    Column("centroid_y_um", "µm", "Centroid, from the upper edge.", lambda o: o.centroids[:, 1]),
    Column(
        "score", "0 to 1", "Confidence of the model that outlined the object.",
        lambda o: np.array([np.nan if r.score is None else r.score for r in o.polygons], np.float64),
        empty="the file states none",
    ),
)  # fmt: skip


def settled(polygons: Iterable[LabelledPolygon]) -> list[LabelledPolygon]:
    """Objects as every writer sees them, so that ids and areas are those of the GeoJSON."""
    return [
        replace(polygon, polygon=shape, id=uuid)
        for batch in canonical(polygons)
        for polygon, shape, uuid in zip(batch.polygons, batch.shapes, batch.ids, strict=True)
    ]


def with_measurements(
    polygons: list[LabelledPolygon], rows: Sequence[int], table: Table, columns: Iterable[Column]
) -> None:
    """Put the numbers of a table beside those that the objects had already; a measurement made again wins."""
    shown = {column.shown: table[column.name] for column in columns if column.shown and column.name in table}
    # Version 0.1 said "share": its numbers must not stay beside the new ones.
    old = {name.replace("fraction", "share") for name in shown if "fraction" in name}
    for row, i in enumerate(rows):
        numbers = {name: float(values[row]) for name, values in shown.items()}
        kept = {name: value for name, value in polygons[i].measurements.items() if name not in old}
        polygons[i] = replace(polygons[i], measurements={**kept, **numbers})


def area_in_um(shape: Area, frame: Frame) -> Area:
    """A shape in µm, from pixels of a frame."""
    return in_um(np.array([shape], dtype=object), frame)[0]


def per_area(count: float, area: float) -> float:
    """A number per area; NaN where there is no area."""
    return count / area if area else np.nan


def one_row(row: Mapping[str, Any]) -> Table:
    """A table of one row."""
    return {name: text([value]) if isinstance(value, str) else np.array([value]) for name, value in row.items()}
