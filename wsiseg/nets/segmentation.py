"""The segmentation network: DeepLabV3+ over any suitable encoder, or DPT over a vision transformer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Annotated, Any, Literal, Self, get_args

import torch
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wsiseg.errors import BundleError
from wsiseg.nets.compat import ensure_torchvision
from wsiseg.nets.finetune import merge
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
Network = Literal["DeepLabV3Plus", "DPT"]
# Settings of timm's vision transformers that their names do not tell.
EncoderOption = Literal[
    "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "mlp_layer", "act_layer", "init_values",
    "reg_tokens", "class_token", "no_embed_class", "qkv_bias", "qk_norm",
]  # fmt: skip
EncoderOptions = dict[
    EncoderOption, bool | Annotated[int, Field(ge=0, le=8192)] | Annotated[float, Field(ge=0, le=64)]
    | Literal["Mlp", "GluMlp", "SwiGLU", "SwiGLUPacked", "silu", "gelu"],
]  # fmt: skip


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
        network: DPT is for vision transformers, and has no output stride or atrous rates
        encoder_options: settings of a vision transformer that its name does not tell, as in timm
        peers: further networks of the same classes; the prediction is the mean of the probabilities of all
    """

    encoder: Annotated[str, AfterValidator(_plain_name)]
    classes: Annotated[int, Field(ge=2, le=255)]
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    decoder_channels: Annotated[int, Field(ge=1, le=4096)] = 256
    output_stride: Literal[8, 16] = 16
    atrous_rates: tuple[Dilation, Dilation, Dilation] = OLD_RATES
    network: Network = "DeepLabV3Plus"
    encoder_options: EncoderOptions = dataclasses.field(default_factory=dict)
    peers: Annotated[tuple[Architecture, ...], Field(max_length=8)] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, check: Callable[[Any], Architecture]) -> Architecture:
        try:
            return check(values)
        except ValidationError as error:
            raise BundleError(f"No network can be built: {explain(error, 'architecture')}.") from error

    def __post_init__(self) -> None:
        if any(peer.peers or peer.classes != self.classes for peer in self.peers):
            raise BundleError("No network can be built: its peers must have its classes, and no peers themselves.")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; the atrous rates only where they are not those of old bundles."""
        value = dataclasses.asdict(self)
        value = {"name": value.pop("network"), **value}
        if self.atrous_rates == OLD_RATES:
            del value["atrous_rates"]
        if not self.encoder_options:
            del value["encoder_options"]
        del value["peers"]
        if self.peers:
            value["peers"] = [peer.to_json() for peer in self.peers]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Architecture:
        """The inverse of `to_json`; BundleError for another architecture."""
        value = dict(value)
        value["network"] = name = value.pop("name", None)
        if name not in get_args(Network):
            raise BundleError(f"The architecture {name!r} is unknown to this version: update wsiseg.")
        for key in ("mean", "std", "atrous_rates"):
            if isinstance(value.get(key), list):
                value[key] = tuple(value[key])
        if isinstance(value.get("peers"), list):
            value["peers"] = tuple(cls.from_json(peer) for peer in value["peers"])
        return cls(**value)


Perturbation = Callable[[list[Tensor]], list[Tensor]]


class SegmentationNet(nn.Module):
    """DeepLabV3+ (Chen et al. 2018) or DPT that takes plain pixels: the normalisation is a part of it.

    forward: (n, 3, h, w) float from 0 to 1 -> (n, classes, h, w) logits; h and w multiples of 16.
    It is `classify(decode(encode(image)))`. `perturb` changes the features in between. With names of `heads` the
    result is (logits, {name: what that head makes of the decoder's features}).

    Heads are networks that a method adds for its own loss: (n, decoder_channels, h / 4, w / 4) -> anything (h / 2 with
    DPT). One with the attribute `of_encoder` gets the encoder's features of every depth instead. Heads are no part of the
    architecture, and `without_heads` gives what goes into a bundle.

    With `peers` the plain forward gives logits whose softmax is the mean of the probabilities of all, so that whatever
    applies one network applies several. `encode`, `decode` and `classify` are of this one alone.
    """

    mean: Tensor
    std: Tensor
    net: Any  # with encoder, decoder and segmentation_head, whatever it is built from

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        ensure_torchvision()
        self.architecture = architecture
        try:
            self.net = _build(architecture)
        except (KeyError, ValueError, RuntimeError, TypeError, NotImplementedError) as error:
            examples = {
                "DeepLabV3Plus": "tu-tf_efficientnet_lite0, resnet34 or tu-xception65",
                "DPT": "tu-vit_small_patch14_dinov2 or tu-vit_large_patch16_224",
            }
            raise BundleError(
                f"{architecture.network} cannot be built on the encoder {architecture.encoder!r} ({error}): choose "
                f"another one, for instance {examples[architecture.network]}."
            ) from error
        self.heads = nn.ModuleDict()
        self.peers = nn.ModuleList(SegmentationNet(peer) for peer in architecture.peers)
        self.register_buffer("mean", torch.tensor(architecture.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(architecture.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, perturb: Perturbation | None = None, heads: Sequence[str] = ()) -> Any:
        features = self.encode(image)
        features = features if perturb is None else perturb(features)
        decoded = self.decode(features)
        logits = self.classify(decoded)
        if self.peers:
            each = [logits, *(peer(image) for peer in self.peers)]
            # The logarithm of the sum; its softmax is that of the mean.
            logits = torch.stack([one.float().log_softmax(1) for one in each]).logsumexp(0)
        if not heads:
            return logits
        made = {name: self.heads[name] for name in heads}
        return logits, {k: head(features if hasattr(head, "of_encoder") else decoded) for k, head in made.items()}

    def train(self, mode: bool = True) -> Self:
        """As of `nn.Module`; a frozen encoder keeps its batch statistics."""
        super().train(mode)
        if not any(p.requires_grad for p in self.net.encoder.parameters()):
            self.net.encoder.eval()
        return self

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
        """A copy without extra heads and with low-rank updates merged, as a bundle keeps it."""
        copy = deepcopy(self)
        for net in copy.members:
            net.heads = nn.ModuleDict()
        merge(copy)
        return copy

    @property
    def encoder_channels(self) -> list[int]:
        """Channels of the encoder's features, finest first."""
        encoder = self.net.encoder
        return list(encoder.channels if hasattr(encoder, "taken") else encoder.out_channels)

    @property
    def members(self) -> list[SegmentationNet]:
        """This network and its peers."""
        return [self, *(peer for peer in self.peers if isinstance(peer, SegmentationNet))]

    def with_peers(self, *others: SegmentationNet) -> SegmentationNet:
        """A copy that predicts together with copies of others."""
        copy = deepcopy(self)
        copy.peers = nn.ModuleList(map(deepcopy, others)).train(self.training)
        copy.architecture = dataclasses.replace(self.architecture, peers=tuple(other.architecture for other in others))
        return copy


def _build(architecture: Architecture) -> Any:
    if architecture.network == "DPT":
        from wsiseg.nets.dpt import build_dpt

        a = architecture
        return build_dpt(a.encoder, a.encoder_options, a.decoder_channels, a.classes)
    import segmentation_models_pytorch as smp

    if architecture.encoder_options:
        raise ValueError("encoder_options are for vision transformers, that is for DPT")
    return smp.DeepLabV3Plus(
        encoder_name=architecture.encoder,
        encoder_weights=None,
        encoder_output_stride=architecture.output_stride,
        decoder_channels=architecture.decoder_channels,
        decoder_atrous_rates=architecture.atrous_rates,
        classes=architecture.classes,
    )
