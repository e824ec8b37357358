"""The same outlines in another format: from a label map, or from a file that wsiseg wrote or reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsiseg.annotations.formats import read_annotations, write_annotations
from wsiseg.annotations.polygon import LabelledPolygon, Written
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError
from wsiseg.geometry import Frame
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.objects import objects_of


@dataclass(frozen=True, slots=True)
class Tracing:
    """How a label map becomes outlines; for outlines that are there already only the default will do.

    Attributes:
        min_object_um2: smaller objects are left out
        min_hole_um2: smaller holes are filled
        simplify_um: detail of less than about its square goes; borders that objects share stay shared; 0 keeps the
            exact edges of the pixels
        whole_objects: touching pixels of several classes are one object, of the class that most of them have
    """

    min_object_um2: float = 0.0
    min_hole_um2: float = 0.0
    simplify_um: float = 0.0
    whole_objects: bool = False


def export(source: Path, out: Path, tracing: Tracing, *, frame: Frame | None = None, **options: Any) -> Written:
    """Write the outlines of a label map or of an outline file in the format that `out` names.

    Args:
        source: a label map (.zarr) or outlines
        out: the file to write; its suffix chooses the format
        tracing: for label maps
        frame: level 0 of the slide, which tables and COCO need and a file drawn by hand does not say
        options: of the format's writer, such as `kind` and `legacy` of GeoJSON

    Returns:
        How many objects were written, repaired and dropped.

    Raises:
        AnnotationError: a file cannot be read or written in this format, or `frame` is needed
        StoreError: the label map is damaged
        OutputError: the place cannot be written
    """
    polygons: Iterable[LabelledPolygon]
    if source.suffix == ".zarr":
        labels = LabelMap(source)
        manifest, classes, frame = labels.manifest, labels.classes, labels.level0
        sizes = {key: getattr(tracing, key) for key in tracing.__slots__}
        polygons = objects_of(labels, **sizes)
    else:
        if tracing != Tracing():
            raise AnnotationError(f"{source} holds outlines: only those of a label map can be sifted and simplified.")
        found = read_annotations(source)
        polygons, manifest = found.polygons, found.properties.get("wsiseg", {})
        classes = found.classes or _named(found.polygons)
        frame = Frame.from_json(manifest["level0"]) if "level0" in manifest else frame
    properties = {"wsiseg": manifest, "slide": manifest.get("slide", {}).get("name", "")} if manifest else None
    return write_annotations(out, polygons, classes=classes, properties=properties, frame=frame, **options)


def _named(polygons: Iterable[LabelledPolygon]) -> ClassMap:
    names = {r.label for r in polygons if r.label} - {"Background", "Ignore", "Ignore*"}
    return ClassMap(("Background", *sorted(names or {"Object"})))
