"""Discriminators: networks that distinguish reference label maps from predicted ones, given the image: p(x, x').

No batch normalisation: a batch holds either true maps or predicted ones, and its statistics would give the answer away.
Spectral normalisation (Miyato et al. 2018) keeps them from winning by steepness.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from wsiseg.atomic import translate_os_errors
from wsiseg.errors import BundleError

SLOPE = 0.2  # of the leaky ReLU, as in DCGAN (Radford et al. 2016)


class Discriminator(nn.Module, ABC):
    """forward: image (n, 3, h, w) from 0 to 1, label map (n, classes, h, w) -> (logits, features).

    High logits mean "true" or "right". Features are the deepest ones, (n, channels, …), for feature matching.

    Args:
        classes: channels of the label map
        width: channels of the first layer
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes, self.width = classes, width

    @abstractmethod
    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of a batch."""


class FullyConvolutional(Discriminator):
    """An encoder and decoder with a logit for every pixel, (n, 1, h, w): the source paper's better discriminator.

    Three halvings, three doublings, with the finer features beside the coarser ones (as in U-Net, Ronneberger et al.
    2015); h and w must be multiples of 8.
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__(classes, width)
        w = [width, 2 * width, 4 * width, 4 * width]
        self.first = _conv(3 + classes, w[0], 3, 1)
        self.down = nn.ModuleList(_conv(a, b, 4, 2) for a, b in pairwise(w))
        self.up = nn.ModuleList(_conv(a + b, b, 3, 1) for a, b in pairwise(reversed(w)))
        self.last = spectral_norm(nn.Conv2d(w[0], 1, 1))

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See `Discriminator`."""
        x = self.first(torch.cat([2 * image - 1, labels], 1))
        finer = [x]
        for layer in self.down:
            x = layer(x)
            finer.append(x)
        deepest = finer.pop()
        for layer in self.up:
            beside = finer.pop()
            x = layer(torch.cat([F.interpolate(x, size=beside.shape[-2:], mode="nearest"), beside], 1))
        return self.last(x), deepest


class Patch(Discriminator):
    """PatchGAN (Isola et al. 2017): a logit for every patch of the image, (n, 1, h', w').

    Kernels of 4 px with the strides 2, 2, 2, 1, 1 see 70 px: 35 µm at 0.5 µm/px, less than a glomerulus; 280 µm at
    4 µm/px. `receptive_field` gives it for other strides.
    """

    strides = (2, 2, 2, 1, 1)
    kernel = 4

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__(classes, width)
        channels = [3 + classes, width, 2 * width, 4 * width, 8 * width]
        self.body = nn.Sequential(
            *(_conv(a, b, self.kernel, s) for a, b, s in zip(channels, channels[1:], self.strides, strict=False))
        )
        self.last = spectral_norm(nn.Conv2d(channels[-1], 1, self.kernel, self.strides[-1], padding=1))

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See `Discriminator`."""
        features = self.body(torch.cat([2 * image - 1, labels], 1))
        return self.last(features), features


def receptive_field(strides: Sequence[int] = Patch.strides, kernel: int = Patch.kernel) -> int:
    """px of the image that one logit of a chain of convolutions sees."""
    size = 1
    for stride in reversed(strides):
        size = (size - 1) * stride + kernel
    return size


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Module:
    padding = (kernel - 1) // 2
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels_in, channels_out, kernel, stride, padding)), nn.LeakyReLU(SLOPE, inplace=True)
    )


DISCRIMINATORS: dict[str, type[Discriminator]] = {"fcn": FullyConvolutional, "patch": Patch}


def save_discriminator(path: Path, net: Discriminator) -> None:
    """Write a discriminator as one .safetensors file that `load_discriminator` reads."""
    kind = next(name for name, found in DISCRIMINATORS.items() if isinstance(net, found))
    about = {"kind": kind, "classes": str(net.classes), "width": str(net.width)}
    with translate_os_errors(path):
        save_file({k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}, path, about)


def load_discriminator(path: Path) -> Discriminator:
    """The inverse of `save_discriminator`, in eval mode on the CPU.

    Raises:
        BundleError: there is none, or it is damaged
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            net = DISCRIMINATORS[about["kind"]](int(about["classes"]), int(about["width"]))
            net.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118  # no mapping
    except FileNotFoundError:
        raise BundleError(
            f'There is no discriminator at {path}: train with method.name = "adversarial", which writes one.'
        ) from None
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise BundleError(f"The discriminator {path} is damaged ({error}): copy it anew.") from error
    return net.eval().requires_grad_(False)
