"""Domain randomisation: one picture of tissue as it might look in any stain, on any scanner, in any cut.

A network that meets the same shapes in thousands of colours cannot use colour and learns the shapes (Tobin et al. 2017,
for pictures of generated scenes). Everything here goes far beyond what laboratories do, on purpose. All functions take
one crop and a NumPy generator, from which all chance comes: the same generator gives the same crop on every machine.

    warp      place, turn, size and shape: pixels and labels together, resampled from finer pixels so that they stay sharp
    paste     objects of one crop into the tissue of another
    needle    a strip of the tissue with glass around it, as of a needle biopsy
    restain   separated into stains and put together from others
    refocus   blur, sharpening, noise and JPEG

Images are (3, h, w) float32 from 0 to 1, labels (h, w) uint8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from imagecodecs import jpeg8_decode, jpeg8_encode
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from wsiseg.classes import IGNORE

OVERSAMPLE = 2  # samples per pixel of a crop, along each side, that `warp` takes the mean of
DARKEST = 0.02  # light below this is not distinguished


class Palette(NamedTuple):
    """What the colours of a picture are made of.

    Attributes:
        white: (3,) colour of bare glass, 0 to 1
        stains: (2, 3) optical density (natural logarithm) in red, green, blue of the nuclear and the other stain
    """

    white: NDArray[np.float64]
    stains: NDArray[np.float64]


def palette_of(pixels: NDArray[np.uint8]) -> Palette:
    """The palette of a sample of a slide: its glass and its two main stains (Macenko et al. 2009).

    Args:
        pixels: (n, 3) RGB of places all over the slide, glass among them or not
    """
    value = pixels.astype(float) / 255
    bright = value[value.min(1) > 0.8]
    white = np.median(bright, axis=0) if len(bright) > 50 else np.percentile(value, 99.5, axis=0)
    density = -np.log(np.clip(value / white, DARKEST, 1))
    density = density[density.mean(1) > 0.15]
    if len(density) < 50:
        return Palette(white, np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]))
    _, vectors = np.linalg.eigh(np.cov(density.T))
    plane = vectors[:, :0:-1]  # the two directions with most variance
    plane *= np.sign(plane.sum(0))
    angle = np.arctan2(*(density @ plane).T[::-1])
    ends: list[Any] = [plane @ (math.cos(a), math.sin(a)) for a in np.percentile(angle, [2, 98])]
    ends = [np.maximum(e, 0.01) / np.linalg.norm(np.maximum(e, 0.01)) for e in ends]
    # The nuclear stain takes away more red than the other.
    ends.sort(key=lambda e: -float(e[0]))
    return Palette(white, np.stack(ends))


@dataclass(frozen=True, slots=True)
class Warp:
    """How far `warp` goes.

    Attributes:
        crop: px, width of what comes out
        smallest, largest: size of things against what they are
        stretch: largest factor along one direction against the other
        bend_um: standard deviation of a smooth displacement, in pixels of what is read
    """

    crop: int
    smallest: float = 0.74
    largest: float = 1.35
    stretch: float = 1.2
    bend: float = 7.0

    @property
    def side(self) -> int:
        """px of the finer pixels that a crop needs so that no corner is empty."""
        reach = self.crop * OVERSAMPLE / self.smallest * math.sqrt(self.stretch)
        return math.ceil(reach * math.sqrt(2) + 6 * self.bend)


def warp(image: NDArray[np.uint8], label: NDArray[np.uint8], how: Warp, rng: Generator) -> tuple[Tensor, NDArray]:
    """Turn, flip, scale, stretch and bend pixels and labels together.

    Half of the crops are turned by quarter turns alone. Pixels are the mean of OVERSAMPLE² samples of finer pixels.

    Args:
        image: (side, side, 3), `OVERSAMPLE` times finer than what comes out
        label: (side, side)
        how: how far
        rng: all chance

    Returns:
        (3, crop, crop) float32 from 0 to 1, and labels (crop, crop) uint8
    """
    side, crop = image.shape[0], how.crop
    angle = rng.uniform(0, 2 * math.pi) if rng.random() < 0.5 else rng.integers(4) * math.pi / 2
    size = math.exp(rng.uniform(math.log(how.smallest), math.log(how.largest)))
    along = how.stretch ** rng.uniform(-0.5, 0.5)
    flip = rng.choice([-1.0, 1.0])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.diag([flip * along, 1 / along]) / size
    bend: NDArray[Any] = np.zeros((2, crop, crop), np.float32)
    if rng.random() < 0.5:
        waves = int(rng.integers(3, 7))
        bend = rng.uniform(0, how.bend) * np.stack([smooth_noise(crop, waves, rng).numpy() for _ in range(2)])
    out, marks = np.empty((3, crop, crop), np.float32), np.empty((crop, crop), np.uint8)
    _resample(image, label, matrix, bend.astype(np.float32), out, marks, (side - 1) / 2, (crop - 1) / 2)
    return torch.from_numpy(out), marks


@njit(cache=True, nogil=True)
def _resample(image, label, matrix, bend, out, marks, centre, middle):  # type: ignore[no-untyped-def]
    """Each pixel the mean of OVERSAMPLE² bilinear samples, each label that of the pixel's own place."""
    high, wide = label.shape
    for r in range(marks.shape[0]):
        for c in range(marks.shape[1]):
            red, green, blue = 0.0, 0.0, 0.0
            for i in range(-1, OVERSAMPLE):  # -1: the middle of the pixel, for the label
                for j in range(OVERSAMPLE):
                    v = (r - middle) * OVERSAMPLE + (0.0 if i < 0 else i + 0.5 - OVERSAMPLE / 2)
                    u = (c - middle) * OVERSAMPLE + (0.0 if i < 0 else j + 0.5 - OVERSAMPLE / 2)
                    x = matrix[0, 0] * u + matrix[0, 1] * v + bend[0, r, c] + centre
                    y = matrix[1, 0] * u + matrix[1, 1] * v + bend[1, r, c] + centre
                    if i < 0:
                        row, col = math.floor(y + 0.5), math.floor(x + 0.5)
                        inside = 0 <= row < high and 0 <= col < wide
                        marks[r, c] = label[row, col] if inside else IGNORE
                        break
                    x, y = min(max(x, 0.0), wide - 1.001), min(max(y, 0.0), high - 1.001)
                    left, top = int(x), int(y)
                    fx, fy = x - left, y - top
                    a, b, d, e = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
                    p, q, s, t = image[top, left], image[top, left + 1], image[top + 1, left], image[top + 1, left + 1]
                    red += a * p[0] + b * q[0] + d * s[0] + e * t[0]
                    green += a * p[1] + b * q[1] + d * s[1] + e * t[1]
                    blue += a * p[2] + b * q[2] + d * s[2] + e * t[2]
            scale = 1 / (255.0 * OVERSAMPLE * OVERSAMPLE)
            out[0, r, c], out[1, r, c], out[2, r, c] = red * scale, green * scale, blue * scale


