"""The style of a layer, and pictures of at most 256 colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsiseg.classes import Colour

FILL_ALPHA = 110  # of 255: what lies below stays readable
GREY: Colour = (128, 128, 128)
_HIDDEN = re.compile(r"\d{1,3}(\.\d{1,3}){0,255}")
_COLOUR = re.compile(r"(\d{1,3})-([0-9a-f]{6})")


@dataclass(frozen=True, slots=True)
class Style:
    """What a person chose for one layer.

    Attributes:
        fill: areas are filled; else only their outlines are drawn
        hidden: classes that are not drawn, by their place in the layer's list
        colours: class -> colour, where it is not the layer's own
    """

    fill: bool = True
    hidden: frozenset[int] = frozenset()
    colours: Mapping[int, Colour] = field(default_factory=dict)

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Style | None:
        """From `fill=1&hide=0.3&colours=2-ff8800.4-00ff00`; None where a value is not of this form."""
        fill, hide, colours = query.get("fill", "1"), query.get("hide", ""), query.get("colours", "")
        if fill not in ("0", "1") or (hide and not _HIDDEN.fullmatch(hide)) or len(colours) > 4096:
            return None
        chosen: dict[int, Colour] = {}
        for part in filter(None, colours.split(".")):
            match = _COLOUR.fullmatch(part)
            if match is None:
                return None
            red, green, blue = bytes.fromhex(match[2])
            chosen[int(match[1])] = (red, green, blue)
        return cls(fill == "1", frozenset(int(n) for n in hide.split(".") if n), chosen)

    @property
    def key(self) -> tuple[bool, tuple[int, ...], tuple[tuple[int, Colour], ...]]:
        """The same for the same look."""
        return self.fill, tuple(sorted(self.hidden)), tuple(sorted(self.colours.items()))


def png(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A PNG of palette colours.

    Args:
        indices: uint8 (h, w)
        palette: uint8 (256, 4), red, green, blue and opacity of each index
    """
    picture = Image.fromarray(indices)
    picture.putpalette(np.ascontiguousarray(palette[:, :3]).tobytes())
    # Level 1: four times faster than the default and a few percent larger, and the network is the machine itself.
    return _encoded(picture, "png", compress_level=1, transparency=palette[:, 3].tobytes())


def photograph(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """uint8 (h, w, 3) as "jpeg" (small) or "png" (exact)."""
    options = {"quality": 90, "subsampling": 0} if kind == "jpeg" else {"compress_level": 1}
    return _encoded(Image.fromarray(pixels), kind, **options)


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, kind.upper(), **options)
    return encoded.getvalue()
