"""Find the tissue in a small picture of the slide.

Stains have colour; glass, dust, bubbles, black pen and a scanner's padding have none. So the measure is colourfulness
in transmitted light, the spread of the three channels after division by the colour of the glass:

    transmittance t = pixel / glass, cut at 1        colour = max(t) - min(t)

    t = (0.98, 0.97, 0.98) glass 0.01      (0.5, 0.5, 0.5) shadow, black pen 0      (0.9, 0.6, 0.8) eosin 0.3

**The glass** of each slide is found on the slide itself, because mounting media, coverslips and lamps tint it: it is
the most frequent colour among bright places that are even, whatever its tint (`_glass`). Three things are assumed:

- A slide shows some glass, or is so much tissue that no even, bright place is left; then the glass is taken for 245
  grey levels without a tint. A slide that is evenly covered by one pale colour is all glass.
- Glass is never pink beyond 24 grey levels between its channels, which the common stains are, and never tinted by more
  than 60. A place that is pinker than another, brighter one is tissue on that other, even if there is more of it.
- Light is transmitted and the white balance is about right: what lets all colours through alike is glass or dirt.

There is no threshold fitted to the histogram (Otsu and the like always split it, also where it is nothing but noise).
A mask grows from clearly coloured pixels over faintly coloured ones; a large faint area is tissue too, a pale section.
A slide without colour has an empty mask.

**Not tissue** although coloured: strokes of blue, green, red and violet pen, which are more saturated over a larger
area than stains, and the dried brown rim of a coverslip, which is thin, straight and long.

What this means for other slides: grey images have no tissue here; silver stains are found by their counterstain and by
the filling of holes; in fluorescence on black, coloured signal counts as tissue and black as glass, so that DAPI gives
the areas where nuclei lie close together, and grey fluorescence gives nothing. Where it does not serve, tile without
a tissue mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from wsiseg.geometry import Box, Frame
from wsiseg.process_memory import trim_heap
from wsiseg.selection.masks import Mask, close, dilate, reconstruct, remove_small
from wsiseg.selection.rims import RIM_LENGTH_UM, RIM_WIDTH_UM, rims

Um = tuple[float, float]  # µm per px along rows and columns
Colours = NDArray[np.float32]  # (h, w, 3), grey levels or transmittance 0 to 1
Bands = Callable[[], Iterable[tuple[slice, Colours]]]

# Colour (see above) that is surely a stain, and that still belongs to one when it touches such a pixel. On 61 kidney
# biopsies the median of the glass is 0.001 to 0.005 after smoothing; eosin thinned to a quarter reaches 0.07.
HIGH, LOW = 0.06, 0.03
SMOOTH_UM, SMOOTH_TRUNCATE = 8.0, 3
BAND = 512  # rows that are looked at together, where a whole slide at once would take much memory
NEAR, FINE = 8, 32  # grey levels around the mode of the glass, and bins a grey level, for its median
KEPT = 2**24  # numbers of the smoothed picture that are kept rather than made again: 64 MB
PADDING = 253  # grey level: a scanner's padding is whiter than any glass
# Grey levels of glass: its mean and its darkest channel at least; EVEN places differ by no more along 5 px of a row.
GLASS_MEAN, GLASS_MIN, EVEN = 150, 110, 4
# Grey levels between the channels of glass at most: where it is not even; as a tint; as a tint that is not pink; and how
# far green may lie below red and blue in a tint that is not pink.
UNEVEN_TINT, TINT, STRONG_TINT, PINK = 12, 24, 60, 12
GLASS_MIN_FRACTION = 0.005  # of the picture: less is not enough to be sure
PALE_GLASS = 245.0  # grey level, assumed where a slide shows no glass
PALE_MIN_UM2 = 40_000.0  # faint colour over such an area is pale tissue
# Transmittance: a place this much pinker than a brighter one is stained.
PINKER, STAINED = 0.01, 0.02
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
        without_pen: leave out blue, green, red and violet pen marks (black is never taken for tissue)

    Returns:
        bool (h, w); all False where nothing is coloured: an empty, white or grey slide.
    """
    if thumbnail.size == 0:
        return np.zeros(thumbnail.shape[:2], np.bool_)
    um = (frame.mpp_y, frame.mpp)
    bands = _smoothed(thumbnail, um)
    pixel_um2 = um[0] * um[1]
    glass, marks = _glass(thumbnail, bands), np.empty(thumbnail.shape[:2], np.uint16)
    for rows, smooth in bands():
        _mark(smooth, glass, marks[rows])
    faint, seed = _marked(marks, FAINT), _marked(marks, SURE)
    shines = is_dark(thumbnail)
    if not shines:  # light that shines has no pale stain, pen or brown rim
        seed |= remove_small(faint, PALE_MIN_UM2 / pixel_um2)
    mask = reconstruct(faint, seed)
    if not shines:
        mask &= ~rims(mask & _marked(marks, BROWN), mask, um)
    inks = _inks(marks) if without_pen and not shines else []
    del marks
    if inks:
        pen = strokes(inks, um)
        if (mask & pen).sum() <= PEN_MAX_FRACTION * mask.sum():
            mask = reconstruct(mask & ~pen, seed & ~pen)
    mask = close(mask, close_um, um)
    mask = ~remove_small(~mask, max_hole_um2 / pixel_um2)
    return remove_small(mask, min_tissue_um2 / pixel_um2)


