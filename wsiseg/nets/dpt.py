"""A dense prediction transformer (DPT, Ranftl et al. 2021) over any vision transformer of timm, such as pathology's.

image ─► patches of 14 or 16 px ─► transformer ─► tokens after four blocks ─► reassemble, fuse ─► features, h / 2 ─► logits

It has the parts of a segmentation network of segmentation-models-pytorch: `encoder`, `decoder`, `segmentation_head`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from timm.layers import GluMlp, Mlp, SwiGLU, SwiGLUPacked
from torch import Tensor, nn
from torch.nn import functional as F

DEPTH = 4  # blocks whose tokens are used, evenly spread; the last one is always among them
TOKEN = 16  # px of the image that a token stands for; images are resampled where the patches have another width
LAYERS = {"Mlp": Mlp, "GluMlp": GluMlp, "SwiGLU": SwiGLU, "SwiGLUPacked": SwiGLUPacked}


class Tokens(nn.Module):
    """A vision transformer whose tokens are feature maps: (n, 3, h, w) -> four of (n, channels, h / 16, w / 16)."""

    model: Any

    def __init__(self, name: str, options: Mapping[Any, Any]) -> None:
        super().__init__()
        options = dict(options)
        if "mlp_layer" in options:
            options["mlp_layer"] = LAYERS[options["mlp_layer"]]
        if timm.model_entrypoint(name).__module__.endswith(".vision_transformer"):
            options["dynamic_img_size"] = True  # others have rotary positions, which fit every size
        self.model = timm.create_model(name, pretrained=False, num_classes=0, **options)
        blocks = getattr(self.model, "blocks", None)
        if blocks is None or not hasattr(self.model, "patch_embed"):
            raise ValueError("it is no vision transformer")
        self.patch: int = self.model.patch_embed.patch_size[0]
        self.taken = [len(blocks) * (i + 1) // DEPTH - 1 for i in range(DEPTH)]
        self.channels = [self.model.feature_info[i]["num_chs"] for i in self.taken]

    def fix_size(self, height: int, width: int) -> None:
        """Resample the positions for images of this size, in px, once and for all: not every engine can do it."""
        self.model.set_input_size((height // TOKEN * self.patch, width // TOKEN * self.patch))
        if hasattr(self.model, "dynamic_img_size"):
            self.model.dynamic_img_size = False
            self.model.patch_embed.flatten = True  # to a list of tokens, which a fixed size goes with

    def forward(self, image: Tensor) -> list[Tensor]:
        if self.patch != TOKEN:
            size = [side // TOKEN * self.patch for side in image.shape[-2:]]
            image = F.interpolate(image, size, mode="bilinear")
        found: list[Tensor] = self.model.forward_intermediates(image, indices=self.taken, intermediates_only=True)
        return found


class Fuse(nn.Module):
    """DPT's decoder, without the class token: four feature maps -> (n, channels, h / 2, w / 2)."""

    def __init__(self, found: list[int], channels: int) -> None:
        from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder

        super().__init__()
        widths = [min(channels * factor, width) for factor, width in zip((1, 2, 4, 4), found, strict=True)]
        self.fuse = DPTDecoder(found, [TOKEN] * DEPTH, False, "ignore", widths, channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        fused: Tensor = self.fuse(features, [None] * len(features))
        return fused


def build_dpt(encoder: str, options: Mapping[Any, Any], channels: int, classes: int) -> nn.Module:
    """The network with random weights.

    Args:
        encoder: timm's name, with or without "tu-"
        options: settings of the transformer in place of those of its name, such as `init_values`
        channels: of the decoder
        classes: labels, background included

    Raises:
        ValueError, RuntimeError, TypeError: timm has no such transformer, or it has no such option
    """
    from segmentation_models_pytorch.decoders.dpt.decoder import DPTSegmentationHead

    net = nn.Module()
    net.encoder = tokens = Tokens(encoder.removeprefix("tu-"), options)
    net.decoder = Fuse(tokens.channels, channels)
    net.segmentation_head = DPTSegmentationHead(channels, classes, upsampling=2)
    return net
