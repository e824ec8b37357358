"""The common base of all layers over the slide."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsiseg.geometry import Box, Frame
from wsiseg.viewer.style import Style


class Layer(Protocol):
    """Something that is drawn over the slide.

    Attributes:
        name: what people call it
        kind: "outlines", "agreement", "labels", "score", "tissue" or "grid"
        revision: grows when the same tile would look different
    """

    name: str
    kind: str
    revision: int

    def describe(self) -> dict[str, Any]:
        """What the page shows of it, as JSON values; its `classes` are in the order of their numbers."""
        ...

    def tile(self, box: Box, frame: Frame, style: Style) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Indices uint8 (box.h, box.w) of a box of `frame`, and a palette uint8 (256, 4) of colour and opacity."""
        ...
