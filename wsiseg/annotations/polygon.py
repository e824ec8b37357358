"""Annotations as values, the same for every file format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import shapely
from shapely import MultiPolygon, Polygon

from wsiseg.classes import IGNORED, ClassMap, Colour, joined, states_nothing
from wsiseg.errors import AnnotationError, WsisegError
from wsiseg.geometry import Frame

CORNERS = 2**19  # of the polygons in memory at once; one may have millions, where a map is full of holes

# Channel, z and t of an object that nobody put on a plane of its own: all channels, the only plane, the only time.
FLAT = (-1, 0, 0)


@dataclass(frozen=True, slots=True)
class Details:
    """What a person or a program set on an object besides its polygon, class and numbers.

    Attributes:
        kind: what QuPath takes it for: "annotation", "detection", "cell", "tile" or "tmaCore"; None if nobody said
        name: of the object itself
        locked: whether QuPath protects it from changes
        colour: of the object itself, not of its class
        plane: (channel, z, t), counted from 0; channel -1 means all
        nucleus: of a cell, in level-0 pixels, valid
        metadata: text by key
        other: further properties of the GeoJSON feature, as JSON values
    """

    kind: str | None = None
    name: str | None = None
    locked: bool = False
    colour: Colour | None = None
    plane: tuple[int, int, int] = FLAT
    nucleus: Polygon | MultiPolygon | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)


PLAIN = Details()


@dataclass(frozen=True, slots=True)
class LabelledPolygon:
    """A polygon with a class: an annotation that a person drew, or a predicted object.

    Attributes:
        polygon: valid, in level-0 pixels of the slide's full plane, corner convention: pixel (x, y) covers
            [x, x + 1) × [y, y + 1)
        label: class name; None where its author gave it no class
        score: confidence from 0 to 1; None where nobody stated one
        id: UUID as text; None until the object is written, then derived from its class and polygon
        measurements: name -> finite number; the names carry their units
        details: name, lock, colour, plane and the like
    """

    polygon: Polygon | MultiPolygon
    label: str | None
    score: float | None = None
    id: str | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)
    details: Details = PLAIN

    @property
    def states_nothing(self) -> bool:
        """Whether its class says "no statement", as Ignore* and Region* do."""
        return self.label is not None and states_nothing(self.label)

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """The object as a GeoJSON feature, for shapely, geojson, geopandas and whatever else knows this protocol."""
        from wsiseg.annotations.feature import to_feature

        return dict(to_feature(self))


@dataclass(frozen=True, slots=True)
class Annotations:
    """What a reader found in one file.

    Attributes:
        polygons: in the file's order
        skipped: kind of thing that is not an area ("Point", "LineString", "empty", …) -> how many were left out
        repaired: how many invalid polygons were made valid
        properties: what the file says of its own origin (slide, model, …), empty for most
        colours: class -> the colour that the file gives it
    """

    polygons: tuple[LabelledPolygon, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    repaired: int = 0
    properties: Mapping[str, Any] = field(default_factory=dict)
    colours: Mapping[str, Colour] = field(default_factory=dict)

    @property
    def about(self) -> Mapping[str, Any]:
        """What wsiseg wrote into the file of how it was made; empty for files of other programs."""
        about = self.properties.get("wsiseg")
        return about if isinstance(about, Mapping) else {}

    @property
    def level0(self) -> Frame | None:
        """Level 0 of the slide that the file was made from, where it says so."""
        return Frame.from_json(self.about["level0"]) if "level0" in self.about else None

    @property
    def classes(self) -> ClassMap | None:
        """The classes of the model that made the file, or of both where one worked inside what the other had found;
        None where the file states none."""
        about = self.about
        if not about.get("classes"):
            return None
        own = ClassMap.from_json(about["classes"])
        return joined(ClassMap.from_json(about["first"]["classes"]), own) if "first" in about else own

    def class_map(self, *, stated: bool = True) -> ClassMap:
        """The classes as a map: those that the file states, then all others that its polygons have, from A to Z.

        Args:
            stated: False takes only the classes that polygons have

        Returns:
            in the colours that the file gives them; with a class "Object" where there is none
        """
        known = self.classes if stated else None
        names, ignored = known.names if known else ("Background",), known.ignore_names if known else IGNORED
        silent = ClassMap(("Background", "Object"), ignore_names=ignored) if known is None else known
        names += tuple(sorted({p.label for p in self.polygons if p.label and not silent.ignores(p.label)} - set(names)))
        plain = ClassMap(names if len(names) > 1 else silent.names, ignore_names=ignored)
        given = dict(zip(known.names, known.colours, strict=True)) if known else self.colours
        paint = (given.get(n) or self.colours.get(n, c) for n, c in zip(plain.names, plain.colours, strict=True))
        return ClassMap(plain.names, tuple(paint), ignored)

    def check_origin(self, path: object) -> None:
        """AnnotationError if what the file says of its own making cannot be understood."""
        try:
            _ = self.level0, self.classes
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, WsisegError) as error:
            raise AnnotationError(
                f"{path} is damaged: its `properties` do not tell how wsiseg made it; remove them or export it again."
            ) from error

    def __str__(self) -> str:
        notes = [counted(len(self.polygons), "annotation"), *([f"{self.repaired} repaired"] if self.repaired else ())]
        notes += [f"{n} {kind} skipped" for kind, n in sorted(self.skipped.items())]
        return ", ".join(notes)


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer did.

    Attributes:
        objects: how many are in the file
        repaired: how many of them were invalid, or became so by rounding, and were made valid
        dropped: how many had no area left and are not in the file
        lost: what this format cannot say ("names", "scores", …) -> how many objects had it
    """

    objects: int = 0
    repaired: int = 0
    dropped: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Written) -> Written:
        lost = dict(Counter(self.lost) + Counter(other.lost))
        return Written(self.objects + other.objects, self.repaired + other.repaired, self.dropped + other.dropped, lost)

    def __str__(self) -> str:
        told = ((self.repaired, "repaired"), (self.dropped, "without area dropped"))
        notes = [counted(self.objects, "object"), *(f"{n} {what}" for n, what in told if n)]
        if self.lost:
            notes.append("not in this format: " + ", ".join(f"{n} {what}" for what, n in self.lost.items()))
        return ", ".join(notes)


def counted(number: int, thing: str) -> str:
    """A number of things in plain English."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def batched(polygons: Iterable[LabelledPolygon], most: int) -> Iterator[list[LabelledPolygon]]:
    """Some polygons at a time, in order: at most `most`, and no further one once they have `CORNERS` together."""
    batch: list[LabelledPolygon] = []
    corners = 0
    for polygon in polygons:
        batch.append(polygon)
        corners += int(shapely.get_num_coordinates(polygon.polygon))
        if len(batch) == most or corners >= CORNERS:
            yield batch
            batch, corners = [], 0
    if batch:
        yield batch