def smooth_noise(side: int, cells: int, rng: Generator) -> Tensor:
    """(side, side) float32 smooth noise, mean about 0, standard deviation about 1, with `cells` waves across."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, cells + 3, cells + 3)).astype(np.float32))
    fine = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)[0, 0]
    return fine / 0.7


def paste(
    onto: tuple[Tensor, NDArray], source: tuple[Tensor, NDArray], rng: Generator, feather: int = 3
) -> tuple[Tensor, NDArray]:
    """Objects of one crop, and one piece of its other tissue, in the place of what another crop has there.

    The colours of what is pasted are first brought to the mean and the spread of the other crop, so that a border of
    colours is no sign of an object; the piece without object stops borders themselves from being one.
    """
    image, label = onto
    other, marks = source
    side = label.shape[0]
    objects = torch.from_numpy((marks > 0) & (marks != IGNORE)).float()[None, None]
    reach = int(rng.integers(0, 8))
    mask = F.max_pool2d(objects, 2 * reach + 1, 1, reach)[0, 0] > 0
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cy, cx, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.08, 0.22) * side
    blob = ((y - cy) ** 2 + (x - cx) ** 2).sqrt() + 6 * smooth_noise(side, 8, rng) < radius
    mask = (mask | blob).float()
    soft = F.avg_pool2d(mask[None, None], feather, 1, feather // 2)[0, 0]
    theirs, ours = other.flatten(1), image.flatten(1)
    matched = (other - theirs.mean(1)[:, None, None]) / (theirs.std(1)[:, None, None] + 0.02)
    matched = (matched * ours.std(1)[:, None, None] + ours.mean(1)[:, None, None]).clamp(0, 1)
    mixed = matched * soft + image * (1 - soft)
    return mixed, np.where(mask.numpy() > 0, marks, label)


def needle(
    image: Tensor, label: NDArray, white: NDArray[np.float64], um: float, rng: Generator, *, graze: float = 0.0
) -> tuple[Tensor, NDArray]:
    """A strip of the tissue with a torn edge; beside it lies glass, which is background.

    Args:
        image, label: a crop
        white: (3,) colour of the glass, 0 to 1
        um: µm per pixel
        rng: all chance
        graze: share of the strips, where there is an object, whose edge runs along or through one
    """
    side = label.shape[0]
    angle, half = rng.uniform(0, math.pi), rng.uniform(90, 420) / um
    y, x = torch.meshgrid(torch.arange(side) - side / 2.0, torch.arange(side) - side / 2.0, indexing="ij")
    across = x * math.cos(angle) + y * math.sin(angle)
    middle = rng.uniform(-0.4, 0.4) * side
    if graze and rng.random() < graze:
        objects = across.numpy()[(label > 0) & (label != IGNORE)]
        if objects.size:
            middle = float(rng.choice(objects)) + rng.choice([-1, 1]) * (half + rng.uniform(-10, 25) / um)
    away = across - middle
    away = away + rng.uniform(0, 18) / um * smooth_noise(side, 4, rng)
    torn = rng.uniform(0, 7) / um * smooth_noise(side, 20, rng) + rng.uniform(0, 3) / um * smooth_noise(side, 60, rng)
    return _on_glass(image, label, half - away.abs() + torn, white)


def isolate(
    image: Tensor, label: NDArray, white: NDArray[np.float64], um: float, rng: Generator
) -> tuple[Tensor, NDArray]:
    """Objects of class 1 alone on glass, as a needle sometimes leaves them, with a rim around them or a little less.

    Takes and gives what `needle` does; a crop without such an object stays as it is. Other classes are not shown alone:
    a smooth scar on glass and glass between two pieces of tissue look the same.
    """
    objects = label == 1
    if not objects.any():
        return image, label
    far = distance_transform_edt(~objects) - distance_transform_edt(objects)
    depth = torch.from_numpy((rng.uniform(-6, 24) / um - far).astype(np.float32))
    return _on_glass(image, label, depth + rng.uniform(0, 5) / um * smooth_noise(label.shape[0], 24, rng), white)


def _on_glass(image: Tensor, label: NDArray, depth: Tensor, white: NDArray[np.float64]) -> tuple[Tensor, NDArray]:
    """What lies `depth` px inside stays; the rest becomes glass."""
    inside = depth.clamp(-1, 1) / 2 + 0.5
    glass = torch.tensor(white, dtype=torch.float32)[:, None, None]
    out = np.where(inside.numpy() > 0.5, label, np.where(label == IGNORE, IGNORE, 0)).astype(np.uint8)
    return image * inside + glass * (1 - inside), out


def mosaic(image: Tensor, label: NDArray, rng: Generator, *, corners: bool = True) -> tuple[Tensor, NDArray]:
    """A slide whose scanned area ends here: white and background beyond a straight edge, or a corner in or out."""
    side = label.shape[0]
    row, col = (int(v) for v in rng.integers(20, side - 20, 2))
    below, right = np.arange(side) >= row, np.arange(side) >= col
    kind = int(rng.integers(4)) if corners else int(rng.integers(2))
    gone = [
        below[:, None] & (right >= 0),
        (below >= 0)[:, None] & right,
        below[:, None] & right,
        below[:, None] | right,
    ]
    mask = gone[kind]
    if rng.random() < 0.5:
        mask = mask[::-1]
    if rng.random() < 0.5:
        mask = mask[:, ::-1]
    mask = np.ascontiguousarray(mask)
    return image.masked_fill(torch.from_numpy(mask), 1.0), np.where(mask, 0, label).astype(np.uint8)


# Optical densities of stains in red, green, blue, each made a unit vector: Ruifrok & Johnston 2001 and its followers for
# the first two, the others by what they look like. Both ends of a line are met, and what lies between.
_NUCLEAR = {
    "he": ((0.65, 0.70, 0.29), (0.55, 0.75, 0.40)), "pas": ((0.60, 0.62, 0.35), (0.75, 0.60, 0.25)),
    "trichrome": ((0.55, 0.65, 0.50), (0.70, 0.55, 0.40)), "silver": ((0.55, 0.60, 0.58), (0.45, 0.60, 0.66)),
    "dab": ((0.75, 0.60, 0.25), (0.80, 0.52, 0.20)),
}  # fmt: skip
_OTHER = {
    "he": ((0.07, 0.95, 0.20), (0.22, 0.80, 0.50)), "pas": ((0.15, 0.90, 0.40), (0.30, 0.88, 0.36)),
    "trichrome": ((0.85, 0.45, 0.10), (0.15, 0.85, 0.55)), "silver": ((0.30, 0.65, 0.60), (0.70, 0.40, 0.45)),
    "dab": ((0.30, 0.60, 0.75), (0.42, 0.62, 0.68)),
}  # fmt: skip
_KINDS = ("he", "pas", "trichrome", "silver", "dab", "any", "grey")
_CHANCE = (0.40, 0.17, 0.11, 0.09, 0.05, 0.12, 0.06)


def restain(image: Tensor, label: NDArray, palette: Palette, rng: Generator, *, soften: float = 0.0) -> Tensor:
    """The same tissue in another stain.

    The optical density is separated into the nuclear stain, the other one and a residual. Each gets another contrast
    (exponent), another amount, an amount that drifts over the picture, and another one inside objects than outside, in
    either direction; then it becomes light again through other colours, other glass and another camera.

    Args:
        image: (3, h, w) from 0 to 1
        label: (h, w); only for the amounts inside objects
        palette: of the slide that the crop comes from
        rng: all chance
        soften: share of the crops whose objects lose their fine structure, as scarred ones do; and with it above 0 no
            sclerotic object (class 2) is as empty as a lumen
    """
    side = image.shape[1]
    white = torch.tensor(palette.white, dtype=torch.float32)[:, None, None]
    density = -(image / white).clamp(DARKEST, 1).log()
    first, second = palette.stains
    third = np.cross(first, second)
    base = np.stack([first, second, third / max(float(np.linalg.norm(third)), 1e-6)])
    parts = torch.einsum("chw,cd->dhw", density, torch.tensor(np.linalg.pinv(base), dtype=torch.float32))
    nuclear, other, rest = parts[0].clamp_min(0), parts[1].clamp_min(0), parts[2]
    nuclear, other = (_levelled(v, rng) for v in (nuclear, other))
    if rng.random() < 0.06:
        nuclear, other = other, nuclear
    if soften:
        nuclear, other = _scarred(nuclear, other, label, soften, rng)
    soft = None
    if rng.random() < 0.6:
        inside = torch.from_numpy((label > 0) & (label != IGNORE)).float()[None, None]
        reach = int(rng.integers(1, 5))
        soft = F.avg_pool2d(inside, 2 * reach + 1, 1, reach)[0, 0]
    amounts = []
    for value, low, high in ((nuclear, 0.55, 1.9), (other, 0.25, 1.5)):
        change = torch.full((side, side), math.exp(rng.uniform(math.log(low), math.log(high))))
        if rng.random() < 0.5:
            change = change * (rng.uniform(0, 0.3) * smooth_noise(side, int(rng.integers(1, 5)), rng)).exp()
        if soft is not None:
            change = change * (soft * rng.uniform(math.log(0.35), math.log(1.6))).exp()
        amounts.append(value * change)
    kind = str(rng.choice(_KINDS, p=_CHANCE))
    colours = _colours(kind, rng)
    density = torch.zeros_like(image) + sum(
        a[None] * torch.tensor(c, dtype=torch.float32)[:, None, None] for a, c in zip(amounts, colours, strict=True)
    )
    residual = torch.tensor(base[2] * rng.uniform(-0.3, 1.2), dtype=torch.float32)[:, None, None]
    if kind != "grey":
        density = density + rest[None] * residual
    haze = rng.uniform(0, 0.12) if rng.random() < 0.3 else 0.0
    light = (-(density + haze).clamp_min(0)).exp()
    glass = rng.uniform(0.84, 1.0) + rng.normal(0, 0.015, 3)
    light = (
        light.clamp(0, 1) ** math.exp(rng.uniform(-0.3, 0.3)) * torch.tensor(glass, dtype=torch.float32)[:, None, None]
    )
    if rng.random() < 0.1:
        light = light.mean(0, keepdim=True) + rng.uniform(0, 0.7) * (light - light.mean(0, keepdim=True))
    if rng.random() < 0.05:
        light = light[torch.from_numpy(rng.permutation(3))]
    return light.clamp(0, 1)


def _scarred(nuclear: Tensor, other: Tensor, label: NDArray, chance: float, rng: Generator) -> tuple[Tensor, Tensor]:
    """Objects with less structure, now and then, and sclerotic ones with some stain in them, always."""
    objects = label == 1
    if rng.random() < chance and objects.any():
        share, sigma = rng.uniform(0.2, 0.7), rng.uniform(1, 3)
        mask = torch.from_numpy(gaussian_filter(objects.astype(np.float32), 1.5)) * share
        smooth = [torch.from_numpy(gaussian_filter(v.numpy(), sigma)) for v in (nuclear, other)]
        nuclear, other = (v * (1 - mask) + w * mask for v, w in zip((nuclear, other), smooth, strict=True))
    sclerotic = label == 2
    if sclerotic.any():
        tissue = (other > 0.1) & torch.from_numpy(~sclerotic)
        there = float(other[torch.from_numpy(sclerotic)].mean())
        least = rng.uniform(0.4, 1.1) * (float(other[tissue].mean()) if tissue.any() else 0.5)
        if there < least:
            mask = torch.from_numpy(gaussian_filter(sclerotic.astype(np.float32), 1.0))
            fibres = 1 + 0.25 * smooth_noise(label.shape[0], int(rng.integers(40, 110)), rng)
            other = (other + (least - there) * mask * fibres).clamp_min(0)
    return nuclear, other


def _levelled(value: Tensor, rng: Generator) -> Tensor:
    """A stain's amount with 1 at its 99th percentile and another contrast."""
    top = float(np.percentile(value.numpy()[::3, ::3], 99))
    if top < 0.05:
        return value
    return (value / top).clamp_max(1.6) ** math.exp(rng.uniform(-0.45, 0.65))


