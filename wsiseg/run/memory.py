"""How much memory a slide takes, told before it is read, and who waits until there is enough.

A worker's memory is that of its programs and its network (`BASE`), and of each slide in work:

- the pixels read ahead, three batches, and what the network makes of one batch (`PER_PIXEL` for each of its pixels),
- three rows of the grid as sums of probabilities, float32 for each class and once more for the weights,
- the slide at 8 µm/px, where its tissue is looked for.

Outlines are streamed and measured per slide; their part is in `BASE`, and more than some 100,000 of them are not
reckoned with. `BASE` and `PER_PIXEL` are twice what was measured with the demonstration model and PyTorch on a CPU (0.5
GiB once the network is loaded, 460 bytes per pixel of a batch); an encoder that is larger by more than that needs more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from wsiseg.classes import ClassMap
from wsiseg.engines.engine import FLIPS
from wsiseg.errors import OutputError
from wsiseg.run.job import Facts, Plan
from wsiseg.slides.slide import Slide

BASE = 900 * 2**20  # bytes
PER_PIXEL = 1000  # bytes for each pixel of a batch while the network works
TISSUE_UM, PER_TISSUE_PIXEL = 8.0, 80  # µm/px; bytes


def estimate(slide: Slide, plan: Plan) -> int:
    """Bytes that a slide in work takes beyond `BASE`."""
    width, height = slide.frame.width * slide.frame.mpp, slide.frame.height * slide.frame.mpp_y  # µm
    needed = width * height / TISSUE_UM**2 * PER_TISSUE_PIXEL
    models = [model for model in (plan.identity, plan.identity.get("within")) if model]
    return round(needed + max((_predicting(model, width) for model in models), default=0.0))


def _predicting(model: Facts, width_um: float) -> float:
    """Bytes for a slide of this width, while this model works on it."""
    usage, classes = model["usage"], len(ClassMap.from_json(model["classes"]))
    batch = usage["batch"] * usage["tile"] ** 2  # px
    scores = 4 * classes * batch * (len(FLIPS) if usage["flips"] else 1)
    rows = 3 * width_um / usage["mpp"] * usage["tile"] * 4 * (classes + 1)
    return float(batch * (3 * 3 + PER_PIXEL) + scores + rows)


class Budget:
    """Bytes of one process, shared by the slides that its threads work on."""

    def __init__(self, limit: int) -> None:
        self._free = self._all = limit - BASE
        self._change = threading.Condition()

    @contextmanager
    def share(self, needed: int) -> Iterator[None]:
        """Wait until there is so much, and hold it; OutputError for more than there ever is."""
        if needed > self._all:
            gib = (needed + BASE) / 2**30
            raise OutputError(f"It takes about {gib:.1f} GiB of memory: give --max-ram {gib:.1f}GiB or more.")
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
