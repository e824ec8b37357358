"""What a scanner adds to the light of a section: defocus, pen on the glass, dust, and quantisation to 8 bits."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from wsiseg.synthetic.ground import BLUR, BUBBLE, PEN, level, nodes
from wsiseg.synthetic.texture import dice, ramp, sample

DEFOCUS = (0.0, 1.5, 3.0, 4.5)  # µm, standard deviations between which a place's own is interpolated
BLUR_MARGIN = 15.0  # µm that a box needs around it before it is blurred: the filter ends at 3 standard deviations
DUST = 260.0  # µm between two places where a speck may lie
RIM = 24.0  # µm: the dark rim of a bubble
PENS = ((0.60, 0.34, 0.08), (0.62, 0.24, 0.55), (0.62, 0.64, 0.64))  # blue, green and black, in optical density


def defocus(
    light: NDArray[np.float32], planes: NDArray[np.float32], left: int, top: int, step: float
) -> NDArray[np.float32]:
    """Blurs light (h, w, 3) by as much as the coarse grid says at each place."""
    rows, cols = light.shape[:2]
    most = nodes(planes, left * step, top * step, (left + cols) * step, (top + rows) * step)[..., BLUR].max()
    stack = [light]
    for sigma in DEFOCUS[1:]:
        # No place is blurred by more than the next step above `most`; coarser ones would be multiplied by 0.
        if DEFOCUS[len(stack) - 1] < most:
            stack.append(gaussian_filter(light, (sigma / step, sigma / step, 0), truncate=3))
        else:
            stack.append(light)
    return _between(np.stack(stack), planes, left, top, step)


@njit(cache=True, nogil=True)
def _between(stack, planes, left, top, step):
    out = np.empty(stack.shape[1:], np.float32)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            sigma = level(planes, BLUR, (left + c + 0.5) * step, (top + r + 0.5) * step)
            place = min(sigma / DEFOCUS[1], len(DEFOCUS) - 1.001)
            i = int(place)
            for k in range(3):
                out[r, c, k] = stack[i, r, c, k] + (stack[i + 1, r, c, k] - stack[i, r, c, k]) * (place - i)
    return out


@njit(cache=True, nogil=True)
def draw_pen(light, planes, smooth, colour, left, top, step):
    """Weakens the light under pen strokes, in place."""
    for r in range(light.shape[0]):
        y = (top + r + 0.5) * step
        for c in range(light.shape[1]):
            x = (left + c + 0.5) * step
            inside = level(planes, PEN, x, y)
            if inside < -20:
                continue
            cover = ramp(inside + 4 * sample(smooth, x / 6, y / 6), 12)
            cover *= 0.85 + 0.12 * sample(smooth, x / 23, y / 23)
            for k in range(3):
                light[r, c, k] *= 10 ** (-colour[k] * cover)


@njit(cache=True, nogil=True)
def draw_bubbles(light, planes, smooth, left, top, step):
    """Weakens the light at the rims of bubbles, where the bend of the surface throws it aside, in place."""
    for r in range(light.shape[0]):
        y = (top + r + 0.5) * step
        for c in range(light.shape[1]):
            x = (left + c + 0.5) * step
            inside = level(planes, BUBBLE, x, y)
            if inside < -20:
                continue
            width = RIM * (1 + 0.3 * sample(smooth, x / 40, y / 40))
            cover = ramp(inside, 3) * ramp(width - inside, 5)
            density = 0.75 * cover * (1 + 0.35 * sample(smooth, y / 60, x / 60))
            for k in range(3):
                light[r, c, k] *= 10**-density


@njit(cache=True, nogil=True)
def drop_dust(light, seed, left, top, step):
    """Darkens the light under specks, in place. A speck depends on its place and the seed alone."""
    rows, cols = light.shape[0], light.shape[1]
    for j in range(math.floor((top * step - 20) / DUST), math.ceil(((top + rows) * step + 20) / DUST) + 1):
        for i in range(math.floor((left * step - 20) / DUST), math.ceil(((left + cols) * step + 20) / DUST) + 1):
            if dice(i, j, seed, 11) > 0.1:
                continue
            x, y = (i + dice(i, j, seed, 12)) * DUST, (j + dice(i, j, seed, 13)) * DUST
            size, strength = 1.5 + 7 * dice(i, j, seed, 14) ** 4, 0.25 + 0.4 * dice(i, j, seed, 15)
            long = size * (1 + 2 * dice(i, j, seed, 16) ** 3)
            reach = math.ceil((long + 2) / step)
            col, row = math.floor(x / step) - left, math.floor(y / step) - top
            for r in range(max(0, row - reach), min(rows, row + reach + 1)):
                for c in range(max(0, col - reach), min(cols, col + reach + 1)):
                    dx, dy = ((left + c + 0.5) * step - x) / long, ((top + r + 0.5) * step - y) / size
                    cover = strength * ramp((1 - math.sqrt(dx * dx + dy * dy)) * size, 2.0)
                    if cover > 0:
                        for k in range(3):
                            light[r, c, k] *= 1 - cover


@njit(cache=True, nogil=True)
def expose(light, factor):
    """Light (h·factor, w·factor, 3) to uint8 (h, w, 3): the mean of factor × factor samples, rounded."""
    rows, cols = light.shape[0] // factor, light.shape[1] // factor
    out = np.empty((rows, cols, 3), np.uint8)
    for r in range(rows):
        for c in range(cols):
            for k in range(3):
                total = 0.0
                for i in range(factor):
                    for j in range(factor):
                        total += light[r * factor + i, c * factor + j, k]
                out[r, c, k] = np.uint8(min(255.0, total / (factor * factor) + 0.5))
    return out