# What tissue is found by, for manifests: an output made by other rules is another output.
RULES: dict[str, Any] = {
    "look_um": LOOK_UM,
    "colour": [HIGH, LOW],
    "glass": [GLASS_MEAN, GLASS_MIN, EVEN, UNEVEN_TINT, TINT, STRONG_TINT, PINK],
    "pale": [PALE_MIN_UM2, PINKER, STAINED],
    "rim_um": [RIM_WIDTH_UM, RIM_LENGTH_UM],
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
        whole = frame.map(box, to=self.frame).overlap(self.frame.box)
        s = self._sums
        if (
            not box
            or not whole
            or not (
                s[whole.bottom, whole.right] - s[whole.y, whole.right] - s[whole.bottom, whole.x] + s[whole.y, whole.x]
            )
        ):
            return 0.0
        sx, sy = frame.scale_to(self.frame)
        left, top, right, bottom = box.x * sx, box.y * sy, box.right * sx, box.bottom * sy
        at = self._below
        inside = at(right, bottom) - at(left, bottom) - at(right, top) + at(left, top)
        return min(1.0, max(inside / ((right - left) * (bottom - top)), 0.0))

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


class Readable(Protocol):
    """What `tissue_of` needs of a slide."""

    @property
    def frame(self) -> Frame: ...  # level 0

    def read(self, box: Box, frame: Frame) -> NDArray[np.uint8]: ...  # (h, w, 3) of a box of any plane


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


def transmittance(thumbnail: NDArray[np.uint8], um: Um) -> Colours:
    """Light that comes through, as a part of what comes through the glass, 0 to 1, smoothed."""
    bands = _smoothed(thumbnail, um)
    glass, light = _glass(thumbnail, bands), np.empty(thumbnail.shape, np.float32)
    for rows, smooth in bands():
        np.minimum(smooth / glass, np.float32(1), out=light[rows])
    return light


def _smoothed(thumbnail: NDArray[np.uint8], um: Um) -> Bands:
    """The bands of a picture, to be gone through several times: those of a small one are kept."""
    bands = partial(_bands, thumbnail, um)
    if thumbnail.size > KEPT:
        return bands
    kept = list(bands())
    return lambda: kept


def _bands(thumbnail: NDArray[np.uint8], um: Um) -> Iterator[tuple[slice, Colours]]:
    """The smoothed picture from top to bottom: which rows, and their pixels.

    A band is smoothed with as many rows above and below as the filter reaches, so that it is what it would be in one
    piece.
    """
    sigma = (SMOOTH_UM / um[0], SMOOTH_UM / um[1], 0)
    reach = int(SMOOTH_TRUNCATE * sigma[0] + 0.5)
    for top in range(0, len(thumbnail), BAND):
        bottom, above = min(top + BAND, len(thumbnail)), max(0, top - reach)
        part = thumbnail[above : bottom + reach].astype(np.float32)
        smooth = ndimage.gaussian_filter(part, sigma, mode="nearest", truncate=SMOOTH_TRUNCATE)
        yield slice(top, bottom), smooth[top - above : bottom - above]


def most(colours: NDArray[Any]) -> NDArray[Any]:
    """(h, w) the largest of the three channels of (h, w, 3) colours."""
    # Comparing three planes is many times faster than reducing along an axis of length three.
    return np.maximum(np.maximum(colours[..., 0], colours[..., 1]), colours[..., 2])


def spread(colours: Colours) -> NDArray[np.float32]:
    """(h, w) the difference between the largest and the smallest channel; 0 where there is no colour."""
    least = np.minimum(np.minimum(colours[..., 0], colours[..., 1]), colours[..., 2])
    return most(colours) - least


def _glass(thumbnail: NDArray[np.uint8], bands: Bands) -> NDArray[np.float32]:
    """The colour of the glass, float32 (3,): the median around the most frequent colour of what may be glass."""
    counts = np.zeros((64, 64, 64), np.int64)  # colours, 4 grey levels a bin
    for rows, smooth in bands():
        _count_glass(smooth, thumbnail[rows], counts)
    found = _glass_mode(counts, GLASS_MIN_FRACTION * thumbnail[..., 0].size)
    if found is None:
        return np.full(3, PALE_GLASS, np.float32)
    # Brightness around the mode, a grey level a bin; channel; its value around the mode, `FINE` bins a grey level.
    near = np.zeros((2 * NEAR, 3, 2 * NEAR * FINE), np.int64)
    for rows, smooth in bands():
        _count_near(smooth, thumbnail[rows], found, near)
    brightest = np.convolve(near[:, 0].sum(1), np.ones(5), "same").argmax()
    halves = near[max(0, brightest - 3) : brightest + 4].sum(0).cumsum(1)
    # The median of each channel, to a fraction of a grey level: counts do not depend on the bands.
    median = (np.argmax(2 * halves >= halves[:, -1:], 1) + 0.5) / FINE
    return (found + median - NEAR).astype(np.float32)


def _glass_mode(counts: NDArray[np.int64], least: float) -> NDArray[np.float32] | None:
    """The colour (3,) of the highest peak in counts of colours that may be glass; None where there are too few."""
    around = ndimage.uniform_filter(counts.astype(np.float64), 3, mode="constant") * 27
    peaks = np.argwhere((around == ndimage.maximum_filter(around, 3)) & (around >= least))
    boxes = [tuple(slice(max(0, i - 1), min(64, i + 2)) for i in peak) for peak in peaks]
    colours = np.array([_mean_colour(counts[box], box) for box in boxes]).reshape(-1, 3)
    tint, pink = np.ptp(colours, axis=1), np.minimum(colours[:, 0], colours[:, 2]) - colours[:, 1]
    kept = (tint <= TINT) | ((tint <= STRONG_TINT) & (pink <= PINK))
    peaks, colours = peaks[kept], colours[kept]
    if not len(peaks):
        return None
    order = np.argsort(-around[tuple(peaks.T)], kind="stable")
    mode = colours[order[0]]
    for other in colours[order[1:]]:
        light = mode / other
        pinker = min(light[0], light[2]) - light[1] > PINKER and np.ptp(light) > STAINED
        if pinker and light.max() <= 1.01:  # the most frequent colour is pale tissue on this one
            mode = other
    return np.asarray(mode, np.float32)


def is_dark(thumbnail: NDArray[np.uint8]) -> bool:
    """Fluorescence or dark field: mostly black. Blue is no pen there."""
    return float(np.median(most(thumbnail))) < 60


def coloured_inks(light: Colours) -> list[tuple[Mask, Mask]]:
    """Of blue, green, red and violet ink, as far as it is there, where it surely is and where its rim may be."""
    marks = np.empty(light.shape[:2], np.uint16)
    _mark(light, np.ones(3, np.float32), marks)
    return _inks(marks)


def _mean_colour(counts: NDArray[np.int64], box: tuple[slice, ...]) -> NDArray[np.float64]:
    """Grey levels (3,): the mean of the colours in a box of bins."""
    sums = [counts.sum(tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return np.array(
        [(s * (np.arange(b.start, b.stop) * 4 + 2)).sum() / s.sum() for s, b in zip(sums, box, strict=True)]
    )


@njit(cache=True, nogil=True)
def _count_glass(smooth, thumbnail, counts):  # type: ignore[no-untyped-def]
    """Count the colours that may be glass: bright, and even along the row or nearly without colour."""
    width = smooth.shape[1]
    for y in range(smooth.shape[0]):
        for x in range(width):
            red, green, blue = smooth[y, x, 0], smooth[y, x, 1], smooth[y, x, 2]
            darkest = min(red, green, blue)
            if red + green + blue < 3 * GLASS_MEAN or darkest < GLASS_MIN:
                continue
            if min(thumbnail[y, x, 0], thumbnail[y, x, 1], thumbnail[y, x, 2]) >= PADDING:
                continue
            tint = max(red, green, blue) - darkest
            if tint > STRONG_TINT + 4:
                continue
            if tint >= UNEVEN_TINT or red + green + blue < 3 * 180:
                even = True
                for c in range(3):
                    low = high = smooth[y, x, c]
                    for near in range(max(0, x - 2), min(width, x + 3)):
                        low, high = min(low, smooth[y, near, c]), max(high, smooth[y, near, c])
                    even = even and high - low <= EVEN
                if not even:
                    continue
            counts[int(red) >> 2, int(green) >> 2, int(blue) >> 2] += 1


@njit(cache=True, nogil=True)
def _count_near(smooth, thumbnail, mode, near):  # type: ignore[no-untyped-def]
    """Count the brightness and the channels of what has about the tint and the brightness of a colour."""
    for y in range(smooth.shape[0]):
        for x in range(smooth.shape[1]):
            red, green, blue = smooth[y, x, 0] - mode[0], smooth[y, x, 1] - mode[1], smooth[y, x, 2] - mode[2]
            low, high, bright = min(red, green, blue), max(red, green, blue), (red + green + blue) / 3
            if high - low >= NEAR or low < -NEAR or high >= NEAR:
                continue
            if min(thumbnail[y, x, 0], thumbnail[y, x, 1], thumbnail[y, x, 2]) < PADDING:
                for c in range(3):
                    near[int(bright + NEAR), c, int((smooth[y, x, c] - mode[c] + NEAR) * FINE)] += 1


# Bits of `_mark`: faintly and surely a stain; inks, each surely and as a rim; brown.
FAINT, SURE, BLUE_INK, GREEN_INK, RED_INK, VIOLET_INK, BROWN = 0, 1, 2, 4, 6, 8, 10


@njit(cache=True, nogil=True)
def _mark(smooth, glass, marks):  # type: ignore[no-untyped-def]
    """What a colour may be, as bits: faintly or surely a stain, surely or at the rim of an ink, brown.

    Blue and green inks let red through least, haematoxylin and eosin green; red ink swallows blue as much as green;
    violet ink lets through far more blue than any haematoxylin of its density.
    """
    f, one = np.float32, np.float32(1)
    for y in range(marks.shape[0]):
        for x in range(marks.shape[1]):
            red, green, blue = smooth[y, x, 0] / glass[0], smooth[y, x, 1] / glass[1], smooth[y, x, 2] / glass[2]
            red, green, blue = min(red, one), min(green, one), min(blue, one)
            colour = max(red, green, blue) - min(red, green, blue)
            mark = (colour > f(LOW)) << FAINT | (colour > f(HIGH)) << SURE
            mark |= ((blue - red > f(0.40)) & (green > red - f(0.05))) << BLUE_INK
            mark |= ((blue - red > f(0.12)) & (green > red)) << (BLUE_INK + 1)
            mark |= ((green - red > f(0.25)) & (green - blue > f(0.08))) << GREEN_INK
            mark |= ((green - red > f(0.05)) & (green > blue)) << (GREEN_INK + 1)
            mark |= ((red > f(0.55)) & (green < f(0.30)) & (blue < f(0.35))) << RED_INK
            mark |= ((red - green > f(0.25)) & (abs(blue - green) < f(0.10))) << (RED_INK + 1)
            mark |= ((blue - green > f(0.46)) & (blue - red > f(0.18)) & (red > green + f(0.05))) << VIOLET_INK
            mark |= ((blue - green > f(0.12)) & (blue - red > f(0.04))) << (VIOLET_INK + 1)
            mark |= ((red - green > f(0.02)) & (green - blue > f(0.02))) << BROWN
            marks[y, x] = mark


def _marked(marks: NDArray[np.uint16], bit: int) -> Mask:
    return (marks & np.uint16(1 << bit)) > 0


def _inks(marks: NDArray[np.uint16]) -> list[tuple[Mask, Mask]]:
    there = [bit for bit in (BLUE_INK, GREEN_INK, RED_INK, VIOLET_INK) if _marked(marks, bit).any()]
    return [(_marked(marks, bit), _marked(marks, bit + 1)) for bit in there]


def strokes(inks: Sequence[tuple[Mask, Mask]], um: Um) -> Mask:
    """Strokes of pen, more saturated over a larger area than stains, of one or more inks, with their rims."""
    pen = np.zeros_like(inks[0][0])
    for sure, rim in inks:
        core = remove_small(sure, PEN_MIN_UM2 / (um[0] * um[1]))
        if core.any():
            near = dilate(core, PEN_REACH_UM, um)
            pen |= dilate(reconstruct((rim | core) & near, core), 2 * SMOOTH_UM, um)
    return pen
