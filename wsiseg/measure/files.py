"""Measurements of files: a slide and its outlines in, tables and a GeoJSON with the numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely
from shapely import MultiPolygon, Polygon

from wsiseg import __version__
from wsiseg.annotations.formats import read_annotations
from wsiseg.annotations.geojson_write import MOST_ANNOTATIONS, ObjectKind, write_geojson
from wsiseg.annotations.polygon import Annotations, LabelledPolygon, Written
from wsiseg.classes import ClassMap
from wsiseg.errors import AnnotationError, MismatchError, OutputError
from wsiseg.geometry import Frame
from wsiseg.measure.edges import tissue_outline, within
from wsiseg.measure.names import ClassRoles, chosen, classes_of
from wsiseg.measure.slide import Measured, TissueContext, measure
from wsiseg.measure.stereology import checked_thickness
from wsiseg.selection.tissue import tissue_of
from wsiseg.slides.slide import Slide


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure, as the user says it.

    Attributes:
        glomeruli, sclerotic, podocytes: class names; the usual ones where empty
        thickness_um: of the section; None if nobody knows
        tissue: outlines of the tissue; it is looked for in the slide where None
        cortex: outlines of the cortex
        seed: of the bootstrap
    """

    glomeruli: tuple[str, ...] = ()
    sclerotic: tuple[str, ...] = ()
    podocytes: tuple[str, ...] = ()
    thickness_um: float | None = None
    tissue: Path | None = None
    cortex: Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """Annotations of one slide out of one or more files.

    Attributes:
        polygons: of all files, one after the other
        classes: with colours
        known: the classes that the files know, background and ignored ones left out
        origins: what the files say of how they were made
    """

    polygons: tuple[LabelledPolygon, ...]
    classes: ClassMap
    known: frozenset[str]
    origins: tuple[Mapping[str, Any], ...] = ()


def measure_files(slide: Slide, outlines: Sequence[Path], wanted: Wanted) -> tuple[Measured, Read, ClassRoles]:
    """Measure a slide.

    Args:
        slide: for its µm/px, its bounds, and where its tissue is
        outlines: one or more files, as of glomeruli and of podocytes; all are taken together

    Raises:
        AnnotationError: a file cannot be read
        MismatchError: outlines were made from another slide
        ClassError: a class was named that no file knows, or none is a glomerulus
        GeometryError: no section has this thickness
    """
    if wanted.thickness_um is not None:
        checked_thickness(wanted.thickness_um)  # before the slide is looked at, which takes longest
    read = read_all(outlines, slide.frame)
    names = chosen(read.known, wanted.glomeruli, wanted.sclerotic, wanted.podocytes)
    place = tissue_context_of(slide, wanted)
    return measure(read.polygons, place, names, thickness_um=wanted.thickness_um, seed=wanted.seed), read, names


def read_all(paths: Sequence[Path], level0: Frame) -> Read:
    """The outlines of one slide; MismatchError if a file says that it was made from a slide of another plane."""
    found = [read_annotations(path) for path in paths]
    for path, outlines in zip(paths, found, strict=True):
        _check_frame(path, outlines, level0)
    classes, known = classes_of(found)
    origins = tuple(outlines.properties["wsiseg"] for outlines in found if "wsiseg" in outlines.properties)
    return Read(tuple(r for outlines in found for r in outlines.polygons), classes, known, origins)


def _check_frame(path: Path, outlines: Annotations, level0: Frame) -> None:
    stated = outlines.properties.get("wsiseg", {}).get("level0")
    if stated is not None and Frame.from_json(stated) != level0:
        raise MismatchError(
            f"{path} was made from a slide of {stated['width']} × {stated['height']} px at {stated['mpp']:g} µm/px, "
            f"not {level0.width} × {level0.height} px at {level0.mpp:g} µm/px: name its own slide, or state --mpp."
        )


def tissue_context_of(slide: Slide, wanted: Wanted) -> TissueContext:
    """Where the slide's tissue and cortex are."""
    if wanted.tissue is None:
        tissue = tissue_outline(tissue_of(slide), slide.frame, slide.bounds)
    else:
        tissue = _drawn(wanted.tissue, slide)
    return TissueContext(
        slide.name, slide.frame, tissue, None if wanted.cortex is None else _drawn(wanted.cortex, slide)
    )


def _drawn(path: Path, slide: Slide) -> Polygon | MultiPolygon:
    found = read_annotations(path)
    _check_frame(path, found, slide.frame)
    if not found.polygons:
        raise AnnotationError(f"{path} has no outline: draw where the tissue is, or leave the option out.")
    return within(shapely.union_all([r.polygon for r in found.polygons]), slide.frame, slide.bounds)


def write_measured(path: Path, slide: Slide, measured: Measured, read: Read, names: ClassRoles) -> Written:
    """Write all outlines as GeoJSON, glomeruli and podocytes with their measurements.

    Glomeruli are annotations and podocytes detections, because QuPath's "Resolve hierarchy" goes by the centroid for
    detections alone. Everything else is what `write_geojson` would make of it.

    Raises:
        AnnotationError: QuPath does not open this suffix
        OutputError: the place cannot be written
    """
    labels = {r.label for r in measured.polygons}
    others = sum(r.label not in names.any_glomeruli and r.label not in names.podocytes for r in measured.polygons)
    rest: ObjectKind = "annotation" if others <= MOST_ANNOTATIONS else "detection"
    kinds: dict[str | None, ObjectKind] = dict.fromkeys(labels, rest)
    kinds.update(dict.fromkeys(names.any_glomeruli, "annotation"))
    kinds.update(dict.fromkeys(names.podocytes, "detection"))
    origin = {
        "kind": "measurements",
        "version": __version__,
        "slide": dict(slide.identity),
        "level0": slide.frame.to_json(),
        "classes": read.classes.to_json(),
        "outlines": list(read.origins),
    }
    return write_geojson(path, measured.polygons, classes=read.classes, properties={"wsiseg": origin}, kind=kinds)


def check_output(out: Path, inputs: Sequence[Path]) -> None:
    """OutputError if a file would be written over one that is read."""
    if any(out.resolve() == path.resolve() for path in inputs):
        raise OutputError(f"{out} is one of the outline files that are measured: choose another name.")
