"""Signed distances to the borders of objects, on whatever device the masks lie."""

from __future__ import annotations

import torch
from torch import Tensor


def signed_distance(inside: Tensor, reach: int) -> Tensor:
    """Euclidean distance of each pixel's centre to the border, over reach: negative inside, from -1 to 1 (float32).

    The border lies half a pixel from the centres on its two sides. Nothing is known beyond the image: its edge is no border.

    Args:
        inside: (..., h, w) bool
        reach: px from which on all is equally far
    """
    outside = _distance(inside, reach) - 0.5
    return torch.where(inside, 0.5 - _distance(~inside, reach), outside).clamp(-reach, reach) / reach


def _distance(to: Tensor, reach: int) -> Tensor:
    """(..., h, w) float32 px from each centre to the nearest True one, exact up to reach, which is the most.

    One axis after the other: the least of f(j) + (i - j)² over the neighbours j (Felzenszwalb & Huttenlocher 2012), here by
    trying each j within reach, which needs no value of the mask on the host.
    """
    most = (reach + 1) ** 2
    squares = torch.where(to, 0.0, float(most))
    for axis in (-2, -1):
        near, size = squares.clone(), squares.shape[axis]
        for step in range(1, min(reach + 1, size)):
            rest = size - step
            for here, there in ((0, step), (step, 0)):
                part = near.narrow(axis, here, rest)
                part.copy_(torch.minimum(part, squares.narrow(axis, there, rest) + step**2))
        squares = near
    return squares.sqrt()


def level_set(distance: Tensor, steepness: float) -> Tensor:
    """The mask that signed distances give, smooth at its border: sigmoid(-steepness · distance) (Luo et al. 2021)."""
    return (-steepness * distance.float()).sigmoid()
