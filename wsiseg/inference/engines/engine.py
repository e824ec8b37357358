"""The interface of an engine: pixels in, class probabilities out."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """Runs one bundle's network on one device."""

    @property
    def identity(self) -> dict[str, Any]:
        """Whatever can change the last bits of a result: engine, version, device, precision, threads."""
        ...

    @property
    def streams(self) -> int:
        """How many batches it works on at a time: from so many threads `probabilities` may be called at once."""
        ...

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """(batch, tile, tile, 3) uint8 RGB -> (batch, classes, tile, tile) float32.

        The batch must always have the same size: results can depend on it in their last bits.
        """
        ...


READERS = 8


def readers_for(engine: Engine) -> int:
    """Threads that read and decode tiles: one beside a network that keeps the cores busy, up to `READERS` beside a GPU."""
    return 1 if engine.identity.get("device", "cpu") == "cpu" else max(1, min(READERS, (os.cpu_count() or 1) - 1))


FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))  # axes of (batch, tile, tile, 3)


def infer(engine: Engine, images: np.ndarray, *, tta: bool) -> np.ndarray:
    """What an engine says of a batch; shapes as of `Engine.probabilities`.

    Args:
        engine: the network
        images: the batch
        tta: test-time augmentation, the mean over the four flips of each tile
    """
    if not tta:
        return engine.probabilities(images)
    flipped = [engine.probabilities(np.ascontiguousarray(np.flip(images, axes))) for axes in FLIPS]
    turned_back = [np.flip(s, tuple(axis + 1 for axis in axes)) for s, axes in zip(flipped, FLIPS, strict=True)]
    return np.asarray(np.mean(turned_back, axis=0, dtype=np.float32))
