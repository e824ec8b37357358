"""Random changes of a batch of crops, on the device that trains.

All randomness comes from torch's generator on the CPU, which the training loop seeds by (seed, step): a resumed run
does the same, and so does every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wsiseg.classes import IGNORE

# Optical density of haematoxylin, eosin and a residual in R, G, B: Ruifrok & Johnston 2001.
_HED = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


@dataclass(frozen=True, slots=True)
class Augmenter:
    """Random affine changes, stain jitter, light and blur.

    Attributes:
        crop: px, width of what comes out
        rotate: turn by any angle rather than by quarter turns
        scale: largest factor up and down
        stain: spread of the factor and the offset of each stain (Tellez et al. 2018)
        brightness: spread of one factor on the light
        blur: px, largest standard deviation of a Gaussian blur; half of the images stay sharp
    """

    crop: int
    rotate: bool
    scale: float
    stain: float
    brightness: float
    blur: float = 0.0

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Args:
            images: (n, side, side, 3) uint8
            labels: (n, side, side) uint8

        Returns:
            images (n, 3, crop, crop) float32 from 0 to 1, labels (n, crop, crop) int64
        """
        image, label = self.random_affine(images, labels)
        return self.stain_jitter(image), label

    def random_affine(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Turn, flip, scale and crop alone; takes and gives what a call does."""
        image, label = to_float(images), labels[:, None].float()
        grid = self._grid(images.shape[0], images.shape[1]).to(image.device)
        # White and IGNORE lie outside: shift so that grid_sample's zero padding means them.
        image = 1 + F.grid_sample(image - 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        label = IGNORE + F.grid_sample(label - IGNORE, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return image, label[:, 0].round().long()

    def _grid(self, n: int, side: int) -> Tensor:
        turn = torch.rand(n)
        angle = turn * 2 * torch.pi if self.rotate else (turn * 4).floor() * (torch.pi / 2)
        factor = self.scale ** (2 * torch.rand(n) - 1) * (self.crop / side)
        flip = torch.randint(0, 2, (n,)) * 2.0 - 1
        cos, sin, zero = angle.cos() * factor, angle.sin() * factor, torch.zeros(n)
        theta = torch.stack([torch.stack([cos * flip, -sin, zero], 1), torch.stack([sin * flip, cos, zero], 1)], 1)
        return F.affine_grid(theta, [n, 3, self.crop, self.crop], align_corners=False)

    def stain_jitter(self, image: Tensor) -> Tensor:
        """Other focus, stain and light alone: (n, 3, h, w) float32 from 0 to 1, in and out."""
        if self.blur:
            image = blurred(image, (2 * torch.rand(image.shape[0]) - 1).clamp_min(0), self.blur)
        if not (self.stain or self.brightness):
            return image
        n = image.shape[0]

        def spread(amount: float, columns: int) -> Tensor:
            return (2 * torch.rand(n, columns) - 1) * amount

        factor, offset, light = 1 + spread(self.stain, 3), spread(self.stain, 3), 1 + spread(self.brightness, 1)
        return restained(image, factor, offset, light)


def restained(image: Tensor, factor: Tensor, offset: Tensor, light: Tensor) -> Tensor:
    """Each image with other amounts of its stains, haematoxylin, eosin and a residual (Tellez et al. 2018).

    Args:
        image: (n, 3, h, w) float32 from 0 to 1
        factor, offset: (n, 3), on the CPU: the density of each stain becomes factor · density + offset
        light: (n, 1), on the CPU: factor on the light
    """
    stains = F.normalize(torch.tensor(_HED), dim=1)
    # density · stains⁻¹ · diag(factor) · stains + offset · stains, and the light as an offset of the density
    change = torch.linalg.inv(stains) @ torch.diag_embed(factor) @ stains
    shift = offset @ stains - light.log()
    density = -(image.clamp_min(1 / 255)).log()
    mixed = torch.einsum("nchw,ncd->ndhw", density, change.to(image.device)) + shift.to(image.device)[:, :, None, None]
    return (-mixed).exp().clamp(0, 1)


def blurred(image: Tensor, share: Tensor, largest: float) -> Tensor:
    """Each image of (n, 3, h, w) under a Gaussian of its own width.

    Args:
        image: any device
        share: (n,) from 0 (left as it is) to 1, on the CPU
        largest: px, the standard deviation at 1
    """
    reach = math.ceil(3 * largest)
    at = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (at / (largest * share).clamp_min(1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(image.device)
    n, channels, h, w = image.shape
    flat = F.pad(image.reshape(1, n * channels, h, w), (reach,) * 4, mode="replicate")
    each = kernel.repeat_interleave(channels, 0)[:, None]
    flat = F.conv2d(flat, each[:, :, None, :], groups=n * channels)
    return F.conv2d(flat, each[:, :, :, None], groups=n * channels).reshape(n, channels, h, w)


def to_float(images: Tensor) -> Tensor:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) float32 from 0 to 1, in channels-last memory."""
    return images.movedim(-1, 1).float().div_(255)
