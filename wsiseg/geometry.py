"""Pixel planes and boxes in them.

Frames are planes over the whole slide that share one origin, the top-left corner of the level-0 image. Pixel (x, y) of
a frame covers [x, x + 1) × [y, y + 1) in that frame's pixels, and [x·mpp, (x + 1)·mpp) × … in µm. Because the origin
and the µm/px define a frame completely, a conversion between frames is one multiplication, never an addition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from wsiseg.errors import GeometryError

# Two scales that differ by less are the same: µm/px in slide headers carry about six digits.
SCALE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Half-open pixels [x, x + w) × [y, y + h) of one frame. Coordinates may be negative, sizes may not."""

    x: int
    y: int
    w: int
    h: int

    def __post_init__(self) -> None:
        if self.w < 0 or self.h < 0:
            raise GeometryError(
                f"A box cannot have the size {self.w} × {self.h}: give a width and height of 0 or more."
            )

    @classmethod
    def from_bounds(cls, left: int, top: int, right: int, bottom: int) -> Box:
        """The box between two corners; right and bottom are exclusive."""
        return cls(left, top, right - left, bottom - top)

    @property
    def right(self) -> int:
        """The first column behind the box."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """The first row below the box."""
        return self.y + self.h

    @property
    def area(self) -> int:
        """Pixels in the box."""
        return self.w * self.h

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), as for NumPy arrays."""
        return self.h, self.w

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as an index of an array (rows, columns): the one crossing from (x, y) to (row, column)."""
        if self.x < 0 or self.y < 0:
            raise GeometryError(f"{self} starts outside its array: cut it with `overlap` first.")
        return slice(self.y, self.bottom), slice(self.x, self.right)

    def __bool__(self) -> bool:
        return bool(self.area > 0)  # the numbers may be NumPy's

    def overlap(self, other: Box) -> Box:
        """What both boxes cover; a box of no area when they do not meet."""
        left, top = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Box(left, top, max(0, right - left), max(0, bottom - top))

    def contains(self, other: Box) -> bool:
        """Whether every pixel of the other box is in this one."""
        return self.overlap(other).area == other.area

    def shift(self, dx: int, dy: int) -> Box:
        """The same size somewhere else."""
        return Box(self.x + dx, self.y + dy, self.w, self.h)

    def relative_to(self, outer: Box) -> Box:
        """This box in an array that holds the pixels of `outer`."""
        return self.shift(-outer.x, -outer.y)

    def grow(self, margin: int) -> Box:
        """The box with `margin` pixels more on each of its four sides."""
        return Box(self.x - margin, self.y - margin, self.w + 2 * margin, self.h + 2 * margin)


@dataclass(frozen=True, slots=True)
class Frame:
    """A pixel plane over the whole slide.

    Attributes:
        width, height: size in pixels of this frame
        mpp: µm per pixel along x, and along y too unless `mpp_y` says otherwise
        mpp_y: µm per pixel along y; only level 0 of an anisotropic slide differs from `mpp`
    """

    width: int
    height: int
    mpp: float
    mpp_y: float = 0.0  # 0 means "as mpp" and is replaced on creation

    def __post_init__(self) -> None:
        if self.mpp_y == 0.0:
            object.__setattr__(self, "mpp_y", self.mpp)
        if self.width < 0 or self.height < 0:
            raise GeometryError(f"A frame cannot have the size {self.width} × {self.height} px.")
        for value in (self.mpp, self.mpp_y):
            if not (math.isfinite(value) and value > 0):
                raise GeometryError(f"{value} is not a resolution: µm/px must be a finite number above 0.")

    @property
    def box(self) -> Box:
        """All pixels of the frame."""
        return Box(0, 0, self.width, self.height)

    def at(self, mpp: float) -> Frame:
        """The same slide at another µm/px, with square pixels. A pixel cut by the slide's edge counts as one."""
        if not (math.isfinite(mpp) and mpp > 0):
            raise GeometryError(f"{mpp} is not a resolution: µm/px must be a finite number above 0.")
        return Frame(_ceil(self.width * self.mpp / mpp), _ceil(self.height * self.mpp_y / mpp), mpp)

    def scale_to(self, other: Frame) -> tuple[float, float]:
        """Pixels of the other frame per pixel of this one, along x and along y."""
        return _snap(self.mpp / other.mpp), _snap(self.mpp_y / other.mpp_y)

    def map(self, box: Box, to: Frame) -> Box:
        """The smallest box of the other frame that covers this frame's box."""
        sx, sy = self.scale_to(to)
        left, top = _floor(box.x * sx), _floor(box.y * sy)
        return Box.from_bounds(left, top, _ceil(box.right * sx), _ceil(box.bottom * sy))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"width": self.width, "height": self.height, "mpp": self.mpp, "mpp_y": self.mpp_y}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Frame:
        """The inverse of `to_json`."""
        return cls(int(value["width"]), int(value["height"]), float(value["mpp"]), float(value["mpp_y"]))


def _snap(scale: float) -> float:
    """Round scales to a whole number, or to one over a whole number, if they differ from it by rounding only."""
    for value, back in ((scale, False), (1 / scale, True)):
        whole = round(value)
        if whole >= 1 and abs(value - whole) <= SCALE_TOLERANCE * whole:
            return 1 / whole if back else float(whole)
    return scale


def _ceil(value: float) -> int:
    nearest = round(value)
    return nearest if abs(value - nearest) < 1e-6 else math.ceil(value)


def _floor(value: float) -> int:
    nearest = round(value)
    return nearest if abs(value - nearest) < 1e-6 else math.floor(value)
