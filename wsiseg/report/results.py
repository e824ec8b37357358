"""The report of many slides: a folder with one folder of results for each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg import __version__
from wsiseg.errors import StoreError
from wsiseg.measure.columns import SLIDES
from wsiseg.qc.files import FLAGS
from wsiseg.report import charts
from wsiseg.report.page import Html, document, paragraph, picture, section, table
from wsiseg.report.quality import Flags, read_flags
from wsiseg.report.slide import flattened
from wsiseg.report.tables import Measurements, number, numbers, read_measurements, shown

RUN, SLIDES_FOLDER = "run.json", "slides"
MOST_LINES = 60  # slides in a plot
COLUMNS = ("tissue_area_mm2", "glomeruli", "sclerotic_share", "mean_area_um2", "mean_podocyte_density_per_1e6_um3")
UNITS = {column.name: column.unit for column in SLIDES}


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of one slide; None for what there is not."""

    name: str
    measured: Measurements | None
    flags: Flags | None


def is_results(folder: Path) -> bool:
    """Whether a folder holds results of many slides."""
    return (folder / SLIDES_FOLDER).is_dir()


def results_report(folder: Path) -> bytes:
    """The report as HTML.

    Args:
        folder: holds slides/NAME/, each with measurements/ (of `wsiseg measure`), qc/ (of `wsiseg qc`) or neither, and
            perhaps run.json

    Raises:
        StoreError: there is no finished slide, or a file is damaged
    """
    names = sorted(p for p in (folder / SLIDES_FOLDER).iterdir() if p.is_dir() and not p.name.endswith(".partial"))
    if not names:
        raise StoreError(f"{folder / SLIDES_FOLDER} holds no finished slide: run it first.")
    found = [_found(path) for path in names]
    run = _run(folder / RUN)
    return document(
        f"Report of {folder.resolve().name}",
        f"{len(found)} slides. Made by wsiseg {__version__}.",
        _failures(run),
        _figures(found),
        _distributions(found),
        _quality(found),
        _provenance(run),
    )


def _found(path: Path) -> Found:
    tables, quality = path / "measurements", path / "qc"
    return Found(
        path.name,
        read_measurements(tables) if (tables / "slides.csv").is_file() else None,
        read_flags(quality) if (quality / FLAGS).is_file() else None,
    )


def _run(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
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


def _figures(found: list[Found]) -> Html:
    there = [c for c in COLUMNS if any(f.measured and c in f.measured.slides for f in found)]
    if not there:
        return section("Key figures", paragraph("No slide has measurements: make them with wsiseg measure."))
    rows = [[f.name, *(_cell(f.measured, column) for column in there)] for f in found]
    head = ["slide", *(f"{c}, {UNITS[c]}" if UNITS[c] not in ("", "0 to 1") else c for c in there)]
    return section("Key figures", table("Of each slide; in brackets 95 % intervals over its glomeruli", head, rows))


def _cell(measured: Measurements | None, column: str) -> str:
    if measured is None or column not in measured.slides:
        return "–"
    value = number(measured.slides[column][0])
    ends = [number(measured.slides.get(f"{column}_{end}", [""])[0]) for end in ("low", "high")]
    return shown(value) if None in ends else f"{shown(value)} ({shown(ends[0])} to {shown(ends[1])})"


def _distributions(found: list[Found]) -> Html:
    plots = []
    for column, quantity in (
        ("area_um2", "area of glomeruli, µm²"),
        ("podocyte_density_per_1e6_um3", "podocytes per 10⁶ µm³"),
    ):
        values = {
            f.name: numbers(f.measured.glomeruli[column])
            for f in found
            if f.measured and column in f.measured.glomeruli
        }
        shown_values = dict(list(values.items())[:MOST_LINES])
        if not any(len(v) for v in shown_values.values()):
            continue
        everything = np.concatenate(list(values.values()))
        says = f"{quantity}: {len(everything)} glomeruli, median {shown(float(np.median(everything)))}"
        if len(values) > MOST_LINES:
            says += f"; the first {MOST_LINES} of {len(values)} slides are shown"
        plots.append(
            picture(
                "image/svg+xml", charts.by_slide(shown_values, quantity), f"A dot for each glomerulus. {says}", says
            )
        )
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
