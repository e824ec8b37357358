"""The report of a training run: losses, the probe of the discriminator, metrics on validation slides, predictions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsiseg import __version__
from wsiseg.errors import StoreError
from wsiseg.json_text import read_json
from wsiseg.report import charts
from wsiseg.report.page import Html, document, paragraph, picture, row, section, subsection, table
from wsiseg.report.slide import flattened
from wsiseg.report.tables import number, shown

RECIPE, LOG = "recipe.json", "log.csv"
MOST_PICTURES = 5
PROBE = "probe_auc"
PACE = ("waiting", "steps_per_second", "learning_rate")

Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of `wsiseg train`."""
    return (folder / RECIPE).is_file() and (folder / LOG).is_file()


def training_report(folder: Path) -> bytes:
    """The report as HTML.

    Args:
        folder: of the run; what it does not hold yet is left out

    Raises:
        StoreError: the recipe or the log is damaged
    """
    recipe = _recipe(folder / RECIPE)
    curves = read_log(folder / LOG)
    last = max((int(steps[-1]) for steps, _ in curves.values()), default=0)
    losses = {n: c for n, c in curves.items() if "/" not in n and n not in (PROBE, *PACE)}
    metrics = {n: c for n, c in curves.items() if "/" in n}
    parts = [
        _metrics(metrics),
        section("Losses and other numbers of the method", row(_one(name, curve) for name, curve in losses.items())),
        _probe(curves.get(PROBE)),
        section("Pace", row(_one(name, curves[name]) for name in PACE if name in curves)),
        _pictures(folder / "pictures"),
        _model(folder / "model" / "model.json"),
        section("Recipe", table("All keys, defaults filled in", ["key", "value"], flattened(recipe))),
    ]
    says = f"{last} steps are in the log. Made by wsiseg {__version__}."
    return document(f"Training run {recipe.get('name', folder.name)}", says, *parts)


def _recipe(path: Path) -> Mapping[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: name the folder of a run of `wsiseg train`.") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged: name the folder of a run of `wsiseg train`.")
    return value


def read_log(path: Path) -> Curves:
    """Name -> (steps, values), in the order of the log; a last line that is still being written is left out.

    Raises:
        StoreError: it cannot be read, or is not a log of a run
    """
    found: dict[str, tuple[list[float], list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path} cannot be read: name the folder of a run of `wsiseg train`.") from error
    if not lines or lines[0] != ["step", "name", "value"]:
        raise StoreError(f"{path} is not a log of `wsiseg train`: name the folder of a run.")
    for place, line in enumerate(lines[1:], 2):
        step, value = (number(line[0]), number(line[2])) if len(line) == 3 else (None, None)
        if step is None or value is None:
            if place == len(lines):
                break
            raise StoreError(f"{path} is damaged in line {place}: train again, or repair that line.")
        steps, values = found.setdefault(line[1], ([], []))
        steps.append(step)
        values.append(value)
    return {name: (np.array(steps), np.array(values)) for name, (steps, values) in found.items()}


def _says(name: str, curve: tuple[np.ndarray, np.ndarray]) -> str:
    steps, values = curve
    return (
        f"{name}: {shown(float(values[0]))} at step {steps[0]:.0f}, {shown(float(values[-1]))} at step {steps[-1]:.0f}"
    )


def _one(name: str, curve: tuple[np.ndarray, np.ndarray]) -> Html:
    svg = charts.curves({name: curve}, name)
    return picture("image/svg+xml", svg, f"Curve of {_says(name, curve)}", _says(name, curve))


def _metrics(metrics: Curves) -> Html:
    """IoU and F1 of each class over the steps, and all metrics of the last evaluation."""
    if not metrics:
        return section(
            "On the validation slides", paragraph("There was no evaluation yet, or there are no such slides.")
        )
    plots = []
    for key, title in (("iou", "IoU"), ("f1", "F1 (Dice)")):
        lines = {n.rsplit("/", 1)[0]: c for n, c in metrics.items() if n.endswith(f"/{key}")}
        alt = f"{title} of each class over the steps; " + "; ".join(_says(n, c) for n, c in lines.items())
        plots.append(picture("image/svg+xml", charts.curves(lines, title, fraction=True), alt, title))
    keys = ("iou", "precision", "recall", "f1")
    names = dict.fromkeys(n.rsplit("/", 1)[0] for n in metrics)
    step = max(c[0][-1] for c in metrics.values())
    rows = [[n, *(_at(metrics.get(f"{n}/{key}"), step) for key in keys)] for n in names]
    head = ["class", "IoU", "precision", "recall", "F1 (Dice)"]
    return section("On the validation slides", row(plots), table(f"At step {step:.0f}", head, rows))


def _at(curve: tuple[np.ndarray, np.ndarray] | None, step: float) -> str:
    """A metric of one step; a dash where that step has none."""
    return shown(float(curve[1][-1]) if curve is not None and curve[0][-1] == step else None)


def _probe(curve: tuple[np.ndarray, np.ndarray] | None) -> Html:
    if curve is None:
        return Html("")
    says = (
        "How well the sharpness of a map alone tells a true one from a predicted one (area under the ROC curve). "
        "Near 1 the discriminator can win without looking at the image, near 0.5 it cannot."
    )
    svg = charts.curves({PROBE: curve}, "area under the curve", fraction=True)
    return section(
        "Probe of the discriminator",
        paragraph(says),
        picture("image/svg+xml", svg, _says("Probe", curve), _says("Probe", curve)),
    )


def _pictures(folder: Path) -> Html:
    """Some of the validation pictures, first and last among them."""
    there = sorted(folder.glob("step-*.png"))
    if not there:
        return Html("")
    chosen = [there[i] for i in sorted({round(i) for i in np.linspace(0, len(there) - 1, MOST_PICTURES)})]
    parts = []
    for path in chosen:
        step = path.stem.removeprefix("step-").lstrip("0") or "0"
        alt = f"Validation tiles at step {step}: columns of image, reference and prediction"
        parts.append(
            subsection(f"Step {step}", picture("image/png", path.read_bytes(), alt, "Image, reference, prediction"))
        )
    return section("Predictions over time", *parts)


def _model(path: Path) -> Html:
    if not path.is_file():
        return section("Model", paragraph("The run has not written its model yet."))
    about = dict(_recipe(path))
    provenance = about.get("provenance")
    if isinstance(provenance, dict):  # the recipe stands below as a whole
        about["provenance"] = {key: value for key, value in provenance.items() if key != "recipe"}
    return section("Model", table("model.json", ["key", "value"], flattened(about)))
