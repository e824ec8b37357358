"""Polygons: the annotations or the predicted objects of one slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, overload

import numpy as np

from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.polygon import Annotations, LabelledPolygon, Written, counted
from wsiseg.api.drawing import plot, table_html
from wsiseg.classes import Colour
from wsiseg.errors import AnnotationError, MissingExtraError
from wsiseg.geometry import Box, Frame


@dataclass(frozen=True, slots=True)
class Polygons(Sequence[LabelledPolygon]):
    """Polygons with classes, in level-0 pixels, as a sequence.

    Attributes:
        items: the polygons, in the order of their file
        slide: path of the slide that they lie on; None where nobody said
        level0: plane of the slide; None where nobody said
        path: the file that they are in; None if there is none
        colours: class -> colour
    """

    items: tuple[LabelledPolygon, ...]
    slide: Path | None = None
    level0: Frame | None = None
    path: Path | None = None
    colours: Mapping[str, Colour] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> LabelledPolygon: ...
    @overload
    def __getitem__(self, index: slice) -> Polygons: ...
    def __getitem__(self, index: int | slice) -> LabelledPolygon | Polygons:
        return self._with(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __iter__(self) -> Iterator[LabelledPolygon]:
        return iter(self.items)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.counts.most_common())
        return f"Polygons({counts or 'none'})"

    def _repr_html_(self) -> str:
        areas = self.areas_um2
        rows = []
        for name, number in self.counts.most_common():
            own = (
                []
                if areas is None
                else [a for a, p in zip(areas, self, strict=True) if (p.label or "no class") == name]
            )
            rows.append((name, number, f"{np.median(own):,.0f} µm²" if len(own) else ""))
        return table_html(counted(len(self), "polygon"), rows, ("class", "number", "median area"))

    @property
    def counts(self) -> Counter[str]:
        """How many there are of each class."""
        return Counter(polygon.label or "no class" for polygon in self)

    @property
    def areas_um2(self) -> np.ndarray | None:
        """(n,) float, areas in µm²; None where the slide's resolution is not known."""
        if self.level0 is None:
            return None
        return np.array([p.polygon.area for p in self]) * self.level0.mpp * self.level0.mpp_y

    def of(self, *names: str) -> Polygons:
        """Those of some classes."""
        return self._with(tuple(p for p in self if p.label in names))

    def plot(self, *, box: Box | None = None, ax: Any = None) -> Any:
        """Draw them over their slide; see `wsiseg.plot`."""
        if self.slide is None:
            raise AnnotationError("Nobody said which slide these polygons lie on: use wsiseg.plot(slide, polygons).")
        return plot(self.slide, self, box=box, colours=self.colours, ax=ax)

    def save(self, path: str | Path) -> Written:
        """Write them as GeoJSON for QuPath, or in another format by the suffix; see `write_annotations`."""
        known = Annotations(self.items, colours=self.colours).class_map()
        return write_annotations(Path(path), self.items, classes=known, frame=self.level0)

    def to_geopandas(self) -> Any:
        """A GeoDataFrame with the columns geometry (level-0 px), class, score, area_um2 and all measurements.

        Raises:
            MissingExtraError: GeoPandas is not installed
        """
        _require("geopandas")
        import geopandas

        columns: dict[str, Any] = {
            "id": [p.id for p in self], "class": [p.label for p in self], "score": [p.score for p in self],
        }  # fmt: skip
        if self.level0 is not None:
            columns["area_um2"] = self.areas_um2
        for name in dict.fromkeys(name for p in self for name in p.measurements):
            columns.setdefault(name, [p.measurements.get(name) for p in self])
        return geopandas.GeoDataFrame(columns, geometry=[p.polygon for p in self])

    def to_spatialdata(self) -> Any:
        """A SpatialData object with the polygons as shapes; its coordinates "global" are level-0 px.

        Raises:
            MissingExtraError: SpatialData is not installed
        """
        _require("spatialdata")
        import spatialdata

        shapes = spatialdata.models.ShapesModel.parse(self.to_geopandas())
        return spatialdata.SpatialData(shapes={"objects": shapes})

    def _with(self, items: tuple[LabelledPolygon, ...]) -> Polygons:
        return Polygons(items, self.slide, self.level0, None, self.colours)


def _require(package: str) -> None:
    """MissingExtraError where a package is not installed that no extra of wsiseg installs."""
    if find_spec(package) is None:
        raise MissingExtraError(
            f"This needs the package {package}, which is not installed: run `pip install {package}`."
        )
