"""What every engine is to prediction: pixels in, class probabilities out."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """Runs one bundle's network on one device."""

    @property
    def identity(self) -> dict[str, Any]:
        """Whatever can change the last bits of a result: engine, version, device, precision, threads."""
        ...

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """(batch, tile, tile, 3) uint8 RGB -> (batch, classes, tile, tile) float32.

        The batch must always have the same size: results can depend on it in their last bits.
        """
        ...
