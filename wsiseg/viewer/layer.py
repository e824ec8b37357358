"""The common base of all layers over the slide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsiseg.classes import Colour
from wsiseg.geometry import Box, Frame
from wsiseg.viewer.style import FILL_ALPHA, Style


class Layer:
    """Something that is drawn over the slide.

    Attributes:
        name: what people call it
        kind: "outlines", "agreement", "labels", "score", "tissue" or "grid"
        revision: grows when the same tile would look different
        classes: name and colour, in the order of their numbers
    """

    name: str
    kind: str
    revision: int = 0
    classes: Sequence[tuple[str, Colour]] = ()

    def describe(self) -> dict[str, Any]:
        """What the page shows of it, as JSON values."""
        classes = [{"name": name, "colour": list(colour)} for name, colour in self.classes]
        return {"name": self.name, "kind": self.kind, "revision": self.revision, "classes": classes}

    def tile(self, box: Box, frame: Frame, style: Style) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Indices uint8 (box.h, box.w) of a box of `frame`, and a palette uint8 (256, 4) of colour and opacity."""
        raise NotImplementedError

    def palette(self, style: Style, alpha: int = FILL_ALPHA) -> NDArray[np.uint8]:
        """uint8 (256, 4): class k at the index 1 + k, clear where it is hidden; everything else is clear."""
        return painted_palette((colour for _, colour in self.classes), style, alpha)


def painted_palette(colours: Iterable[Colour], style: Style, alpha: int) -> NDArray[np.uint8]:
    """uint8 (256, 4): colour k at the index 1 + k, as the style wants it."""
    palette = np.zeros((256, 4), np.uint8)
    for number, own in enumerate(colours):
        palette[1 + number] = (*style.colours.get(number, own), 0 if number in style.hidden else alpha)
    return palette
