"""The log of a training run: a CSV for tables, and TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import torch

from wsiseg.atomic import atomic_write


class Log:
    """Every metric as a line of `log.csv` (step, name, value), and in TensorBoard."""

    def __init__(self, folder: Path, start: int) -> None:
        """Open the log; lines of steps after `start` (a run that went on past its last checkpoint) are dropped."""
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.csv"
        kept = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                kept = [row for row in csv.reader(file) if row[0].isdigit() and int(row[0]) <= start]
        text = io.StringIO(newline="")
        csv.writer(text).writerows([["step", "name", "value"], *kept])
        with atomic_write(self.path) as sink:  # a kill while the file is rewritten loses no earlier line
            sink.write(text.getvalue().encode())
        self._file = self.path.open("a", newline="")
        self._csv = csv.writer(self._file)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add metrics of a step."""
        for name, value in metrics.items():
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
