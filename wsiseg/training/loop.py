"""The loop: batches in, figures out, and a checkpoint now and then. It owns time and knows nothing of any method."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from wsiseg.errors import WsisegError
from wsiseg.methods.method import Batch, Method

LOG_EVERY = 20  # steps


class Log:
    """Every figure as a line of `log.csv` (step, name, value), and in TensorBoard."""

    def __init__(self, folder: Path, start: int) -> None:
        """Open the log; lines of steps after `start` (a run that went on past its last checkpoint) are dropped."""
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.csv"
        kept = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                kept = [row for row in csv.reader(file) if row[0].isdigit() and int(row[0]) <= start]
        self._file = self.path.open("w", newline="")
        self._csv = csv.writer(self._file)
        self._csv.writerows([["step", "name", "value"], *kept])
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Add figures of a step."""
        for name, value in figures.items():
            self._csv.writerow([step, name, f"{value:.6g}"])
            self._board.add_scalar(name, value, step)
        self._file.flush()

    def picture(self, step: int, pixels: torch.Tensor) -> None:
        """Add a picture, (h, w, 3) uint8, to TensorBoard."""
        self._board.add_image("validation", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        self._board.close()


def fit(
    method: Method,
    labelled: Iterable[Batch],
    unlabelled: Iterable[Batch] | None,
    *,
    steps: range,
    total: int,
    seed: int,
    log: Log | None,
    evaluate: Callable[[int], None],
    evaluate_every: int,
    checkpoint: Callable[[int], None],
    checkpoint_every: int,
    progress: Callable[[int, dict[str, float]], None],
) -> None:
    """Train over a range of steps.

    Args:
        method: what learns
        labelled, unlabelled: one batch per step of `steps`, in order
        steps: those still to do; a resumed run starts in the middle
        total: steps of the whole run, from which the method's progress follows
        seed: with the step it fixes all randomness of that step
        log: takes the mean of each figure over every few steps; None in all processes but the first
        evaluate, evaluate_every: called after every so many steps, and after the last
        checkpoint, checkpoint_every: likewise
        progress: told the step and its latest figures

    Raises:
        WsisegError: a loss is no longer a finite number
    """
    second = iter(unlabelled) if unlabelled is not None else None
    seen: dict[str, list[float]] = {}  # not every figure is there in every step
    count, waited, busy = 0, 0.0, 0.0  # seconds spent waiting for batches and learning from them
    asked = time.perf_counter()
    for step, batch in zip(steps, labelled, strict=True):
        extra = next(second) if second is not None else None
        got = time.perf_counter()
        # Dropout and augmentation of a step depend on nothing before it, so there is no random state to save.
        torch.manual_seed((seed << 32) + step)
        figures = method.update(batch, extra, step / total)
        bad = [name for name, value in figures.items() if not math.isfinite(value)]
        if bad:
            raise WsisegError(
                f"At step {step} {bad[0]} is no longer a number: lower the learning_rate and start anew (--overwrite)."
            )
        for name, value in figures.items():
            seen.setdefault(name, []).append(value)
        done, count = step + 1, count + 1
        waited, busy = waited + got - asked, busy + time.perf_counter() - got
        if done % LOG_EVERY == 0 or done == total:
            means = {name: sum(values) / len(values) for name, values in seen.items()}
            pace = {"waiting": waited / (waited + busy), "steps_per_second": count / (waited + busy)}
            if log is not None:
                log.write(done, means | pace)
            seen, count, waited, busy = {}, 0, 0.0, 0.0
        progress(done, figures)
        if done % evaluate_every == 0 or done == total:
            evaluate(done)
        if done % checkpoint_every == 0 or done == total:
            checkpoint(done)
        asked = time.perf_counter()
