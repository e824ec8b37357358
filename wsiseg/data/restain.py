"""A crop in the stain of another one, and a crop without any stain."""

from __future__ import annotations

from torch import Tensor

PALE = 0.15  # mean optical density (natural logarithm) below which a pixel counts as glass in part
LEAST_TISSUE = 0.02  # fraction of a crop below which it has no stain to give or to change
STEEPEST = 3.0  # largest change of a channel's spread


def in_stain_of(images: Tensor, others: Tensor) -> Tensor:
    """Each image with the mean and the spread that the tissue of another one has in each channel.

    As in Reinhard et al. 2001, but on the optical density, in which glass is 0 and stays so, and over tissue alone. A crop
    without tissue neither changes nor lends its stain.

    Args:
        images, others: (n, 3, h, w) float32 from 0 to 1
    """
    density, tissue, mean, spread = _stain(images)
    _, theirs, new_mean, new_spread = _stain(others)
    factor = (new_spread / spread).clamp(1 / STEEPEST, STEEPEST)
    changed = ((density - mean) * factor + new_mean).clamp_min(0)
    enough = (_fraction(tissue) > LEAST_TISSUE) & (_fraction(theirs) > LEAST_TISSUE)
    return (-(density + (changed - density) * tissue * enough)).exp()


def without_stain(images: Tensor) -> Tensor:
    """Structure alone: (n, 3, h, w) three times the mean optical density, standardised crop by crop, about 0 to 1."""
    grey = (-images.clamp_min(1 / 255).log()).mean(1, keepdim=True)
    mean, spread = grey.mean((2, 3), keepdim=True), grey.std((2, 3), keepdim=True)
    return (0.5 + 0.25 * (grey - mean) / (spread + 0.02)).clamp(0, 1).expand_as(images)


def _stain(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Optical density (n, 3, h, w), weight of tissue (n, 1, h, w), mean and spread of the tissue (n, 3, 1, 1)."""
    density = -images.clamp_min(1 / 255).log()
    tissue = (density.mean(1, keepdim=True) / PALE).clamp(0, 1)
    total = tissue.sum((2, 3), keepdim=True).clamp_min(1)
    mean = (density * tissue).sum((2, 3), keepdim=True) / total
    variance = ((density - mean).square() * tissue).sum((2, 3), keepdim=True) / total
    return density, tissue, mean, variance.sqrt() + 0.01


def _fraction(tissue: Tensor) -> Tensor:
    return tissue.mean((2, 3), keepdim=True)
