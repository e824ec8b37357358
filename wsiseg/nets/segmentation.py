"""The segmentation network: DeepLabV3+ over any encoder that allows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wsiseg.errors import BundleError
from wsiseg.nets.compat import ensure_torchvision


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a network is built from; kept in its bundle.

    Attributes:
        encoder: encoder name of segmentation-models-pytorch ("tu-…" are timm's)
        classes: labels, background included
        mean, std: normalisation of each RGB channel, on a scale from 0 to 1
        decoder_channels: of the atrous pyramid and the decoder
        output_stride: px of the image per px of the deepest features, 8 or 16
        atrous_rates: dilations of the three wide branches of the atrous pyramid, in px of the deepest features; of a
            branch that reaches past the crop only the middle of its kernel learns
    """

    encoder: str
    classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    decoder_channels: int = 256
    output_stride: int = 16
    atrous_rates: tuple[int, int, int] = (12, 24, 36)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"name": "DeepLabV3Plus", **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Architecture:
        """The inverse of `to_json`; BundleError for another architecture."""
        value = dict(value)
        name = value.pop("name", None)
        if name != "DeepLabV3Plus":
            raise BundleError(f"The architecture {name!r} is unknown to this version: update wsiseg.")
        value["mean"], value["std"] = tuple(value["mean"]), tuple(value["std"])
        value["atrous_rates"] = tuple(value.get("atrous_rates", (12, 24, 36)))  # bundles of version 0.1 say none
        try:
            return cls(**value)
        except TypeError as error:
            raise BundleError(f"The bundle's architecture is not understood ({error}): update wsiseg.") from error


class SegmentationNet(nn.Module):
    """DeepLabV3+ (Chen et al. 2018) that takes plain pixels: the normalisation is a part of it.

    forward: (n, 3, h, w) float from 0 to 1 -> (n, classes, h, w) logits; h and w multiples of the output stride.
    With `pairs` k, the last 2 k images are two views of the same k images, and of each feature channel one view sees
    double and the other nothing (complementary channel dropout, UniMatch V2, Yang et al. 2025).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        ensure_torchvision()
        import segmentation_models_pytorch as smp

        self.architecture = architecture
        try:
            self.net = smp.DeepLabV3Plus(
                encoder_name=architecture.encoder,
                encoder_weights=None,
                encoder_output_stride=architecture.output_stride,
                decoder_channels=architecture.decoder_channels,
                decoder_atrous_rates=architecture.atrous_rates,
                classes=architecture.classes,
            )
        except (KeyError, ValueError, RuntimeError, NotImplementedError) as error:
            raise BundleError(
                f"DeepLabV3+ cannot be built on the encoder {architecture.encoder!r} ({error}): take another one, "
                "for instance tu-tf_efficientnet_lite0, resnet34 or tu-xception65."
            ) from error
        self.register_buffer("mean", torch.tensor(architecture.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(architecture.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, pairs: int = 0) -> Tensor:
        features = self.net.encoder((image - self.mean) / self.std)
        if pairs:
            features = [_complementary(f, pairs) for f in features]
        return self.net.segmentation_head(self.net.decoder(features))  # type: ignore[no-any-return]


def _complementary(features: Tensor, pairs: int) -> Tensor:
    """Of every channel of the last `pairs` images and the `pairs` before them, one is doubled and one is zero."""
    # Drawn on the CPU, as all randomness of a step is: the same on every device.
    first = 2.0 * torch.randint(0, 2, (pairs, features.shape[1], 1, 1))
    plain = torch.ones(len(features) - 2 * pairs, features.shape[1], 1, 1)
    return features * torch.cat([plain, first, 2 - first]).to(features)
