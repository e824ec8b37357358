"""The same outlines in another format: from a label map, or from a file that wsiseg wrote or reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsiseg.annotations.formats import write_annotations
from wsiseg.annotations.intake import take_in
from wsiseg.annotations.polygon import LabelledPolygon, Written
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


def export(
    source: Path,
    out: Path,
    tracing: Tracing,
    *,
    frame: Frame | None = None,
    class_of_rest: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Written:
    """Write the objects of a label map or of an annotation file in the format that `out` names.

    Args:
        source: a label map (.zarr) or annotations
        out: the file to write; its suffix chooses the format
        tracing: for label maps
        frame: level 0 of the slide, which tables and COCO need and a file drawn by hand does not say
        class_of_rest: the class of all annotations that have none
        say: told what became of the annotations of a file
        options: of the format's writer, such as `kind` and `legacy` of GeoJSON

    Returns:
        How many objects were written, repaired and dropped, and how many had what the format cannot say.

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
        polygons, colours = objects_of(labels, **sizes), {}
    else:
        if tracing != Tracing():
            raise AnnotationError(f"{source} holds outlines: only those of a label map can be sifted and simplified.")
        intake = take_in(source, all_planes=True, class_of_rest=class_of_rest)
        say(str(intake.summary))
        polygons, manifest = intake.polygons, dict(intake.annotations.about)
        colours = dict(intake.annotations.colours)
        classes = replace(intake.annotations, polygons=intake.polygons).class_map()
        frame = intake.annotations.level0 or frame
    properties = {"wsiseg": manifest, "slide": slide_name(manifest)} if manifest else None
    return write_annotations(
        out, polygons, classes=classes, properties=properties, frame=frame, colours=colours, **options
    )


def slide_name(manifest: Mapping[str, Any]) -> str:
    """The name of the slide that something was made from, where its manifest says it."""
    slide = manifest.get("slide")
    return str(slide.get("name", "")) if isinstance(slide, Mapping) else ""
