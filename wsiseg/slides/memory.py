"""Slides in memory, for tests and experiments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from wsiseg.errors import SlideError
from wsiseg.geometry import Box
from wsiseg.slides.backend import Pixels
from wsiseg.slides.slide import Slide


class MemoryBackend:
    """A slide made of an array.

    Args:
        array: uint8 (h, w, 3), level 0
        mpp: µm/px, one number or (x, y); None for a slide that does not say
        downsamples: of the levels below level 0: whole numbers take the mean of n × n pixels and drop the rest at the
            far edges, as scanners do
        path: its name in messages and in the identity
        shrink: makes the pixels of the level with downsample n instead of the mean
        bounds: what the header would say
    """

    name = vendor = "memory"
    mpp_doubt = ""
    series = 0
    notes: tuple[str, ...] = ()
    properties: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        array: Pixels,
        mpp: float | tuple[float, float] | None = 0.5,
        downsamples: tuple[int, ...] = (),
        path: str = "memory.slide",
        *,
        shrink: Callable[[int], Pixels] | None = None,
        bounds: Box | None = None,
    ) -> None:
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
            raise SlideError(f"A slide in memory needs uint8 (h, w, 3), not {array.dtype} {array.shape}.")
        self.path, self.bounds = path, bounds
        self.mpp = (mpp, mpp) if isinstance(mpp, int | float) else mpp
        self.arrays = (array, *((shrink or (lambda n: shrunk(array, n)))(n) for n in downsamples))
        self.levels = tuple((a.shape[1], a.shape[0]) for a in self.arrays)

    def read(self, level: int, box: Box) -> Pixels:
        return self.arrays[level][box.slices].copy()

    def close(self) -> None:
        """There is nothing to close."""

    def identity(self) -> dict[str, Any]:
        """Name, size and SHA-256 of all of level 0."""
        top = np.ascontiguousarray(self.arrays[0])
        digest = hashlib.sha256(str(top.shape).encode() + top.tobytes())
        return {"name": Path(self.path).name, "size": top.nbytes, "hash": f"sha256:{digest.hexdigest()}"}


def memory_slide(
    array: Pixels,
    mpp: float | tuple[float, float] = 0.5,
    downsamples: tuple[int, ...] = (),
    path: str = "memory.slide",
) -> Slide:
    """A slide of an array uint8 (h, w, 3) at `mpp` µm/px; see `MemoryBackend`."""
    return Slide(MemoryBackend(array, mpp, downsamples, path))


def shrunk(array: Pixels, n: int) -> Pixels:
    """The mean of n × n pixels, rounded; the rest at the far edges is dropped."""
    height, width = array.shape[0] // n, array.shape[1] // n
    blocks = array[: height * n, : width * n].reshape(height, n, width, n, array.shape[2])
    return np.floor(blocks.mean((1, 3)) + 0.5).astype(np.uint8)
