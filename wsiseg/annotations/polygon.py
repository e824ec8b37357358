"""Vector outlines, the same for every file format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import shapely
from shapely import MultiPolygon, Polygon

from wsiseg.classes import ClassMap, joined

CORNERS = 2**19  # of the outlines in memory at once; one may have millions, where a map is full of holes


@dataclass(frozen=True, slots=True)
class LabelledPolygon:
    """One outlined object.

    Attributes:
        polygon: valid, in level-0 pixels of the slide's full plane, corner convention: pixel (x, y) covers
            [x, x + 1) × [y, y + 1)
        label: class name; None for an outline that its author left without a class
        score: confidence from 0 to 1; None where nobody stated one
        id: UUID as text; None until the object is written, then derived from its class and outline
        measurements: name -> finite number; the names carry their units
    """

    polygon: Polygon | MultiPolygon
    label: str | None
    score: float | None = None
    id: str | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Annotations:
    """What a reader found in one file.

    Attributes:
        polygons: in the file's order
        skipped: kind of thing that is no area ("Point", "LineString", "empty", …) -> how many were left out
        repaired: how many invalid polygons were made valid
        properties: what the file says of its own origin (slide, model, …), empty for most
    """

    polygons: tuple[LabelledPolygon, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    repaired: int = 0
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> ClassMap | None:
        """The classes of the model that made the file, or of both where one worked inside what the other had found;
        None where the file states none."""
        about = self.properties.get("wsiseg")
        if not isinstance(about, Mapping) or not about.get("classes"):
            return None
        own = ClassMap.from_json(about["classes"])
        return joined(ClassMap.from_json(about["first"]["classes"]), own) if "first" in about else own

    def __str__(self) -> str:
        notes = [f"{len(self.polygons)} outlines"]
        if self.repaired:
            notes.append(f"{self.repaired} repaired")
        notes += [f"{n} {kind} skipped" for kind, n in sorted(self.skipped.items())]
        return ", ".join(notes)


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer did.

    Attributes:
        objects: how many are in the file
        repaired: how many of them were invalid, or became so by rounding, and were made valid
        dropped: how many had no area left and are not in the file
    """

    objects: int = 0
    repaired: int = 0
    dropped: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.objects + other.objects, self.repaired + other.repaired, self.dropped + other.dropped)

    def __str__(self) -> str:
        notes = [f"{self.objects} outlines"]
        if self.repaired:
            notes.append(f"{self.repaired} repaired")
        if self.dropped:
            notes.append(f"{self.dropped} without area dropped")
        return ", ".join(notes)


def batched(polygons: Iterable[LabelledPolygon], most: int) -> Iterator[list[LabelledPolygon]]:
    """Some polygons at a time, in order: at most `most`, and no further one once they have `CORNERS` together."""
    bunch: list[LabelledPolygon] = []
    corners = 0
    for region in polygons:
        bunch.append(region)
        corners += int(shapely.get_num_coordinates(region.polygon))
        if len(bunch) == most or corners >= CORNERS:
            yield bunch
            bunch, corners = [], 0
    if bunch:
        yield bunch
