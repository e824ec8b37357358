"""The report of one slide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from wsiseg import __version__
from wsiseg.annotations.polygon import LabelledPolygon
from wsiseg.classes import Colour
from wsiseg.measure.files import Read, read_all
from wsiseg.pictures import draw_outlines
from wsiseg.report import charts
from wsiseg.report.gallery import Item, gallery
from wsiseg.report.images import jpeg, with_scale_bar
from wsiseg.report.page import Html, document, join, legend, paragraph, picture, row, section, subsection, table
from wsiseg.report.quality import quality_section, read_flags
from wsiseg.report.reference import evaluation_section, reference_section
from wsiseg.report.tables import Measurements, declared, explained, numbers, read_measurements, shown
from wsiseg.slides.slide import Slide

OVERVIEW_PX = 1600
SHOWN = 6  # objects in a gallery
MOST_CLASSES = 4  # with plots and galleries of their own
DENSITY = "podocyte_density_per_1e6_um3"
UNNAMED = "no class"
OWN: Colour = (213, 94, 0)
BESIDE: Colour = (0, 0, 0)
LONGEST_VALUE = 300  # characters of a line of the provenance


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that a report of a slide is made of.

    Attributes:
        outlines: files of objects, at least one
        reference: annotations to compare with
        measurements: folder of `wsiseg measure`
        quality: folder of `wsiseg qc`
        evaluation: what `wsiseg evaluate --json` printed; not needed with a reference
        class_of_rest: the class of all annotations that have none
    """

    outlines: tuple[Path, ...] = ()
    reference: Path | None = None
    measurements: Path | None = None
    quality: Path | None = None
    evaluation: Path | None = None
    class_of_rest: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        named = (self.reference, self.measurements, self.quality, self.evaluation)
        return (*self.outlines, *(path for path in named if path is not None))


def slide_report(slide: Slide, sources: Sources, say: Callable[[str], None] = lambda line: None) -> bytes:
    """The report as HTML; `say` is told what became of the annotations of each file.

    Raises:
        AnnotationError: a file cannot be read, or holds something other than areas
        MismatchError: a file was made from another slide
        StoreError: tables or flags are damaged
        SlideError: pixels cannot be read
    """
    read = read_all(sources.outlines, slide, class_of_rest=sources.class_of_rest)
    reference = (
        read_all([sources.reference], slide, class_of_rest=sources.class_of_rest)
        if sources.reference is not None
        else None
    )
    for summary in (*read.summaries, *(reference.summaries if reference is not None else ())):
        say(str(summary))
    measured = read_measurements(sources.measurements) if sources.measurements is not None else None
    flags = read_flags(sources.quality, slide) if sources.quality is not None else None
    areas = areas_of(read.polygons, slide)
    f = slide.frame
    made_of = ", ".join(path.name for path in sources.outlines)
    return document(
        f"Report of {slide.name}",
        f"{len(read.polygons)} objects of {made_of}; the slide has {f.width} × {f.height} px at {f.mpp:.4g} µm/px. "
        f"Made by wsiseg {__version__}. " + "; ".join(map(str, read.summaries)) + ".",
        _overview(slide, read, reference),
        _measurements(read, areas, measured),
        _distributions(read, areas, measured),
        quality_section(flags, sources.quality, slide.frame),
        _compared(slide, read, reference, areas, sources),
        _galleries(slide, read, areas),
        _provenance(slide, read),
    )


def _compared(
    slide: Slide, read: Read, reference: Read | None, areas: np.ndarray, sources: Sources
) -> Html:  # fmt: skip
    if reference is not None:
        return reference_section(slide, read, reference, areas, SHOWN)
    return Html("") if sources.evaluation is None else evaluation_section(sources.evaluation, slide)


def areas_of(regions: Sequence[LabelledPolygon], slide: Slide) -> np.ndarray:
    """(n,) areas in µm²."""
    shapes = np.array([r.polygon for r in regions], dtype=object)
    return shapely.area(shapes) * slide.frame.mpp * slide.frame.mpp_y if len(shapes) else np.empty(0)


def name_of(region: LabelledPolygon) -> str:
    """The class, in words."""
    return region.label or UNNAMED


def colours_of(read: Read) -> Mapping[str, Colour]:
    """Class -> colour."""
    return {**dict(zip(read.classes.names, read.classes.colours, strict=True)), UNNAMED: (90, 90, 90)}


def by_class(read: Read, values: np.ndarray) -> dict[str, np.ndarray]:
    """Class -> its values, in the order of the classes, those that occur."""
    labels = np.array([name_of(r) for r in read.polygons], dtype=object)
    order = [*read.classes.names, UNNAMED]
    there = sorted(set(labels), key=lambda name: order.index(name) if name in order else len(order))
    return {name: values[labels == name] for name in there}


def _overview(slide: Slide, read: Read, reference: Read | None) -> Html:
    pixels, frame = slide.thumbnail(OVERVIEW_PX)
    colours = colours_of(read)
    layers: list[tuple[list[LabelledPolygon], Colour]] = (
        [] if reference is None else [(list(reference.polygons), BESIDE)]
    )
    layers += [
        ([r for r in read.polygons if name_of(r) == name], colours.get(name, BESIDE))
        for name in dict.fromkeys(map(name_of, read.polygons))
    ]
    drawn = with_scale_bar(draw_outlines(pixels, frame, layers, slide.frame), frame.mpp)
    meanings = {name: colours.get(name, BESIDE) for name in by_class(read, np.zeros(len(read.polygons)))}
    if reference is not None:
        meanings["Reference"] = BESIDE
    alt = f"The whole slide with {len(read.polygons)} objects"
    return section(
        "Overview", picture("image/jpeg", jpeg(drawn), alt, "" if meanings else "No objects."), legend(meanings)
    )


