"""Find the tissue in a small picture of the slide.

Stains have colour; glass, dust, bubbles, coverslip edges, black pen and a scanner's padding have not. So the measure
is colourfulness in transmitted light, the spread of the three channels after division by the colour of the glass:

    transmittance t = pixel / glass, cut at 1        colour = max(t) - min(t)

    t = (0.98, 0.97, 0.98) glass 0.01      (0.5, 0.5, 0.5) shadow, black pen 0      (0.9, 0.6, 0.8) eosin 0.3

There is no threshold fitted to the histogram (Otsu and the like always split it, also where it is nothing but noise):
a mask grows from clearly coloured pixels over faintly coloured ones, and a slide without colour has an empty mask.

What this means for other slides: grey images have no tissue here; silver stains are found by their counterstain and by
the filling of holes; in fluorescence on black, coloured signal counts as tissue and black as glass, so that DAPI gives
the areas where nuclei lie close together, and grey fluorescence gives nothing. Where it does not serve, tile without
a tissue mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from wsiseg.geometry import Box, Frame
from wsiseg.process_memory import trim_heap
from wsiseg.selection.masks import Mask, close, dilate, reconstruct, remove_small

Colours = NDArray[np.float32]  # (h, w, 3), transmittance 0 to 1

# Colour (see above) that is surely a stain, and that still belongs to one when it touches such a pixel. On 61 kidney
# biopsies the median of the glass is 0.001 to 0.005 after smoothing; eosin thinned to a quarter reaches 0.07.
HIGH, LOW = 0.06, 0.03
SMOOTH_UM, SMOOTH_TRUNCATE = 8.0, 3
BAND = 512  # rows that are looked at together, where a whole slide at once would take much memory
KEPT = 2**24  # numbers of the smoothed picture that are kept rather than made again: 64 MB
# Glass is bright and nearly colourless; padding is whiter than any glass.
GLASS_BRIGHT, GLASS_COLOUR, PADDING = 180, 12, 253
PALE_GLASS = 245.0  # assumed where a slide shows none
PEN_MIN_UM2 = 40_000.0  # a pen's stroke is at least 0.2 mm wide
PEN_REACH_UM = 150.0  # how far a stroke's pale rim reaches
PEN_MAX_FRACTION = 0.95  # where "pen" would be more than this fraction of everything coloured, it is the stain
LOOK_UM = 8.0  # µm/px at which a slide is looked at
GROW_UM = 16.0  # by which the tissue is grown to choose tiles: pale rims are inside


def find_tissue(
    thumbnail: NDArray[np.uint8],
    frame: Frame,
    *,
    min_tissue_um2: float = 10_000.0,
    max_hole_um2: float = 50_000.0,
    close_um: float = 24.0,
    without_pen: bool = True,
) -> Mask:
    """The tissue in a small picture of a slide.

    Args:
        thumbnail: uint8 (h, w, 3), RGB, transmitted light; 4 to 32 µm/px serve, 8 is best
        frame: the plane of the thumbnail, for its µm/px
        min_tissue_um2: smaller pieces are specks; 10,000 µm² is a third of a glomerulus
        max_hole_um2: smaller gaps are filled (lumens, vessels); 50,000 µm² is a disc of 250 µm
        close_um: gaps up to this width are bridged
        without_pen: leave out blue, green and red pen marks (black is never taken for tissue)

    Returns:
        bool (h, w); all False where nothing is coloured: an empty, white or grey slide.
    """
    if thumbnail.size == 0:
        return np.zeros(thumbnail.shape[:2], np.bool_)
    um = (frame.mpp_y, frame.mpp)
    bands = _smoothed(thumbnail, um)
    glass, marks = _glass(thumbnail, bands), np.empty(thumbnail.shape[:2], np.uint8)
    for rows, smooth in bands:
        _mark(smooth, glass, marks[rows])
    faint, seed = _marked(marks, 0), _marked(marks, 1)
    inks = _inks(marks) if without_pen and not is_dark(thumbnail) else []
    del marks
    mask = reconstruct(faint, seed)
    if inks:
        pen = _pen(inks, mask.shape, um)
        if (mask & pen).sum() <= PEN_MAX_FRACTION * mask.sum():
            mask = reconstruct(mask & ~pen, seed & ~pen)
    pixel_um2 = um[0] * um[1]
    mask = close(mask, close_um, um)
    mask = ~remove_small(~mask, max_hole_um2 / pixel_um2)
    return remove_small(mask, min_tissue_um2 / pixel_um2)


# What tissue is found by, for manifests: an output made by other rules is another output.
RULES: dict[str, Any] = {
    "look_um": LOOK_UM,
    "colour": [HIGH, LOW],
    "smooth_um": SMOOTH_UM,
    "grow_um": GROW_UM,
}


@dataclass(frozen=True, slots=True)
class TissueMask:
    """A mask with its plane, asked for boxes of any other plane over the same slide.

    Attributes:
        mask: bool (h, w), the pixels of `frame`
        frame: where and how large they are
    """

    mask: Mask
    frame: Frame
    _sums: NDArray[np.integer[Any]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # sums[r, c] = tissue pixels above row r and left of column c (Crow, SIGGRAPH 1984)
        kind = np.int32 if self.mask.size < 2**31 else np.int64
        sums = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1), kind)
        np.cumsum(np.cumsum(self.mask, 0, dtype=kind), 1, dtype=kind, out=sums[1:, 1:])
        object.__setattr__(self, "_sums", sums)

    @property
    def area_um2(self) -> float:
        """Tissue in µm²."""
        return float(self._sums[-1, -1]) * self.frame.mpp * self.frame.mpp_y

    def grown(self, by_um: float = GROW_UM) -> TissueMask:
        """The mask to choose tiles by: grown by so much on each side. Its area is not that of the tissue."""
        return TissueMask(dilate(self.mask, by_um, (self.frame.mpp_y, self.frame.mpp)), self.frame)

    def fraction(self, box: Box, frame: Frame) -> float:
        """Which fraction of a box is tissue, 0 to 1; pixels that the box cuts count by the part inside.

        What lies outside the slide is no tissue. The fraction is 0 exactly when the box meets no tissue pixel.

        Args:
            box: px of `frame`
            frame: any plane over the same slide
        """
        if not box:
            return 0.0
        sx, sy = frame.scale_to(self.frame)
        left, top, right, bottom = box.x * sx, box.y * sy, box.right * sx, box.bottom * sy
        at = self._below
        inside = at(right, bottom) - at(left, bottom) - at(right, top) + at(left, top)
        touched = self._touches(frame.map(box, to=self.frame))
        return min(1.0, max(inside / ((right - left) * (bottom - top)), 0.0)) if touched else 0.0

    def _below(self, x: float, y: float) -> float:
        """Tissue left of x and above y in px², from the four sums around: exact, as a pixel is one or nothing."""
        height, width = self.mask.shape
        x, y = min(max(x, 0.0), width), min(max(y, 0.0), height)
        c, r = min(int(x), width - 1), min(int(y), height - 1)
        u, v = x - c, y - r
        s = self._sums
        upper = (1 - u) * s[r, c] + u * s[r, c + 1]
        lower = (1 - u) * s[r + 1, c] + u * s[r + 1, c + 1]
        return float((1 - v) * upper + v * lower)

    def _touches(self, box: Box) -> bool:
        box = box.overlap(Box(0, 0, self.mask.shape[1], self.mask.shape[0]))
        if not box:
            return False
        s = self._sums
        return bool(s[box.bottom, box.right] - s[box.y, box.right] - s[box.bottom, box.x] + s[box.y, box.x])


class Readable(Protocol):
    """What `tissue_of` needs of a slide."""

    @property
    def frame(self) -> Frame:
        """The level-0 plane."""
        ...

    def read(self, box: Box, frame: Frame) -> NDArray[np.uint8]:
        """uint8 (h, w, 3) of a box of any plane."""
        ...


def tissue_of(slide: Readable, mpp: float = LOOK_UM, **how: Any) -> TissueMask:
    """The tissue of a slide, whose area is what every command reports. Tiles are chosen by `TissueMask.grown`.

    Args:
        slide: read once, as a whole
        mpp: look at this µm/px, or at level 0's if that is coarser
        how: the parameters of `find_tissue`
    """
    frame = slide.frame.at(max(mpp, slide.frame.mpp, slide.frame.mpp_y))
    mask = TissueMask(find_tissue(slide.read(frame.box, frame), frame, **how), frame)
    trim_heap()
    return mask


def transmittance(thumbnail: NDArray[np.uint8], um: tuple[float, float]) -> Colours:
    """Light that comes through, as a part of what comes through the glass, 0 to 1, smoothed."""
    bands = _smoothed(thumbnail, um)
    glass, light = _glass(thumbnail, bands), np.empty(thumbnail.shape, np.float32)
    for rows, smooth in bands:
        np.minimum(smooth / glass, np.float32(1), out=light[rows])
    return light


@dataclass(frozen=True, slots=True)
class _Bands:
    """The smoothed picture from top to bottom: which rows, and their pixels as float32; made again each time.

    A band is smoothed with as many rows above and below as the filter reaches, so that it is what it would be in one
    piece.
    """

    thumbnail: NDArray[np.uint8]
    um: tuple[float, float]

    def __iter__(self) -> Iterator[tuple[slice, Colours]]:
        sigma = (SMOOTH_UM / self.um[0], SMOOTH_UM / self.um[1], 0)
        reach = int(SMOOTH_TRUNCATE * sigma[0] + 0.5)
        for top in range(0, len(self.thumbnail), BAND):
            bottom, above = min(top + BAND, len(self.thumbnail)), max(0, top - reach)
            part = self.thumbnail[above : bottom + reach].astype(np.float32)
            smooth = ndimage.gaussian_filter(part, sigma, mode="nearest", truncate=SMOOTH_TRUNCATE)
            yield slice(top, bottom), smooth[top - above : bottom - above]


def _smoothed(thumbnail: NDArray[np.uint8], um: tuple[float, float]) -> Iterable[tuple[slice, Colours]]:
    """The bands of a picture, to be gone through several times: those of a small one are kept."""
    bands = _Bands(thumbnail, um)
    return list(bands) if thumbnail.size <= KEPT else bands


def _channels(colours: NDArray[Any]) -> list[NDArray[Any]]:
    # Comparing three planes is many times faster than reducing along an axis of length three.
    return [colours[..., i] for i in range(3)]


def most(colours: NDArray[Any]) -> NDArray[Any]:
    """(h, w) the largest of the three channels of (h, w, 3) colours."""
    red, green, blue = _channels(colours)
    return np.maximum(np.maximum(red, green), blue)


def least(colours: NDArray[Any]) -> NDArray[Any]:
    """(h, w) the smallest of the three channels of (h, w, 3) colours."""
    red, green, blue = _channels(colours)
    return np.minimum(np.minimum(red, green), blue)


def spread(colours: Colours) -> NDArray[np.float32]:
    """(h, w) the difference between the largest and the smallest channel; 0 where there is no colour."""
    return most(colours) - least(colours)


def _glass(thumbnail: NDArray[np.uint8], bands: Iterable[tuple[slice, Colours]]) -> NDArray[np.float32]:
    """The colour of the glass: the most frequent brightness of bright, colourless pixels that are not padding."""
    plain, counts = np.empty(thumbnail.shape[:2], np.bool_), np.zeros(256, np.int64)
    bright = np.empty(thumbnail.shape[:2], np.float32)
    for rows, smooth in bands:
        bright[rows] = smooth @ np.full(3, 1 / 3, np.float32)
        _find_plain(smooth, bright[rows], thumbnail[rows], plain[rows], counts)
    if plain.sum() < 0.005 * plain.size:
        return np.full(3, PALE_GLASS, np.float32)
    mode = int(np.convolve(counts, np.ones(5), "same").argmax())
    plain &= np.abs(np.subtract(bright, mode, out=bright), out=bright) <= 3
    del bright
    colours, done = np.empty((3, int(plain.sum())), np.float32), 0
    for rows, smooth in bands:
        found = smooth[plain[rows]]
        colours[:, done : done + len(found)] = found.T
        done += len(found)
    return np.array([np.median(channel, overwrite_input=True) for channel in colours], np.float32)


def is_dark(thumbnail: NDArray[np.uint8]) -> bool:
    """Fluorescence or dark field: mostly black. Blue is no pen there."""
    return float(np.median(most(thumbnail))) < 60


def coloured_pen(light: Colours, um: tuple[float, float]) -> Mask:
    """Strokes of blue, green and red pen: more saturated over a larger area than stains at this µm/px."""
    marks = np.empty(light.shape[:2], np.uint8)
    _mark(light, np.ones(3, np.float32), marks)
    return _pen(_inks(marks), marks.shape, um)


@njit(cache=True, nogil=True)
def _find_plain(smooth, bright, thumbnail, plain, counts):  # type: ignore[no-untyped-def]
    """Mark what may be glass, and count it by its brightness."""
    for y in range(plain.shape[0]):
        for x in range(plain.shape[1]):
            red, green, blue = smooth[y, x, 0], smooth[y, x, 1], smooth[y, x, 2]
            plain[y, x] = (
                bright[y, x] > GLASS_BRIGHT
                and max(red, green, blue) - min(red, green, blue) < GLASS_COLOUR
                and min(thumbnail[y, x, 0], thumbnail[y, x, 1], thumbnail[y, x, 2]) < PADDING
            )
            if plain[y, x]:
                counts[int(bright[y, x])] += 1


@njit(cache=True, nogil=True)
def _mark(smooth, glass, marks):  # type: ignore[no-untyped-def]
    """What a colour may be, as bits: 0 faintly and 1 surely a stain; of blue, green and red ink 2, 4, 6 surely, 3, 5, 7
    a rim.

    Blue and green inks let red through least, haematoxylin and eosin green; red ink swallows blue as much as green.
    """
    f, one = np.float32, np.float32(1)
    for y in range(marks.shape[0]):
        for x in range(marks.shape[1]):
            red, green, blue = smooth[y, x, 0] / glass[0], smooth[y, x, 1] / glass[1], smooth[y, x, 2] / glass[2]
            red, green, blue = min(red, one), min(green, one), min(blue, one)
            colour = max(red, green, blue) - min(red, green, blue)
            mark = (colour > f(LOW)) | (colour > f(HIGH)) << 1
            mark |= ((blue - red > f(0.40)) & (green > red - f(0.05))) << 2
            mark |= ((blue - red > f(0.12)) & (green > red)) << 3
            mark |= ((green - red > f(0.25)) & (green - blue > f(0.08))) << 4
            mark |= ((green - red > f(0.05)) & (green > blue)) << 5
            mark |= ((red > f(0.55)) & (green < f(0.30)) & (blue < f(0.35))) << 6
            mark |= ((red - green > f(0.25)) & (abs(blue - green) < f(0.10))) << 7
            marks[y, x] = mark


def _marked(marks: NDArray[np.uint8], bit: int) -> Mask:
    return (marks & np.uint8(1 << bit)) > 0


def _inks(marks: NDArray[np.uint8]) -> list[tuple[Mask, Mask]]:
    """Of each ink that is there, where it surely is and where its rim may be."""
    inks = []
    for bit in (2, 4, 6):
        sure = _marked(marks, bit)
        if sure.any():
            inks.append((sure, _marked(marks, bit + 1)))
    return inks


def _pen(inks: Sequence[tuple[Mask, Mask]], shape: tuple[int, ...], um: tuple[float, float]) -> Mask:
    """Large strokes of any of the inks, with their rims."""
    pen = np.zeros(shape, np.bool_)
    for sure, rim in inks:
        core = remove_small(sure, PEN_MIN_UM2 / (um[0] * um[1]))
        if core.any():
            near = dilate(core, PEN_REACH_UM, um)
            pen |= dilate(reconstruct((rim | core) & near, core), 2 * SMOOTH_UM, um)
    return pen
