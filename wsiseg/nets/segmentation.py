"""The segmentation network: DeepLabV3+ over any suitable encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wsiseg.errors import BundleError
from wsiseg.nets.compat import ensure_torchvision
from wsiseg.usage import STRICT, explain

OLD_RATES = (12, 24, 36)  # atrous rates of all bundles before they could be chosen


def _plain_name(encoder: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.\-]{0,99}", encoder, re.ASCII):
        raise ValueError(
            f"the encoder {encoder[:60]!r} is not the name of an installed one; a name with ':' or '/' would download a "
            "model, which wsiseg never does"
        )
    return encoder


Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=10)]
Dilation = Annotated[int, Field(ge=1, le=256)]


@dataclass(frozen=True, slots=True, config=STRICT)
class Architecture:
    """What a segmentation network is built from; kept in its bundle. BundleError where a value is impossible.

    Attributes:
        encoder: encoder name of segmentation-models-pytorch ("tu-…" are timm's); without ":" and "/", with which timm
            would look for the model on the network or on this disk
        classes: labels, background included
        mean, std: normalisation of each RGB channel, on a scale from 0 to 1
        decoder_channels: of the atrous pyramid and the decoder
        output_stride: px of the image per px of the deepest features, 8 or 16
        atrous_rates: dilations of the three wide branches of the atrous pyramid, in px of the deepest features; of a
            branch that reaches past the crop only the middle of its kernel learns
    """

    encoder: Annotated[str, AfterValidator(_plain_name)]
    classes: Annotated[int, Field(ge=2, le=255)]
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    decoder_channels: Annotated[int, Field(ge=1, le=4096)] = 256
    output_stride: Literal[8, 16] = 16
    atrous_rates: tuple[Dilation, Dilation, Dilation] = OLD_RATES

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, check: Callable[[Any], Architecture]) -> Architecture:
        try:
            return check(values)
        except ValidationError as error:
            raise BundleError(f"No network can be built: {explain(error, 'architecture')}.") from error

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; the atrous rates only where they are not those of old bundles."""
        value = {"name": "DeepLabV3Plus", **asdict(self)}
        if self.atrous_rates == OLD_RATES:
            del value["atrous_rates"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Architecture:
        """The inverse of `to_json`; BundleError for another architecture."""
        value = dict(value)
        name = value.pop("name", None)
        if name != "DeepLabV3Plus":
            raise BundleError(f"The architecture {name!r} is unknown to this version: update wsiseg.")
        for key in ("mean", "std", "atrous_rates"):
            if isinstance(value.get(key), list):
                value[key] = tuple(value[key])
        return cls(**value)


Perturbation = Callable[[list[Tensor]], list[Tensor]]


class SegmentationNet(nn.Module):
    """DeepLabV3+ (Chen et al. 2018) that takes plain pixels: the normalisation is a part of it.

    forward: (n, 3, h, w) float from 0 to 1 -> (n, classes, h, w) logits; h and w multiples of the output stride.
    It is `classify(decode(encode(image)))`. `perturb` changes the features in between. With names of `heads` the
    result is (logits, {name: what that head makes of the decoder's features}).

    Heads are networks that a method adds for its own loss: (n, decoder_channels, h / 4, w / 4) -> anything. They are
    no part of the architecture, and `without_heads` gives what goes into a bundle.
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
            self.heads = nn.ModuleDict()
        except (KeyError, ValueError, RuntimeError, NotImplementedError) as error:
            raise BundleError(
                f"DeepLabV3+ cannot be built on the encoder {architecture.encoder!r} ({error}): choose another one, "
                "for instance tu-tf_efficientnet_lite0, resnet34 or tu-xception65."
            ) from error
        self.register_buffer("mean", torch.tensor(architecture.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(architecture.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, perturb: Perturbation | None = None, heads: Sequence[str] = ()) -> Any:
        features = self.encode(image)
        decoded = self.decode(features if perturb is None else perturb(features))
        logits = self.classify(decoded)
        return (logits, {name: self.heads[name](decoded) for name in heads}) if heads else logits

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of every depth, finest first; the deepest are (n, channels, h / stride, w / stride)."""
        features: list[Tensor] = self.net.encoder((image - self.mean) / self.std)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """(n, decoder_channels, h / 4, w / 4) from the encoder's features."""
        decoded: Tensor = self.net.decoder(features)
        return decoded

    def classify(self, decoded: Tensor) -> Tensor:
        """(n, classes, h, w) logits from the decoder's features."""
        logits: Tensor = self.net.segmentation_head(decoded)
        return logits

    def without_heads(self) -> SegmentationNet:
        """A copy without extra heads, as a bundle keeps it."""
        copy = deepcopy(self)
        copy.heads = nn.ModuleDict()
        return copy
