"""Write annotations as GeoJSON that QuPath 0.4 to 0.8 always opens.

One bad feature makes QuPath refuse a whole file, so nothing leaves here that breaks a rule of its reader: ids are
UUIDs, geometries are valid after rounding to 0.01 px, a class has a name and a colour, measurements are finite, and
nothing is null. Source: RFC 7946 and the behaviour of QuPath's reader; `tests/annotations/qupath_rules.py` is the list.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import orjson

from wsiseg.annotations.canonical import Batch, canonical, on_grid
from wsiseg.annotations.geojson_read import SCORE
from wsiseg.annotations.polygon import FLAT, PLAIN, Details, LabelledPolygon, Written
from wsiseg.atomic import atomic_write, translate_os_errors
from wsiseg.classes import IGNORE, ClassMap, Colour
from wsiseg.errors import AnnotationError

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz")

ObjectKind = Literal["annotation", "detection"]
Kind = Literal["auto"] | ObjectKind

# QuPath draws and selects annotations one by one; with more than this many, detections are what stays usable.
MOST_ANNOTATIONS = 2000

# Of the objects before that is decided, in memory; the rest waits on the disk.
HELD_BYTES = 2**24

# The grey that QuPath itself gives to its class Ignore*.
IGNORE_COLOUR: Colour = (180, 180, 180)


class _Takes(Protocol):
    def write(self, data: bytes, /) -> int: ...


def write_geojson(
    path: Path,
    polygons: Iterable[LabelledPolygon],
    *,
    classes: ClassMap,
    properties: Mapping[str, Any] | None = None,
    kind: Kind | Mapping[str | None, ObjectKind] = "auto",
    legacy: bool = False,
    colours: Mapping[str, Colour] | None = None,
) -> Written:
    """Write objects as a FeatureCollection, one feature a line, in memory that does not grow with their number.

    The same objects give the same bytes. The file appears under its name only when it is complete. An object without
    an id gets one from its class and rounded polygon, so that it is the same in every run.

    Args:
        path: ends in one of `SUFFIXES`; with ".gz" it is compressed
        polygons: in level-0 pixels; a label of None is written without classification; a score becomes the
            measurement "score"; measurements that are not finite are left out
        classes: where the colours come from
        properties: where the objects come from (slide, model, µm/px, version …); QuPath ignores it
        kind: what QuPath takes the objects for. "annotation" and "detection" hold for all of them. Otherwise what
            their details say counts, and the rest are annotations up to `MOST_ANNOTATIONS` objects in the file and
            detections beyond ("auto"), or what a mapping says of their class
        colours: of classes that state nothing, for which a class map has none
        legacy: add what QuPath 0.3 needs (`object_type`, `colorRGB`, measurements as a list)

    Returns:
        How many objects were written, repaired and dropped.

    Raises:
        AnnotationError: the suffix is one that QuPath does not open, or an object cannot be expressed.
        ClassError: a label is not in `classes`.
        OutputError: the place cannot be written or the disk is full.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise AnnotationError(f"QuPath does not open {path.name}: end the name in {', '.join(SUFFIXES)}.")
    head = {"type": "FeatureCollection", **({"properties": dict(properties)} if properties else {})}
    try:
        opening = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)[:-1] + b',"features":['
    except orjson.JSONEncodeError as error:
        raise AnnotationError(
            f"The properties of {path} are not plain JSON values ({error}): give text and numbers."
        ) from None
    written = Written()
    with atomic_write(path) as sink, _packed(sink, path.name.lower().endswith(".gz")) as out:
        out.write(opening)
        batches, keep = canonical(polygons), kind not in get_args(ObjectKind)
        style = partial(FeatureWriter, classes, legacy=legacy, keep=keep, colours=colours)
        if kind == "auto":
            kind, written = _settle(batches, out, path, style)
        writer = style(kind)
        for batch in batches:
            writer.write(batch, written, out)
            written += batch.written
        out.write(b"\n]}\n")
    return written


def _settle(
    batches: Iterator[Batch], out: _Takes, path: Path, style: Callable[[ObjectKind], FeatureWriter]
) -> tuple[ObjectKind, Written]:
    """Decide what to call the objects, and write those that this took: no more than an annotation file may have.

    These few may be large, so they wait on the disk, written both ways.
    """
    written, kinds = Written(), get_args(ObjectKind)
    with translate_os_errors(path), contextlib.ExitStack() as stack:
        waiting = {
            kind: stack.enter_context(tempfile.SpooledTemporaryFile(HELD_BYTES, dir=str(path.parent))) for kind in kinds
        }
        styles = {kind: style(kind) for kind in kinds}
        for batch in batches:
            for kind in kinds:
                styles[kind].write(batch, written, waiting[kind])
            written += batch.written
            if written.objects > MOST_ANNOTATIONS:
                break
        chosen: ObjectKind = "annotation" if written.objects <= MOST_ANNOTATIONS else "detection"
        waiting[chosen].seek(0)
        while part := waiting[chosen].read(HELD_BYTES):
            out.write(part)
    return chosen, written


