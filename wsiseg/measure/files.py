"""Measurements of files: a slide and its objects in, tables and a GeoJSON with the numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import shapely

from wsiseg import __version__
from wsiseg.annotations.gather import Area
from wsiseg.annotations.geojson_write import MOST_ANNOTATIONS, ObjectKind, write_geojson
from wsiseg.annotations.intake import Summary, take_in, without_duplicates
from wsiseg.annotations.polygon import Annotations, LabelledPolygon, Written
from wsiseg.classes import IGNORED, ClassMap, Colour
from wsiseg.errors import AnnotationError, OutputError, WsisegError
from wsiseg.measure.edges import on_slide, tissue_outline
from wsiseg.measure.generic import measure_generic
from wsiseg.measure.kidney.measure import measure_kidney
from wsiseg.measure.kidney.roles import GLOMERULI, SCLEROTIC, roles_of
from wsiseg.measure.kidney.stereology import checked_thickness
from wsiseg.measure.objects import Measured, TissueContext
from wsiseg.selection.tissue import tissue_of
from wsiseg.slides.slide import Slide
from wsiseg.stores.prediction import read_prediction

Profile = Literal["auto", "generic", "kidney"]


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """What to measure, as the user says it.

    Attributes:
        profile: "generic" for any organ, "kidney" for glomeruli and podocytes; "auto" is "kidney" where a class is
            known as a glomerulus or an option of that profile is given, else "generic"
        glomeruli, sclerotic, podocytes: class names of the kidney profile; the usual ones where empty
        thickness_um: of the section, for the kidney profile; None if nobody knows
        tissue: annotations of the tissue; it is looked for in the slide where None
        cortex: annotations of the cortex, for the kidney profile
        seed: of the bootstrap
        class_of_rest: the class of all annotations that have none

    Raises:
        WsisegError: an option of the kidney profile is given for the generic one
    """

    profile: Profile = "auto"
    glomeruli: tuple[str, ...] = ()
    sclerotic: tuple[str, ...] = ()
    podocytes: tuple[str, ...] = ()
    thickness_um: float | None = None
    tissue: Path | None = None
    cortex: Path | None = None
    seed: int = 0
    class_of_rest: str | None = None

    def __post_init__(self) -> None:
        if self.profile == "generic" and self._of_kidney:
            raise WsisegError(
                f"{self._of_kidney[0]} belongs to the kidney profile: leave it out, or use --profile kidney."
            )

    @property
    def _of_kidney(self) -> list[str]:
        given = {
            "--glomeruli": self.glomeruli, "--sclerotic": self.sclerotic, "--podocytes": self.podocytes,
            "--thickness-um": self.thickness_um is not None, "--cortex": self.cortex is not None,
        }  # fmt: skip
        return [name for name, value in given.items() if value]

    def profile_for(self, known: Iterable[str]) -> Literal["generic", "kidney"]:
        """The profile for annotations that know these classes."""
        if self.profile != "auto":
            return self.profile
        return "kidney" if self._of_kidney or {*GLOMERULI, *SCLEROTIC} & set(known) else "generic"


@dataclass(frozen=True, slots=True)
class Read:
    """Annotations of one slide out of one or more files.

    Attributes:
        polygons: of all files, one after the other
        classes: with colours
        known: the classes that the files know, background and ignored ones left out
        origins: what the files say of how they were made
        summaries: what became of the annotations of each file
        colours: those that the files give to classes
    """

    polygons: tuple[LabelledPolygon, ...]
    classes: ClassMap
    known: frozenset[str]
    origins: tuple[Mapping[str, Any], ...] = ()
    summaries: tuple[Summary, ...] = ()
    colours: Mapping[str, Colour] = field(default_factory=dict)


def measure_files(slide: Slide, files: Sequence[Path], options: MeasureOptions) -> tuple[Measured, Read]:
    """Measure a slide.

    Args:
        slide: for its µm/px, its bounds, and where its tissue is
        files: one or more, as of glomeruli and of podocytes; all are taken together
        options: what to measure

    Raises:
        AnnotationError: a file cannot be read
        MismatchError: a file was made from another slide
        ClassError: with the kidney profile, a class was named that no file knows, or none is a glomerulus
        GeometryError: no section has this thickness
    """
    if options.thickness_um is not None:
        checked_thickness(options.thickness_um)  # before the slide is looked at, which takes longest
    read = read_all(files, slide, class_of_rest=options.class_of_rest)
    if options.profile_for(read.known) == "kidney":
        roles_of(read.known, options.glomeruli, options.sclerotic, options.podocytes)
    return measure_read(read, tissue_context_of(slide, options), options, read.known), read


def measure_read(read: Read, place: TissueContext, options: MeasureOptions, known: frozenset[str]) -> Measured:
    """Measure annotations that are read already.

    Args:
        read: what is measured
        place: the slide's plane and tissue
        options: what to measure
        known: the classes that decide about the profile and the roles: those of `read`, and perhaps of what it is
            compared with. Podocytes that `read` does not know are not measured: nobody looked for any.

    Raises:
        ClassError: as `measure_files`
    """
    if options.profile_for(known) == "generic":
        return measure_generic(read.polygons, place, sorted(known), seed=options.seed)
    roles = roles_of(known, options.glomeruli, options.sclerotic, options.podocytes)
    if not read.known & set(roles.podocytes):
        roles = replace(roles, podocytes=())
    return measure_kidney(read.polygons, place, roles, thickness_um=options.thickness_um, seed=options.seed)


def read_all(paths: Sequence[Path], slide: Slide, *, class_of_rest: str | None = None) -> Read:
    """The annotations of one slide.

    Args:
        paths: one or more files, which are taken together
        slide: for its plane
        class_of_rest: the class of all annotations that have none

    Raises:
        AnnotationError: a file cannot be read, none of its annotations has a class, or all lie outside the slide
        MismatchError: a file says that it was made from a slide of another plane
    """
    taken = [
        take_in(
            path, slide, found=read_prediction(path).annotations, same_mpp=True, need_class=True,
            class_of_rest=class_of_rest,
        )
        for path in paths
    ]  # fmt: skip
    classes, known = classes_of(replace(one.annotations, polygons=one.polygons) for one in taken)
    polygons = without_duplicates([polygon for one in taken for polygon in one.polygons])
    summaries = [one.summary for one in taken]
    again = sum(one.summary.used for one in taken) - len(polygons)
    if again:  # the file that brings them last is the one that says so
        last = summaries[-1]
        summaries[-1] = replace(last, used=last.used - again, duplicates=last.duplicates + again)
    origins = tuple(one.annotations.about for one in taken if one.annotations.about)
    colours = {name: colour for one in reversed(taken) for name, colour in one.annotations.colours.items()}
    return Read(tuple(polygons), classes, known, origins, tuple(summaries), colours)


def classes_of(found: Iterable[Annotations]) -> tuple[ClassMap, frozenset[str]]:
    """The classes that annotation files know: those of the model that made them, and those of their annotations.

    Returns:
        all of them with a background, in the colours of the first file that states them; and their names without
        background and without what is to be ignored, perhaps none
    """
    colours: dict[str, Colour] = {}
    given: dict[str, Colour] = {}  # by files to classes that no model states
    unstated: set[str] = set()
    ignored = set(IGNORED)
    for one in found:
        if one.classes is not None:
            ignored |= set(one.classes.ignore_names)
            for name, colour in zip(one.classes.names, one.classes.colours, strict=True):
                colours.setdefault(name, colour)
        unstated |= {p.label for p in one.polygons if p.label is not None and not p.states_nothing}
        given = {**one.colours, **given}
    stated = colours or {"Background": (255, 255, 255)}
    names = (*stated, *sorted(unstated - set(stated) - ignored - {"Background"}))
    known = frozenset(names[1:])
    names = names if known else (*names, "Object")  # a class map without a class is none
    paint = {**dict(zip(names, ClassMap(names).colours, strict=True)), **given, **stated}
    return ClassMap(names, tuple(paint[name] for name in names), tuple(sorted(ignored - set(names)))), known


def tissue_context_of(slide: Slide, options: MeasureOptions) -> TissueContext:
    """Where the slide's tissue and cortex are."""
    if options.tissue is None:
        tissue = tissue_outline(tissue_of(slide), slide.frame, slide.bounds)
    else:
        tissue = _drawn(options.tissue, slide)
    cortex = None if options.cortex is None else _drawn(options.cortex, slide)
    return TissueContext(slide.name, slide.frame, tissue, cortex)


