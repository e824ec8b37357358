"""Estimate the memory that a slide needs before it is read, and wait until there is enough.

A process that predicts needs `BASE` for its programs and its network, and for the current slide:

- the pixels read ahead, and what the network makes of them: `PER_PIXEL` for each pixel of a batch,
- what neighbouring tiles share in a row of the grid: sums of probabilities, float32 for each class and once more for
  the weights; and some rows of labels and score,
- the slide at 8 µm/px, for the search for tissue.

Objects are streamed and measured per slide; `BASE` has room for some 100,000. `BASE` and `PER_PIXEL` are twice what was
measured with the demonstration model and PyTorch on a CPU (0.5 GiB once the network is loaded, 460 bytes per pixel of a
batch); an encoder more than twice as large needs more. OpenVINO works on two batches at once, with 330 bytes per pixel
for each.

A process that tiles has no network (`TILING_BASE`). It holds the tiles of one file of the store, with the copies that
Zarr makes while it writes them, and for each thread a piece of the slide and what is made of it.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from wsiseg.classes import ClassMap
from wsiseg.errors import OutputError
from wsiseg.grid import Grid
from wsiseg.slides.slide import PART_PX, Slide
from wsiseg.stores.tiles import REFERENCE, SHARD_BYTES
from wsiseg.usage import Usage

MIB = 2**20
BASE = 900 * MIB  # bytes
TILING_BASE = 450 * MIB
PER_PIXEL = 1000  # bytes for each pixel of a batch while the network runs
STREAMS = 2  # batches that the network works on at once, at most; three more are read ahead
FLIPS = 4  # passes over each tile with test-time augmentation; wsiseg.inference.engines would load torch
TISSUE_UM, PER_TISSUE_PIXEL = 8.0, 80  # µm/px; bytes
ROWS = 8  # of the grid, as labels and score: four that wait, and what writing and tracing make of them
COPIES = 4  # of the tiles of one file while it is written: read, joined, encoded, joined again
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def estimate(slide: Slide, models: Iterable[dict[str, Any]], *, batch: int | None = None) -> int:
    """Bytes that predicting a slide takes beyond `BASE`.

    Args:
        slide: the slide
        models: identity of each model that looks at it, one after the other
        batch: tiles in one forward pass at most; each model's own where None
    """
    width = slide.frame.width * slide.frame.mpp  # µm
    return round(_tissue(slide) + max((_predicting(model, width, batch) for model in models), default=0.0))


def estimate_tiling(slide: Slide, grid: Grid, *, pixels: str, labelled: bool, workers: int) -> int:
    """Bytes that tiling a slide takes beyond `TILING_BASE`.

    Args:
        slide: the slide
        grid: of the tiles
        pixels: how they are kept, one of `wsiseg.stores.tiles.PIXELS`
        labelled: whether label rasters are stored too
        workers: threads that read
    """
    tile = grid.size**2  # px
    shard = max(1, SHARD_BYTES // (3 * tile)) * tile  # px of the tiles of one file
    scale = max(grid.frame.scale_to(slide.frame))
    reading = workers * (2 * 3 * min(PART_PX, tile * max(1.0, scale) ** 2) + 2 * 3 * tile)
    return round(_tissue(slide) + reading + COPIES * shard * (3 * (pixels != REFERENCE) + labelled))


def fitting_batch(slide: Slide, models: Iterable[dict[str, Any]], limit: int) -> int:
    """The largest batch, no larger than the models' own, with which predicting a slide stays within a limit in bytes.

    Raises:
        OutputError: even single tiles need more
    """
    models = list(models)
    largest = max(model["usage"]["batch"] for model in models)
    batch = next((n for n in range(largest, 1, -1) if BASE + estimate(slide, models, batch=n) <= limit), 1)
    require(estimate(slide, models, batch=batch), limit)
    return batch


def _tissue(slide: Slide) -> float:
    width, height = slide.frame.width * slide.frame.mpp, slide.frame.height * slide.frame.mpp_y  # µm
    return width * height / TISSUE_UM**2 * PER_TISSUE_PIXEL


def _predicting(model: dict[str, Any], width_um: float, batch: int | None) -> float:
    """Bytes for a slide of this width, while this model works on it."""
    usage, classes = Usage.from_json(model["usage"]), len(ClassMap.from_json(model["classes"]))
    tiles = min(usage.batch, batch or usage.batch) * usage.tile**2  # px
    scores = 4 * classes * tiles * ((FLIPS if usage.tta else 1) * STREAMS + 1)
    width, finer = width_um / usage.mpp, usage.upsample**2  # px
    shared = width * usage.overlap * 4 * (classes + 1) * finer
    rows = ROWS * width * (usage.tile - usage.overlap) * 2 * finer
    upsampled = 0 if finer == 1 else 4 * classes * usage.tile**2 * finer  # of one tile
    return float(tiles * (3 * (3 + STREAMS) + PER_PIXEL) + scores + shared + rows + upsampled)


def require(needed: int, limit: int, base: int = BASE) -> None:
    """OutputError where a slide needs more than a limit in bytes, that of the programs (`base`) included."""
    if needed + base > limit:
        gib = (needed + base) / 2**30
        # Rounded up, so that what is asked for is enough.
        raise OutputError(
            f"It takes about {gib:.1f} GiB of memory: give --max-ram {math.ceil(gib * 10) / 10:.1f}GiB or more."
        )


class Budget:
    """Bytes of one process, shared by the slides that its threads work on."""

    def __init__(self, limit: int) -> None:
        self._limit, self._free = limit, limit - BASE
        self._change = threading.Condition()

    @contextmanager
    def share(self, needed: int) -> Iterator[None]:
        """Wait until this much memory is free, and reserve it; OutputError if there is never that much."""
        require(needed, self._limit)
        with self._change:
            self._change.wait_for(lambda: self._free >= needed)
            self._free -= needed
        try:
            yield
        finally:
            with self._change:
                self._free += needed
                self._change.notify_all()


@lru_cache(maxsize=1)
def budget(limit: int) -> Budget:
    """The budget of this process."""
    return Budget(limit)


def parse_size(text: str) -> int:
    """Bytes of a size such as 8GB or 1.5GiB; ValueError for other texts."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?|[kmgt]i)b?\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is not a size: write it as 8GB or 1.5GiB.")
    return round(float(found[1]) * UNITS[found[2].lower()])