@contextlib.contextmanager
def _packed(sink: _Takes, compress: bool) -> Iterator[_Takes]:
    if not compress:
        yield sink
        return
    # No time and no name in the header: the same objects give the same bytes.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=sink, mtime=0) as packed:  # type: ignore[call-overload]
        yield packed


class FeatureWriter:
    """How the objects of one file are written."""

    def __init__(
        self, classes: ClassMap, kind: ObjectKind | Mapping[str | None, ObjectKind], *, legacy: bool, keep: bool,
        colours: Mapping[str, Colour] | None = None,
    ) -> None:  # fmt: skip
        self.classes, self.kind, self.legacy, self.colours = classes, kind, legacy, colours or {}
        self.keep = keep  # the kinds that objects state
        self.heads: dict[tuple[str | None, str | None], dict[str, Any]] = {}

    def write(self, batch: Batch, before: Written, out: _Takes) -> None:
        """Write a batch behind what is written already, one feature a line."""
        if len(batch):
            out.write(b",\n" if before.objects else b"\n")
            out.write(b",\n".join(self.features(batch, before.objects + before.dropped + 1)))

    def features(self, batch: Batch, start: int) -> Iterator[bytes]:
        """One GeoJSON Feature for every object of the batch, the first of which is number `start` of the file."""
        rows = zip(batch.polygons, batch.ids, batch.coordinates, batch.multiple, strict=True)
        for number, (region, uuid, coordinates, multiple) in enumerate(rows, start):
            details = region.details
            properties = self.head(region.label, details.kind)
            if measurements := self.measurements(region, number):
                properties = {**properties, "measurements": measurements}
            geometry: dict[str, Any] = {
                "type": "MultiPolygon" if multiple else "Polygon",
                "coordinates": orjson.Fragment(coordinates),
            }
            feature: dict[str, Any] = {"type": "Feature", "id": uuid, "geometry": geometry, "properties": properties}
            if details is not PLAIN:
                feature["properties"] = self.own(details) | properties
                if details.plane != FLAT:
                    geometry["plane"] = dict(zip("czt", details.plane, strict=True))
                if details.nucleus is not None and properties["objectType"] == "cell":
                    nucleus = on_grid(details.nucleus)
                    if nucleus is not None:
                        kind, text = nucleus
                        feature["nucleusGeometry"] = {"type": kind, "coordinates": orjson.Fragment(text)}
            try:
                yield orjson.dumps(feature)
            except orjson.JSONEncodeError as error:
                raise AnnotationError(
                    f"Object {number} has a name that is not proper text ({error}): rename it."
                ) from None

    def own(self, details: Details) -> dict[str, Any]:
        """The object's own properties."""
        own: dict[str, Any] = {
            "name": details.name,
            **(self.paint(details.colour) if details.colour is not None else {}),
            "isLocked": details.locked,
            "metadata": dict(details.metadata),
        }
        return {**details.other, **{key: value for key, value in own.items() if value}}

    def paint(self, colour: Colour) -> dict[str, Any]:
        """The members that say the colour of an object or of a class."""
        return {"color": list(colour), **({"colorRGB": packed_rgb(colour)} if self.legacy else {})}

    def head(self, label: str | None, stated: str | None) -> dict[str, Any]:
        """The properties that all objects of a class and kind share."""
        if (label, stated) not in self.heads:
            fixed = isinstance(self.kind, str) and not self.keep
            usual = self.kind if isinstance(self.kind, str) else self.kind.get(label, "annotation")
            kind = usual if fixed or stated is None else stated
            head: dict[str, Any] = {"objectType": kind}
            if self.legacy:
                head["object_type"] = kind
            if label is not None:
                colour = colour_of(label, self.classes)
                if colour == IGNORE_COLOUR:
                    colour = self.colours.get(label, colour)
                head["classification"] = {"name": label, **self.paint(colour)}
            self.heads[label, stated] = head
        return self.heads[label, stated]

    def measurements(self, region: LabelledPolygon, number: int) -> dict[str, float] | list[dict[str, Any]]:
        """The finite measurements, the score first."""
        values = {name: compact(value) for name, value in region.measurements.items() if math.isfinite(value)}
        if region.score is not None and math.isfinite(region.score):
            if SCORE in values:
                raise AnnotationError(
                    f"Object {number} has a score and a measurement called {SCORE!r}: rename that one."
                )
            values = {SCORE: compact(region.score), **values}
        if self.legacy:
            return [{"name": name, "value": value} for name, value in values.items()]
        return values


def compact(value: float) -> float:
    """The same number without ".0" where it is whole and a double still holds it exactly."""
    value = float(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def colour_of(label: str, classes: ClassMap) -> Colour:
    """The colour of a class; ClassError if the class map knows no such class."""
    index = classes.index(label)
    return IGNORE_COLOUR if index == IGNORE else classes.colours[index]


def packed_rgb(colour: Colour) -> int:
    """Opaque ARGB in one signed 32-bit integer, as QuPath up to 0.3 keeps colours."""
    red, green, blue = colour
    return (255 << 24 | red << 16 | green << 8 | blue) - (1 << 32)