def _colours(kind: str, rng: Generator) -> NDArray[np.float64]:
    """(2, 3) unit vectors of optical density of the nuclear and the other stain."""
    if kind == "grey":
        return np.full((2, 3), 3**-0.5)
    if kind == "any":
        drawn = rng.uniform(0.05, 1, (2, 3))
    else:
        share = rng.uniform(0, 1, 2)
        drawn = np.array([
            (1 - s) * np.array(ends[0]) + s * np.array(ends[1]) + rng.normal(0, 0.05, 3)
            for s, ends in zip(share, (_NUCLEAR[kind], _OTHER[kind]), strict=True)
        ])  # fmt: skip
    drawn = np.maximum(drawn, 0.02)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def refocus(image: Tensor, rng: Generator) -> Tensor:
    """Another focus, another sharpening, noise and JPEG, each now and then."""
    chance = rng.random(4)
    if chance[0] < 0.3:
        image = _gaussian(image, rng.uniform(0.4, 1.6))
    elif chance[0] < 0.65:
        image = image + rng.uniform(0.2, 1.6) * (image - _gaussian(image, rng.uniform(0.6, 1.5)))
    if chance[1] < 0.3:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0.005, 0.035))
        image = image + torch.from_numpy(noise)
    image = image.clamp(0, 1)
    if chance[2] < 0.3:
        pixels = np.ascontiguousarray((image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
        code = jpeg8_encode(pixels, level=int(rng.integers(25, 90)), colorspace="RGB", outcolorspace="YCBCR")
        image = torch.from_numpy(jpeg8_decode(code)).permute(2, 0, 1).float() / 255
    return image


def _gaussian(image: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(image.numpy(), (0, sigma, sigma), truncate=3))