def _measurements(read: Read, areas: np.ndarray, measured: Measurements | None) -> Html:
    rows = []
    for name, values in by_class(read, areas).items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        rows.append(
            [name, str(len(values)), shown(middle), f"{shown(low)} to {shown(high)}", f"{values.sum() / 1e6:.4g}"]
        )
    parts = [
        table("Objects by class", ["class", "number", "median area, µm²", "middle half, µm²", "in all, mm²"], rows)
    ]
    if measured is None:
        says = "No measurements were given: make them with wsiseg measure, and name them with --measurements."
        return section("Measurements", *parts, paragraph(says))
    head = ["measurement", "value", "95 % interval", "meaning"]
    parts.append(table("The slide", head, explained(measured.slides, declared(measured.profile, "slides"))))
    if measured.classes is not None:
        labels = measured.classes["class"]
        columns = declared(measured.profile, "classes", labels)
        for n, label in enumerate(labels):  # a class does not lie in itself: those fields are empty
            own = {name: column for name, column in columns.items() if not name.endswith(f"[{label}]")}
            parts.append(table(f"Class {label}", head, explained(measured.classes, own, n)))
    says = (
        "The intervals come from drawing the objects of this slide again and again (bootstrap). They tell how far a "
        "mean would move with other objects of the same tissue, not with other patients."
    )
    return section("Measurements", *parts, paragraph(says))


def _distributions(read: Read, areas: np.ndarray, measured: Measurements | None) -> Html:
    plots = []
    for i, (name, values) in enumerate(islice(by_class(read, areas).items(), MOST_CLASSES)):
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        says = f"Area of {len(known)} objects, {name}: median {shown(float(np.median(known)))} µm²"
        kind, svg = charts.distribution(known, "area, µm²", i)
        plots.append(picture("image/svg+xml", svg, f"{kind}. {says}", says))
    if measured is not None and DENSITY in measured.objects:
        density = numbers(measured.objects[DENSITY])
        if len(density):
            quantity = "podocytes per 10⁶ µm³"
            kind, svg = charts.distribution(density, quantity)
            alt = f"{kind}. Podocyte density: median {shown(float(np.median(density)))} {quantity}"
            plots.append(picture("image/svg+xml", svg, alt, "Podocyte density of the glomeruli"))
    return section("Distributions", row(plots)) if plots else Html("")


def _galleries(slide: Slide, read: Read, areas: np.ndarray) -> Html:
    """The largest, smallest and most uncertain objects of each class."""
    score = np.array([np.nan if r.score is None else r.score for r in read.polygons])
    parts = []
    groups = by_class(read, np.arange(len(read.polygons)))
    for name, members in islice(groups.items(), MOST_CLASSES):
        by_area = members[np.argsort(-areas[members], kind="stable")]
        known = members[np.isfinite(score[members])]
        chosen = {
            "largest": by_area,
            "smallest": by_area[::-1],
            "most uncertain (lowest score)": known[np.argsort(score[known], kind="stable")],
        }
        for title, order in chosen.items():
            items = [Item(read.polygons[i], _caption(read.polygons[i], areas[i])) for i in order[:SHOWN]]
            parts.append(gallery(f"{name}: {title}", slide, items, (OWN, BESIDE)))
    if len(groups) > MOST_CLASSES:
        parts.append(paragraph(f"The first {MOST_CLASSES} of {len(groups)} classes are shown."))
    return section("Objects", join(parts)) if parts else Html("")


def _caption(region: LabelledPolygon, area: float) -> str:
    score = "" if region.score is None else f", score {region.score:.2f}"
    return f"{name_of(region)}, {shown(area)} µm²{score}"


def _provenance(slide: Slide, read: Read) -> Html:
    frame = slide.frame
    rows = [
        ["file", slide.name],
        *([name, str(slide.identity[name])] for name in ("size", "hash")),
        ["µm/px", f"{frame.mpp:.6g} × {frame.mpp_y:.6g}"],
        [
            "µm/px in the file",
            "not stated" if slide.stated_mpp is None else " × ".join(f"{v:.6g}" for v in slide.stated_mpp),
        ],
        ["vendor", slide.vendor],
        ["reader", slide.backend_name],
    ]
    parts = [subsection("Slide", table("What was read", ["", ""], rows))]
    for number, origin in enumerate(read.origins, 1):
        facts = list(flattened(origin))
        parts.append(subsection(f"Objects {number}", table("What they were made from", ["", ""], facts)))
    if not read.origins:
        parts.append(paragraph("The files of the objects do not say how they were made."))
    return section("Where it comes from", *parts)


def flattened(value: Any, name: str = "") -> list[list[str]]:
    """(name, value) of nested JSON values, names joined by points; classes and grids are left out, long texts cut."""
    if isinstance(value, Mapping):
        skipped = ("classes", "architecture")
        return [
            line for key, inner in value.items() if key not in skipped
            for line in flattened(inner, f"{name}.{key}" if name else str(key))
        ]  # fmt: skip
    shown_value = "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return [[name, shown_value if len(shown_value) <= LONGEST_VALUE else shown_value[: LONGEST_VALUE - 1] + "…"]]