def _drawn(path: Path, slide: Slide) -> Area:
    found = take_in(path, slide, same_mpp=True)
    if not found.polygons:
        raise AnnotationError(f"{path} has no annotation: draw where the tissue is, or leave the option out.")
    return on_slide(shapely.union_all([p.polygon for p in found.polygons]), slide.frame, slide.bounds)


def write_measured(path: Path, slide: Slide, measured: Measured, read: Read) -> Written:
    """Write all objects as GeoJSON, with their measurements.

    An object keeps the kind that its file states. Where that states none, the profile decides; and nuclei that lie in a
    glomerulus are detections in any case, because QuPath's "Resolve hierarchy" goes by the centroid for these alone.

    Raises:
        AnnotationError: QuPath does not open this suffix
        OutputError: the place cannot be written
    """
    labels = [p.label for p in measured.polygons]
    others = sum(label not in measured.kinds for label in labels)
    rest: ObjectKind = "annotation" if others <= MOST_ANNOTATIONS else "detection"
    origin = {
        "kind": "measurements",
        "version": __version__,
        "profile": measured.profile,
        "slide": dict(slide.identity),
        "level0": slide.frame.to_json(),
        "classes": read.classes.to_json(),
        "outlines": list(read.origins),
        "annotations": [summary.to_json() for summary in read.summaries],
    }
    nuclei = measured.tables.get("podocytes")
    inside = set() if nuclei is None else {i for i, p in zip(nuclei["id"], nuclei["parent"], strict=True) if p}
    polygons = (
        replace(p, details=replace(p.details, kind="detection"))
        if p.id in inside and p.details.kind == "annotation"
        else p
        for p in measured.polygons
    )
    return write_geojson(
        path,
        polygons,
        classes=read.classes,
        properties={"wsiseg": origin},
        kind={**dict.fromkeys(labels, rest), **measured.kinds},
        colours=read.colours,
    )


def check_output(out: Path, inputs: Sequence[Path]) -> None:
    """OutputError if a file would be written over one that is read."""
    if any(out.resolve() == path.resolve() for path in inputs):
        raise OutputError(f"{out} is one of the files that are measured: choose another name.")
