"""The table of annotation formats; reading and writing by file name and content.

| format | suffix | in | out |
|---|---|---|---|
| GeoJSON of QuPath | .geojson .json, also with .gz | yes | yes |
| the same in an archive | .zip | yes | |
| Aperio ImageScope | .xml | yes | yes |
| ASAP | .xml | yes | |
| table | .csv .parquet | | yes |
| COCO | .coco.json | | yes |
"""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from wsiseg.annotations import asap, geojson_write, imagescope
from wsiseg.annotations.asap import read_asap
from wsiseg.annotations.coco import write_coco
from wsiseg.annotations.geojson_read import read_geojson
from wsiseg.annotations.geojson_write import write_geojson
from wsiseg.annotations.imagescope import read_imagescope, write_imagescope
from wsiseg.annotations.json_file import opened
from wsiseg.annotations.polygon import FLAT, Annotations, LabelledPolygon, Written
from wsiseg.annotations.safe_xml import root_of
from wsiseg.annotations.table import write_csv, write_parquet
from wsiseg.classes import ClassMap, Colour
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Frame


@dataclass(frozen=True, slots=True)
class Format:
    """One file format.

    Attributes:
        suffixes: endings of file names, lower case
        read_only: endings of files that are read but not written
        read: from a path to annotations; None if the format is only written
        write: path, polygons and those of the keywords of `write_annotations` that it names; None if it is only read
        root: of the formats that share .xml, the outermost element that tells this one
        keeps: those of `FACTS` that the format can say
    """

    suffixes: tuple[str, ...]
    read_only: tuple[str, ...] = ()
    read: Callable[[Path], Annotations] | None = None
    write: Callable[..., Written] | None = None
    root: str | None = None
    keeps: frozenset[str] = frozenset()


# What an object may have besides its class and its polygon, and whether a polygon has it.
FACTS: dict[str, Callable[[LabelledPolygon], object]] = {
    "ids": lambda p: p.id,
    "scores": lambda p: p.score is not None,
    "measured objects": lambda p: p.measurements,
    "names": lambda p: p.details.name,
    "locks": lambda p: p.details.locked,
    "colours of their own": lambda p: p.details.colour,
    "planes": lambda p: p.details.plane != FLAT,
    "nuclei of cells": lambda p: p.details.nucleus is not None,
    "with metadata": lambda p: p.details.metadata,
    "kinds of object": lambda p: p.details.kind,
    "with other properties": lambda p: p.details.other,
}
_TABLE = frozenset({"ids", "scores", "measured objects"})

FORMATS: dict[str, Format] = {
    "geojson": Format(geojson_write.SUFFIXES, (".zip",), read_geojson, write_geojson, keeps=frozenset(FACTS)),
    "imagescope": Format(
        (".xml",), (), read_imagescope, write_imagescope, root=imagescope.ROOT, keeps=frozenset({"names"})
    ),
    "asap": Format((".xml",), (), read_asap, None, root=asap.ROOT),
    "csv": Format((".csv",), (), None, write_csv, keeps=_TABLE),
    "parquet": Format((".parquet",), (), None, write_parquet, keeps=_TABLE),
    "coco": Format((".coco.json",), (), None, write_coco, keeps=frozenset({"ids", "scores"})),
}


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file of any format, known by its suffix and, for .xml, by its outermost element.

    Returns:
        Valid polygons in level-0 pixels, with counts of what was repaired and what was left out.

    Raises:
        AnnotationError: the file is missing, of no known format, of one that is only written, or damaged
    """
    named = _by_suffix(path, reading=True)
    if len(named) > 1:
        root = root_of(path)
        named = [name for name in named if FORMATS[name].root == root]
        if not named:
            raise AnnotationError(f"{path} is XML of an unknown kind (<{root}>): give a file of ImageScope or ASAP.")
    read = FORMATS[named[0]].read if named else None
    if read is None:
        what = f"is of the format {named[0]}, which is only written" if named else "has an unknown suffix"
        readable = sorted({s for form in FORMATS.values() if form.read for s in (*form.suffixes, *form.read_only)})
        raise AnnotationError(f"{path} {what}: give annotations as one of {', '.join(readable)}.")
    return read(path)


def write_annotations(
    path: Path,
    polygons: Iterable[LabelledPolygon],
    *,
    classes: ClassMap,
    properties: Mapping[str, Any] | None = None,
    frame: Frame | None = None,
    format: str | None = None,
    colours: Mapping[str, Colour] | None = None,
    **options: Any,
) -> Written:
    """Write an annotation file; the suffix chooses the format unless `format` does.

    Args:
        path: the file, which appears only when it is complete
        polygons: in level-0 pixels; an iterator is never held in memory as a whole by GeoJSON and COCO
        classes: labels, names and colours
        properties: where the polygons come from (slide, model, µm/px, version …)
        frame: level 0; tables and COCO need it
        format: a key of `FORMATS`
        colours: of classes that state nothing, for which a class map has none
        options: further keywords of that format's writer, such as `kind` and `legacy` of `write_geojson`

    Returns:
        How many objects were written, repaired and dropped, and how many had what this format cannot say.

    Raises:
        AnnotationError: the format is unknown, only read or lacks `frame`, has no such option, or a polygon cannot be
            expressed in it
        ClassError: a label is not in `classes`
        OutputError: the place cannot be written or the disk is full
    """
    named = [name for name in _by_suffix(path) if FORMATS[name].write] if format is None else [format]
    write = FORMATS[named[0]].write if named and named[0] in FORMATS else None
    if write is None:
        writable = sorted({suffix for form in FORMATS.values() if form.write for suffix in form.suffixes})
        raise AnnotationError(
            f"Annotations cannot be written as {format or path.name}: choose one of {', '.join(writable)}."
        )
    takes = inspect.signature(write).parameters
    offered = {"classes": classes, "properties": properties, "frame": frame, "colours": colours}
    if frame is None and takes.get("frame") and takes["frame"].default is inspect.Parameter.empty:
        raise AnnotationError(f"The format {named[0]} needs the size and µm/px of the slide: give its level-0 frame.")
    foreign = sorted(key for key in options if key not in takes)
    if foreign:
        raise AnnotationError(
            f"The format {named[0]} has no choice of {' and '.join(foreign)}: leave that out, or write GeoJSON."
        )
    lacks = {what: has for what, has in FACTS.items() if what not in FORMATS[named[0]].keeps}
    if options.get("kind") in get_args(geojson_write.ObjectKind):  # for all, whatever they were
        lacks["kinds of object"] = lambda p: p.details.kind not in (None, options["kind"])
        lacks["nuclei of cells"] = FACTS["nuclei of cells"]
    lost: Counter[str] = Counter()

    def counted(polygon: LabelledPolygon) -> LabelledPolygon:
        lost.update(what for what, has in lacks.items() if has(polygon))
        return polygon

    passed = map(counted, polygons) if lacks else polygons
    written = write(path, passed, **{key: value for key, value in offered.items() if key in takes}, **options)
    return replace(written, lost=dict(lost))


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text; AnnotationError if it cannot be read."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_suffix(path: Path, *, reading: bool = False) -> list[str]:
    """Formats whose suffix the name ends in; a longer suffix (.coco.json) goes before a shorter one (.json)."""
    fits = [
        (len(suffix), key)
        for key, form in FORMATS.items()
        for suffix in (*form.suffixes, *(form.read_only if reading else ()))
        if path.name.lower().endswith(suffix)
    ]
    return [key for length, key in fits if length == max(fits)[0]]
