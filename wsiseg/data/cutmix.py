"""CutMix: a rectangle of another image of the batch, with that image's labels (Yun et al. 2019; French et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST, MOST = 0.02, 0.4  # fraction of the image that a rectangle covers
NARROWEST = 0.3  # shorter side over longer side


def rectangles(n: int, side: int, chance: float, centre: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """(n, side, side) bool: one rectangle in each image with this chance, none in the others; on the CPU.

    Anywhere, or around these rows and columns (n,) as far as the image reaches.
    """
    rows = torch.arange(side)
    area = (LEAST + (MOST - LEAST) * torch.rand(n)) * side * side
    ratio = torch.exp((2 * torch.rand(n) - 1) * -math.log(NARROWEST))
    width = (area * ratio).sqrt().clamp(1, side)
    height = (area / ratio).sqrt().clamp(1, side)
    if centre is None:
        left, top = torch.rand(n) * (side - width), torch.rand(n) * (side - height)
    else:
        top = (centre[0] - height / 2).clamp_min(0).minimum(side - height)
        left = (centre[1] - width / 2).clamp_min(0).minimum(side - width)
    chosen = (torch.rand(n) < chance)[:, None]
    across = (rows >= left[:, None]) & (rows < (left + width)[:, None]) & chosen
    down = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    return down[:, :, None] & across[:, None, :]


def mix(values: Tensor, where: Tensor) -> Tensor:
    """A batch with its rectangles taken from the image before (the first image's from the last).

    Args:
        values: (n, h, w) or (n, channels, h, w)
        where: (n, h, w) bool, on the same device
    """
    where = where[:, None] if values.dim() == 4 else where
    return torch.where(where, values.roll(1, 0), values)


def squares(n: int, side: int, width: float, chance: float) -> Tensor:
    """(n, side, side) bool: in each image a square of this fraction of its width, somewhere; on the CPU.

    Where chance leaves an image out, all of it is True, as if the square were as large as the image.
    """
    wide = max(1, round(width * side))
    top, left = torch.randint(side - wide + 1, (2, n, 1))
    at = torch.arange(side)
    down, across = (at >= top) & (at < top + wide), (at >= left) & (at < left + wide)
    left_out = torch.rand(n) >= chance
    return (down[:, :, None] & across[:, None, :]) | left_out[:, None, None]
