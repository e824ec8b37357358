"""Which weights of an encoder learn: all, none, those of the last blocks, or low-rank updates (LoRA, Hu et al. 2022)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsiseg.errors import RecipeError

EncoderTraining = Literal["all", "frozen", "lora"] | int
RANK, SCALE = 8, 2.0


class LowRank(nn.Module):
    """A linear layer with the weight W + SCALE · up · down, where `up` starts at 0, so that nothing changes at first."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        rank = min(RANK, layer.out_features, layer.in_features)
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs), as some attention reads it."""
        return self.layer.weight + SCALE * (self.up @ self.down)

    @property
    def bias(self) -> Tensor | None:
        """(outputs,)"""
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def restrict(encoder: nn.Module, training: EncoderTraining) -> None:
    """Let only this much of an encoder learn, in place.

    Args:
        encoder: of a `SegmentationNet`
        training: "all"; "frozen", nothing; a number, the last so many blocks of a vision transformer; "lora", low-rank
            updates of its attention

    Raises:
        RecipeError: the encoder is no vision transformer, or has fewer blocks
    """
    if training == "all":
        return
    encoder.requires_grad_(False)
    if training == "frozen":
        return
    blocks = getattr(getattr(encoder, "model", None), "blocks", None)
    if blocks is None:
        raise RecipeError(
            'model.encoder_training takes a number of blocks or "lora" for vision transformers (model.network = "DPT"): '
            'write "all" or "frozen".'
        )
    if training == "lora":
        for block in blocks:
            for name, layer in list(block.attn.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(block.attn, name, LowRank(layer))
    elif training > len(blocks):
        raise RecipeError(f"model.encoder_training is {training}, and the encoder has {len(blocks)} blocks.")
    else:
        blocks[-training:].requires_grad_(True)


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Make low-rank updates a part of the weights that they change, in place, so that the architecture is plain again."""
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, LowRank):
                layer.layer.weight.copy_(layer.weight)
                setattr(module, name, layer.layer)
