"""The report of many slides, from a folder with one folder of results for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg import __version__
from wsiseg.errors import StoreError, WsisegError
from wsiseg.json_text import read_json
from wsiseg.measure.files import read_all
from wsiseg.pictures import draw_outlines
from wsiseg.qc.files import FLAGS
from wsiseg.report import charts
from wsiseg.report.images import jpeg
from wsiseg.report.page import Cell, Html, Picture, document, paragraph, picture, section, table
from wsiseg.report.quality import Flags, read_flags
from wsiseg.report.slide import OWN, flattened
from wsiseg.report.tables import Measurements, declared, number, numbers, read_measurements, shown, with_interval
from wsiseg.slides.open import open_slide

RUN, SLIDES_FOLDER, OUTLINES = "run.json", "slides", "outlines.geojson"
THUMBNAIL_PX = 240
MOST_LINES = 60  # slides in a plot
# What the table of all slides shows, as far as it is there.
COLUMNS = {
    "kidney": (
        "tissue_area_mm2", "glomeruli", "sclerotic_fraction", "mean_area_um2", "mean_podocyte_density_per_1e6_um3",
    ),
    "generic": ("tissue_area_mm2", "objects", "objects_per_mm2"),
}  # fmt: skip
CLASS_COLUMNS = ("objects", "objects_per_mm2", "mean_area_um2", "mean_circularity")


@dataclass(frozen=True, slots=True)
class Found:
    """The results of one slide; None for results that do not exist."""

    name: str
    measured: Measurements | None
    flags: Flags | None
    thumbnail: Picture | None = None


def is_results(folder: Path) -> bool:
    """Whether a folder contains results of many slides."""
    return (folder / SLIDES_FOLDER).is_dir()


def results_report(folder: Path) -> bytes:
    """The report as HTML.

    Args:
        folder: holds slides/NAME/, each with measurements/ (of `wsiseg measure`), qc/ (of `wsiseg qc`) or neither, and
            perhaps run.json

    Raises:
        StoreError: there is no finished slide, or a file is damaged
    """
    run = _run(folder / RUN)
    files = _files(run)
    names = sorted(p for p in (folder / SLIDES_FOLDER).iterdir() if p.is_dir() and not p.name.endswith(".partial"))
    if not names:
        raise StoreError(f"{folder / SLIDES_FOLDER} holds no finished slide: run it first.")
    found = [_found(path, files.get(path.name)) for path in names]
    return document(
        f"Report of {folder.resolve().name}",
        f"{len(found)} slides. Made by wsiseg {__version__}.",
        _failures(run),
        _slides(found),
        _measurements(found),
        _distributions(found),
        _quality(found),
        _provenance(run),
    )


def _files(run: dict[str, Any]) -> dict[str, tuple[Path, float | None]]:
    """Name of a slide -> its file and the µm/px that the run was told, as far as run.json knows them."""
    listed = run.get("slides")
    found = {}
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("path"), str) and isinstance(entry.get("name"), str):
            mpp = entry.get("mpp")
            found[entry["name"]] = (Path(entry["path"]), mpp if isinstance(mpp, float) else None)
    return found


def _thumbnail(folder: Path, file: tuple[Path, float | None] | None) -> Picture | None:
    """The slide with its objects, small; None where the slide is no longer where the run found it."""
    if file is None or not file[0].exists():
        return None
    try:
        with open_slide(file[0], mpp=file[1]) as slide:
            pixels, frame = slide.thumbnail(THUMBNAIL_PX)
            outlines = folder / OUTLINES
            if outlines.is_file():
                read = read_all([outlines], slide)
                pixels = draw_outlines(pixels, frame, [(list(read.polygons), OWN)], slide.frame)
    except WsisegError:  # a slide that changed or went away since the run; its numbers are still worth a report
        return None
    return Picture(jpeg(pixels), f"The slide {folder.name} with its outlines")


def _found(path: Path, file: tuple[Path, float | None] | None) -> Found:
    tables, quality = path / "measurements", path / "qc"
    return Found(
        path.name,
        read_measurements(tables) if (tables / "slides.csv").is_file() else None,
        read_flags(quality) if (quality / FLAGS).is_file() else None,
        _thumbnail(path, file),
    )


def _run(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: run the slides again, or move it away.") from error
    return value if isinstance(value, dict) else {}


def _failures(run: dict[str, Any]) -> Html:
    """The slides that went wrong, and why."""
    listed = run.get("slides")
    slides = [s for s in listed if isinstance(s, dict)] if isinstance(listed, list) else []
    bad = [[str(s.get("name", "")), str(s.get("error", ""))] for s in slides if s.get("state") == "failed"]
    if not bad:
        return Html("")
    return section(
        "Failed", paragraph(f"Slides that failed: {len(bad)}.", "raised"), table("Why", ["slide", "reason"], bad)
    )


def _slides(found: list[Found]) -> Html:
    """All slides at a glance."""
    rows: list[list[Cell | Picture]] = []
    for f in found:
        raised = "not looked at" if f.flags is None else str(sum(flag["raised"] for flag in f.flags))
        size = "–"
        if f.measured is not None:
            size = shown(number(f.measured.slides.get("tissue_area_mm2", [""])[0]))
        objects = "–" if f.measured is None else str(len(f.measured.objects["slide"]))
        rows.append([f.name, f.thumbnail or "–", size, objects, raised])
    head = ["slide", "", "tissue, mm²", "objects", "raised flags"]
    return section("Slides", table("A click on a heading sorts", head, rows, "sortable"))


def _measurements(found: list[Found]) -> Html:
    profiles = list(dict.fromkeys(f.measured.profile for f in found if f.measured))
    if not profiles:
        return section("Measurements", paragraph("No slide has measurements: make them with wsiseg measure."))
    parts = []
    for profile in profiles:
        chosen = [f for f in found if f.measured is None or f.measured.profile == profile]
        there = [c for c in COLUMNS[profile] if any(f.measured and c in f.measured.slides for f in chosen)]
        rows = [
            [f.name, *("–" if f.measured is None else with_interval(f.measured.slides, column) for column in there)]
            for f in chosen
        ]
        head = ["slide", *_with_units(profile, "slides", there)]
        parts.append(table("Each slide, with 95 % intervals in brackets", head, rows, "sortable"))
    parts.append(_classes(found))
    return section("Measurements", *parts)


def _with_units(profile: str, name: str, columns: Sequence[str]) -> list[str]:
    units = {c: column.unit for c, column in declared(profile, name).items()}
    return [f"{c}, {units[c]}" if units[c] not in ("", "0 to 1") else c for c in columns]


def _classes(found: list[Found]) -> Html:
    """The classes of all slides that were measured with the generic profile."""
    rows = [
        [f.name, label, *(with_interval(f.measured.classes, column, row) for column in CLASS_COLUMNS)]
        for f in found
        if f.measured and f.measured.classes
        for row, label in enumerate(f.measured.classes["class"])
    ]
    if not rows:
        return Html("")
    head = ["slide", "class", *_with_units("generic", "classes", CLASS_COLUMNS)]
    return table("Each class on each slide, with 95 % intervals in brackets", head, rows, "sortable")


def _quantities(found: list[Found]) -> dict[str, dict[str, np.ndarray]]:
    """What is plotted -> slide -> values."""
    plots: dict[str, dict[str, np.ndarray]] = {}
    for f in found:
        if f.measured is None:
            continue
        objects = f.measured.objects
        if f.measured.profile == "kidney":
            for column, quantity in (
                ("area_um2", "area of glomeruli, µm²"),
                ("podocyte_density_per_1e6_um3", "podocytes per 10⁶ µm³"),
            ):
                if column in objects:
                    plots.setdefault(quantity, {})[f.name] = numbers(objects[column])
        else:
            for label in dict.fromkeys(objects["class"]):
                area = [a for a, other in zip(objects["area_um2"], objects["class"], strict=True) if other == label]
                plots.setdefault(f"area of {label or 'objects without a class'}, µm²", {})[f.name] = numbers(area)
    return plots


def _distributions(found: list[Found]) -> Html:
    plots = []
    for quantity, values in _quantities(found).items():
        shown_values = dict(list(values.items())[:MOST_LINES])
        if not any(len(v) for v in shown_values.values()):
            continue
        everything = np.concatenate(list(values.values()))
        says = f"{quantity}: {len(everything)} objects, median {shown(float(np.median(everything)))}"
        if len(values) > MOST_LINES:
            says += f"; the first {MOST_LINES} of {len(values)} slides are shown"
        svg = charts.by_slide(shown_values, quantity)
        plots.append(picture("image/svg+xml", svg, f"A dot for each object. {says}", says))
    return section("Distributions", *plots) if plots else Html("")


def _quality(found: list[Found]) -> Html:
    looked = [f for f in found if f.flags is not None]
    if not looked:
        return section("Quality", paragraph("Quality was not looked at: use wsiseg qc."))
    rows = [
        [f.name, " ".join(str(flag["says"]) for flag in f.flags or [] if flag["raised"]) or "no flag"] for f in looked
    ]
    return section("Quality", table("Flags that are raised", ["slide", "flags"], rows))


def _provenance(run: dict[str, Any]) -> Html:
    if not run:
        return section(
            "Where it comes from", paragraph("There is no run.json: nothing says how the results were made.")
        )
    about = {key: value for key, value in run.items() if key != "slides"}
    return section("Where it comes from", table("run.json", ["key", "value"], flattened(about)))
