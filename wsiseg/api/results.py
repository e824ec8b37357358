"""What the functions of `wsiseg.api` return besides polygons."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsiseg.api.drawing import plot, table_html
from wsiseg.api.polygons import Polygons
from wsiseg.evaluation.evaluate import render
from wsiseg.extras import require_extra
from wsiseg.geometry import Box
from wsiseg.stores.tiles import TileStore

if TYPE_CHECKING:
    from wsiseg.bundle import ModelBundle

MATCHED, MISSED, UNMATCHED = (0, 158, 115), (213, 94, 0), (0, 114, 178)  # of the palette


@dataclass(frozen=True, slots=True)
class Tiles:
    """Stored tiles.

    Attributes:
        store: their pixels and labels
        path: the folder
    """

    store: TileStore
    path: Path

    def __len__(self) -> int:
        return len(self.store)

    def _repr_html_(self) -> str:
        grid = self.store.grid
        rows = (("tiles", len(self)), ("width", f"{grid.size} px"), ("resolution", f"{grid.frame.mpp:g} µm/px"))
        return table_html(self.path.name, (*rows, ("labels", "yes" if self.store.labelled else "no")))

    def plot(self, number: int = 16) -> Any:
        """Draw some tiles, evenly spread over all; returns the figure."""
        require_extra("matplotlib", "A plot")
        import matplotlib.pyplot as plt

        chosen = np.unique(np.linspace(0, len(self) - 1, min(number, len(self))).astype(int))
        columns = min(4, len(chosen))
        lines = -(-len(chosen) // columns)
        figure, axes = plt.subplots(lines, columns, figsize=(1.8 * columns, 1.8 * lines), squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
        for ax, i in zip(axes.flat, chosen, strict=False):
            ax.imshow(self.store.image(int(i)))
        figure.tight_layout()
        return figure


@dataclass(frozen=True, slots=True)
class Training:
    """A finished training.

    Attributes:
        model: the bundle
        run: the run's folder, with logs, pictures and the checkpoint
    """

    model: ModelBundle
    run: Path

    def _repr_html_(self) -> str:
        rows = [("classes", ", ".join(self.model.classes.names[1:])), ("resolution", f"{self.model.usage.mpp:g} µm/px")]
        rows += [(name, f"{value:.3g}") for name, value in self.model.metrics.items()]
        return table_html(self.model.name, rows)

    @property
    def log(self) -> dict[str, tuple[list[int], list[float]]]:
        """Name of a metric -> steps and values."""
        found: dict[str, tuple[list[int], list[float]]] = {}
        with (self.run / "log.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                steps, values = found.setdefault(row["name"], ([], []))
                steps.append(int(row["step"]))
                values.append(float(row["value"]))
        return found

    def plot(self) -> Any:
        """Draw the loss, and the Dice of each class on the validation slides; returns the figure."""
        require_extra("matplotlib", "A plot")
        import matplotlib.pyplot as plt

        log = self.log
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
        left.plot(*log["loss"])
        left.set(title="loss", xlabel="step")
        for name, line in log.items():
            if name.endswith("/dice"):
                right.plot(*line, marker="o", label=name.removesuffix("/dice"))
        right.set(title="Dice, validation slides", xlabel="step", ylim=(0, 1))
        if right.lines:
            right.legend(fontsize="small")
        return figure


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction compared with a reference.

    Attributes:
        metrics: as `wsiseg evaluate --json` prints them
        found: objects of the prediction that match one of the reference
        missed: objects of the reference without a partner
        unmatched: objects of the prediction without a partner; where annotations are incomplete, not all are wrong
        ious: IoU of each object in `found`
    """

    metrics: Mapping[str, Any]
    found: Polygons
    missed: Polygons
    unmatched: Polygons
    ious: tuple[float, ...]

    def __str__(self) -> str:
        return render(dict(self.metrics))

    def _repr_html_(self) -> str:
        rows = [("found", len(self.found)), ("missed", len(self.missed)), ("unmatched", len(self.unmatched))]
        return table_html("objects", rows)

    def plot(self, *, box: Box | None = None, ax: Any = None) -> Any:
        """Draw found objects in green, missed ones in orange and unmatched ones in blue; returns the axes."""
        layers = {"found": self.found, "missed": self.missed, "unmatched": self.unmatched}
        axes = plot(self.found.slide or Path(), *layers.values(), box=box, colours=(MATCHED, MISSED, UNMATCHED), ax=ax)
        from matplotlib.lines import Line2D

        colours = (MATCHED, MISSED, UNMATCHED)
        lines = [Line2D([], [], color=(r / 255, g / 255, b / 255)) for r, g, b in colours]
        axes.legend(lines, [f"{name} ({len(layers[name])})" for name in layers], loc="upper right", fontsize="small")
        return axes


class Tables(dict[str, dict[str, np.ndarray]]):
    """Measurements: name of a table -> name of a column -> values, as the columns of docs/measurements.md."""

    def _repr_html_(self) -> str:
        rows = [(name, len(next(iter(table.values()), ())), len(table)) for name, table in self.items()]
        return table_html("measurements", rows, ("table", "rows", "columns"))

    def plot(self, table: str, column: str, *, ax: Any = None) -> Any:
        """Draw one column as a histogram from ten values on, else as points; returns the axes."""
        require_extra("matplotlib", "A plot")
        import matplotlib.pyplot as plt

        values = np.asarray(self[table][column], float)
        values = values[np.isfinite(values)]
        if ax is None:
            _, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
        if len(values) < 10:
            ax.plot(values, np.zeros(len(values)), "o", alpha=0.7)
            ax.set_yticks([])
        else:
            ax.hist(values, bins="auto")
            ax.set_ylabel(table)
        ax.set_xlabel(column)
        return ax
