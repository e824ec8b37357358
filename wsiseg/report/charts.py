"""Plots as SVG: reproducible bytes, colours of Okabe and Ito, lines that differ in their dashes as well."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wsiseg.classes import PALETTE
from wsiseg.evaluation.agreement import Agreement

COLOURS = tuple((red / 255, green / 255, blue / 255) for red, green, blue in PALETTE)
FEW = 10  # values of which a histogram would tell less than the points themselves
LINES = ("-", "--", "-.", ":")
# Text as curves: the page looks the same where no font is installed. The salt makes ids the same in every run.
LOOK: Any = {
    "svg.hashsalt": "wsiseg", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True,
}  # fmt: skip

Numbers = NDArray[np.float64]


@contextmanager
def _plot(width: float, height: float, **look: Any) -> Iterator[tuple[Axes, io.BytesIO]]:
    """Axes of so many inches to draw on, and the SVG, which is there when the block has ended."""
    svg = io.BytesIO()
    with matplotlib.rc_context(LOOK | look):
        figure = Figure(figsize=(width, height))
        yield figure.add_subplot(), svg
        figure.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches="tight")


def _plain(label: str) -> str:
    """A name as plain text: a dollar sign starts no formula, and long names are cut."""
    label = label.encode("utf-8", "replace").decode()  # no font has half a surrogate pair
    short = label if len(label) <= 60 else label[:57] + "…"
    return short.replace("\\", "\\\\").replace("$", r"\$")


def distribution(values: Numbers, quantity: str, colour: int = 0) -> tuple[str, bytes]:
    """How numbers are distributed: a histogram of `FEW` or more, else a strip with a point for each.

    Args:
        values: (n,) finite numbers, n above 0
        quantity: what they are, with its unit
        colour: place in the palette

    Returns:
        what kind of plot it is, in words, and the plot as SVG
    """
    own = COLOURS[colour % len(COLOURS)]
    few = len(values) < FEW
    with _plot(5, 1.3 if few else 3) as (axes, svg):
        if few:
            axes.scatter(values, np.zeros(len(values)), s=40, color=own, alpha=0.7, edgecolors="white", linewidths=0.5)
            axes.plot([np.median(values)] * 2, [-0.5, 0.5], color="#444444", linewidth=1.2)
            axes.set_ylim(-1, 1)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        else:
            axes.hist(values, _edges(values).tolist(), color=own, edgecolor="white", linewidth=0.5)
            axes.set_ylabel("number")
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(_plain(quantity))
    return ("One point for each object, and a line at the median" if few else "Histogram"), svg.getvalue()


def _edges(values: Numbers) -> Numbers:
    """Edges of 5 to 30 bins; of one where all values are the same, as far as a float can tell."""
    low, high = float(values.min()), float(values.max())
    bins = min(30, max(5, round(2 * math.sqrt(len(values)))))
    slack = max(abs(low), abs(high), 1.0)
    if high - low <= 1e-9 * slack:
        return np.array([low - 0.05 * slack, high + 0.05 * slack])
    return np.linspace(low, high, bins + 1)


def curves(lines: Mapping[str, tuple[Numbers, Numbers]], quantity: str, *, fraction: bool = False) -> bytes:
    """Numbers over the steps of a training run, as SVG.

    Args:
        lines: name -> (steps, values)
        quantity: what the values are
        fraction: they lie between 0 and 1
    """
    with _plot(5, 3) as (axes, svg):
        for i, (name, (steps, values)) in enumerate(lines.items()):
            mark = "o" if len(steps) <= 20 else ""
            axes.plot(
                steps, values, label=_plain(name), color=COLOURS[i % len(COLOURS)], linewidth=1.5,
                linestyle=LINES[i // len(COLOURS) % len(LINES)], marker=mark, markersize=4,
            )  # fmt: skip
        if fraction:
            axes.set_ylim(0, 1.02)
        axes.set_xlabel("step")
        axes.set_ylabel(_plain(quantity))
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8)
    return svg.getvalue()


def bland_altman(reference: Numbers, said: Numbers, found: Agreement, quantity: str) -> bytes:
    """Differences over means, with bias and limits of agreement, as SVG.

    Args:
        reference, said: (n,) pairs
        found: their agreement, n above 1
        quantity: what was measured, with its unit
    """
    assert found.bias is not None
    assert found.lower is not None
    assert found.upper is not None
    with _plot(5, 3.4) as (axes, svg):
        axes.scatter((reference + said) / 2, said - reference, s=14, color=COLOURS[0], alpha=0.8)
        for value, line, name in (
            (found.bias, "-", "bias"),
            (found.upper, "--", "limits of agreement"),
            (found.lower, "--", None),
        ):
            axes.axhline(value, color=COLOURS[1], linestyle=line, linewidth=1.2, label=name)
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.set_xlabel(f"mean of both, {quantity}")
        axes.set_ylabel("prediction minus reference")
        axes.legend(frameon=False, fontsize=8)
    return svg.getvalue()


def confusion(matrix: NDArray[np.int64], names: Sequence[str]) -> bytes:
    """A confusion matrix as SVG: fractions of the reference class in colour and as text, reference by rows."""
    total = matrix.sum(1, keepdims=True)
    fraction = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    side = 1.6 + 0.8 * len(names)
    with _plot(side + 1, side, **{"axes.grid": False}) as (axes, svg):
        axes.imshow(fraction, cmap="cividis", vmin=0, vmax=1)
        for r, c in np.ndindex(fraction.shape):
            value = f"{fraction[r, c]:.3f}" if total[r] else "–"
            axes.text(c, r, value, ha="center", va="center", color="black" if fraction[r, c] > 0.5 else "white")
        labels = [_plain(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=30, ha="right")
        axes.set_yticks(range(len(names)), labels)
        axes.set_xlabel("predicted")
        axes.set_ylabel("reference")
    return svg.getvalue()


def by_slide(values: Mapping[str, Numbers], quantity: str) -> bytes:
    """Every number as a dot in the line of its slide, and the median as a bar, as SVG."""
    with _plot(6, 1 + 0.22 * len(values)) as (axes, svg):
        for line, numbers in enumerate(values.values()):
            axes.scatter(numbers, np.full(len(numbers), line), s=10, color=COLOURS[0], alpha=0.6)
            if len(numbers):
                axes.plot([np.median(numbers)] * 2, [line - 0.35, line + 0.35], color=COLOURS[1], linewidth=2)
        axes.set_yticks(range(len(values)), [_plain(name) for name in values], fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel(quantity)
    return svg.getvalue()
