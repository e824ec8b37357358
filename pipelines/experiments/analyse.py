"""From per-slide counts to the tables and the plot of the experiment.

    python pipelines/experiments/analyse.py docs/results/semi-supervised/per-slide.csv

reads what `semi_supervised.py table` wrote and puts beside it

    per-seed.csv   Dice, recall, precision and F1 of each arm and seed, pooled over the test slides
    tables.md      means over seeds; paired differences with intervals over resampled seeds and slides, sign-flip tests
    seeds.png      every seed of every arm
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FIGURES = ("dice", "recall", "precision", "f1")
DRAWS = 10_000
PAIRS = (
    ("adversarial", "supervised"), ("adversarial", "adversarial-placebo"), ("patch", "supervised"),
    ("consistency", "supervised"), ("consistency", "consistency-placebo"), ("consistency", "adversarial"),
    ("mean_teacher", "supervised"), ("self_training", "supervised"), ("oracle", "supervised"),
    ("supervised-long", "supervised"), ("consistency", "supervised-long"),
    ("adversarial-2um", "supervised-2um"), ("consistency-2um", "supervised-2um"),
)  # fmt: skip

Counts = dict[tuple[str, int], np.ndarray]  # (arm, seed) -> (slides, 6) of one class and number of outlined slides


def figures(counts: np.ndarray) -> np.ndarray:
    """(…, 4) Dice, recall, precision and F1 of (…, slides, 6) counts, pooled over the slides; NaN where undefined."""
    both, truth, said, found, missed, unmatched = np.moveaxis(counts.sum(-2), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            [2 * both / (truth + said), found / (found + missed), found / (found + unmatched),
             2 * found / (2 * found + missed + unmatched)], -1,
        )  # fmt: skip


def read(path: Path) -> dict[tuple[int, str], Counts]:
    """(outlined slides, class) -> counts, the slides of all runs in one order."""
    rows: dict[tuple[int, str], dict[tuple[str, int], dict[str, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    with path.open(newline="") as file:
        for r in csv.DictReader(file):
            values = [float(r[k]) for k in ("both_px", "truth_px", "said_px", "found", "missed", "unmatched")]
            rows[int(r["labelled"]), r["class"]][r["arm"], int(r["seed"])][r["slide"]] = values
    return {
        key: {run: np.array([slides[s] for s in sorted(slides)]) for run, slides in runs.items()}
        for key, runs in rows.items()
    }


def paired(counts: Counts, arm: str, other: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Seeds that both arms have, and their counts (seeds, slides, 6)."""
    seeds = sorted({s for a, s in counts if a == arm} & {s for a, s in counts if a == other})
    return seeds, np.array([counts[arm, s] for s in seeds]), np.array([counts[other, s] for s in seeds])


def difference(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean paired difference of the four figures, and its 95 % interval (2, 4) over resampled seeds and slides."""
    seeds, slides = a.shape[:2]
    drawn = np.empty((DRAWS, 4))
    for i in range(DRAWS):
        pick = np.ix_(rng.integers(seeds, size=seeds), rng.integers(slides, size=slides))
        drawn[i] = np.nanmean(figures(a[pick]) - figures(b[pick]), 0)
    return np.nanmean(figures(a) - figures(b), 0), np.nanpercentile(drawn, [2.5, 97.5], 0)


def sign_flip(differences: np.ndarray) -> float:
    """Two-sided exact p of the mean of n paired differences under all 2^n changes of sign."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    means = np.abs(signs @ differences)
    return float((means >= abs(differences.sum()) - 1e-12).mean())


def tables(found: dict[tuple[int, str], Counts]) -> str:
    """All tables in Markdown."""
    rng = np.random.default_rng(0)
    lines: list[str] = []
    for (labelled, name), counts in sorted(found.items(), key=lambda item: (-item[0][0], item[0][1] != "any")):
        lines += [f"## {labelled} outlined slides, {'any object' if name == 'any' else name}", ""]
        lines += ["| arm | seeds | Dice | recall | precision | F1 |", "|---|---|---|---|---|---|"]
        for arm in dict.fromkeys(a for a, _ in counts):
            values = np.array([figures(c) for (a, _), c in counts.items() if a == arm])
            cells = (f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0), values.std(0), strict=True))
            lines.append(f"| {arm} | {len(values)} | {' | '.join(cells)} |")
        lines += ["", "| difference | seeds | Dice | p | recall | p |", "|---|---|---|---|---|---|"]
        for arm, other in PAIRS:
            seeds, a, b = paired(counts, arm, other)
            if not seeds:
                continue
            mean, interval = difference(a, b, rng)
            each = figures(a) - figures(b)
            cells = [
                f"{mean[i]:+.3f} ({interval[0, i]:+.3f} to {interval[1, i]:+.3f}) | {sign_flip(each[:, i]):.3f}"
                for i in (0, 1)
            ]
            lines.append(f"| {arm} - {other} | {len(seeds)} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def plot(found: dict[tuple[int, str], Counts], out: Path) -> None:
    """Dice and recall of any object: a point for each seed, a bar for the mean."""
    numbers = sorted({n for n, name in found if name == "any"}, reverse=True)
    figure, axes = plt.subplots(2, len(numbers), figsize=(5.5 * len(numbers), 7), squeeze=False, layout="constrained")
    for column, labelled in enumerate(numbers):
        counts = found[labelled, "any"]
        arms = list(dict.fromkeys(a for a, _ in counts))
        for row, name in enumerate(("Dice", "recall of objects")):
            ax = axes[row][column]
            for x, arm in enumerate(arms):
                values = [figures(c)[row] for (a, _), c in counts.items() if a == arm]
                ax.plot(np.full(len(values), x), values, "o", color="#0072B2", alpha=0.6)
                ax.plot([x - 0.3, x + 0.3], [np.mean(values)] * 2, color="#D55E00", lw=2)
            ax.set_xticks(range(len(arms)), arms, rotation=40, ha="right")
            ax.set_ylabel(f"{name}, any object")
            ax.set_title(f"{labelled} outlined slides")
            ax.grid(axis="y", alpha=0.3)
    figure.savefig(out, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("per_slide", type=Path)
    path = parser.parse_args().per_slide
    found = read(path)
    with path.with_name("per-seed.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["labelled", "class", "arm", "seed", *FIGURES])
        for (labelled, name), counts in sorted(found.items()):
            for (arm, seed), c in sorted(counts.items()):
                writer.writerow([labelled, name, arm, seed, *(f"{v:.4f}" for v in figures(c))])
    path.with_name("tables.md").write_text(tables(found))
    plot(found, path.with_name("seeds.png"))


if __name__ == "__main__":
    main()
