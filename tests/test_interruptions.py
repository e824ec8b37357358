"""What comes from outside while a command works: a slide that changes, SIGTERM, what another machine left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.command import Command, wsiseg
from tests.slides.make import texture, write_tiff
from tests.test_predict import BUNDLE, ColourRule
from wsiseg.errors import BusyError, SlideError
from wsiseg.grid import Grid
from wsiseg.inference.predict import PredictOptions, predict_slide
from wsiseg.progress import Progress
from wsiseg.selection.select import Selection
from wsiseg.selection.tiling import tile_slide
from wsiseg.slides.open import open_slide
from wsiseg.stores.reservation import partial_path, reserve
from wsiseg.stores.tiles import TileStore


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "slide.tif"
    write_tiff(path, [texture(1200, 1600)], mpp=1.0, compression="none")
    return path


class Spoiler(ColourRule):
    """Writes into the slide, in place, while it is predicted."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        if self.calls == 1:
            spoil(self.path)
        return super().probabilities(images)


def spoil(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 255]))


def test_a_slide_that_changes_while_it_is_predicted(slide: Path, tmp_path: Path) -> None:
    options = PredictOptions(tmp_path / "out.geojson", tmp_path / "labels.zarr", Selection(tissue=False))
    with open_slide(slide) as opened, pytest.raises(SlideError, match=r"slide\.tif has changed since it was opened"):
        predict_slide(opened, BUNDLE, Spoiler(slide), options)
    assert not options.out.exists()
    assert not (tmp_path / "labels.zarr").exists(), "nothing looks finished"


def test_a_slide_that_changes_while_it_is_tiled(slide: Path, tmp_path: Path) -> None:
    def report(progress: Progress) -> None:
        if progress.done == progress.total:
            spoil(slide)

    with open_slide(slide) as opened:
        grid = Grid(opened.frame, 256)
        with pytest.raises(SlideError, match="changed"):
            tile_slide(opened, grid, list(grid), tmp_path / "s.zarr", report=report)
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_ends_a_command_as_ctrl_c_does(slide: Path, tmp_path: Path, number: int) -> None:
    words = ["tile", slide, "--size", "32", "--no-tissue", "--quiet"]
    words += ["--out", tmp_path / "s.zarr", "--log-json", tmp_path / "log.jsonl"]
    command, until = Command(*words), time.monotonic() + 60
    while not partial_path(tmp_path / "s.zarr").exists() and time.monotonic() < until:
        time.sleep(0.02)
    command.signal(number)
    stopped = command.end(60)
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.strip() == "Stopped. Finished work is kept; the same command goes on from there."
    assert not (tmp_path / "s.zarr").exists()
    again = wsiseg(*words)
    assert again.returncode == 0, again.stderr
    assert len(TileStore(tmp_path / "s.zarr")) == 38 * 50


HOLD = "import sys; from pathlib import Path; from wsiseg.stores.reservation import reserve\n" \
    "with reserve(Path(sys.argv[1]), {'made': 'from this'}) as folder:\n" \
    "    (folder / 'work').write_text('half'); print('ready', flush=True); sys.stdin.read()\n"  # fmt: skip


def test_what_another_machine_or_a_dead_process_reserved_is_taken_over(tmp_path: Path) -> None:
    """A reservation names no host and no process: the lock alone counts, and the kernel drops it with its holder."""
    final = tmp_path / "out"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, final], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(BusyError), reserve(final, {"made": "from this"}):
            pass
        shutil.copytree(partial_path(final), partial_path(tmp_path / "copied"))  # as a disk of another machine has it
        with reserve(tmp_path / "copied", {"made": "from this"}) as folder:
            assert folder is not None
            assert (folder / "work").read_text() == "half"
    finally:
        holder.kill()
        holder.communicate()
    with reserve(final, {"made": "from this"}) as folder:
        assert folder is not None
        assert (folder / "work").read_text() == "half"
    assert final.exists()
