"""What tags say of crops, and a head that is taught by them: class activation maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsiseg.classes import IGNORE, ClassMap
from wsiseg.errors import RecipeError

UNKNOWN = -1
DEPTHS = 3  # of the encoder that activations see: down to 8 px of the image for each of theirs
SHARPNESS = 5.0  # r of Pinheiro & Collobert 2015: 0 is the mean, infinity the maximum


class TagReader:
    """Which classes a slide has, by its tags in the slide list.

    A tag names a class, in upper or lower case, or one that `renamed` maps to a class. A slide with tags has the classes
    that they name and no others, so any further tag, such as "normal", says that a slide has none of the rest. A slide
    without tags says nothing.

    Args:
        classes: background first
        renamed: tag -> class

    Raises:
        RecipeError: `renamed` maps a tag to no class
    """

    def __init__(self, classes: ClassMap, renamed: Mapping[str, str]) -> None:
        self.names = [name.casefold() for name in classes.names]
        self.renamed = {tag.casefold(): name.casefold() for tag, name in renamed.items()}
        for tag, name in renamed.items():
            if name.casefold() not in self.names[1:]:
                raise RecipeError(
                    f"method.tags maps {tag!r} to {name!r}, which is no class: the classes are "
                    f"{', '.join(classes.names[1:])}."
                )

    def __call__(self, tags: Sequence[Sequence[str]]) -> Tensor:
        """(n, classes - 1) float32 on the CPU for the tags of n slides: 1 it has the class, 0 it has not, UNKNOWN."""
        found = torch.full((len(tags), len(self.names) - 1), float(UNKNOWN))
        for row, each in zip(found, tags, strict=True):
            names = {self.renamed.get(tag.casefold(), tag.casefold()) for tag in each}
            if names:
                row.copy_(torch.tensor([float(name in names) for name in self.names[1:]]))
        return found


def classes_seen(labels: Tensor, classes: int) -> Tensor:
    """(n, classes - 1) float32 of label maps (n, h, w): 1 where the crop has pixels of the class.

    Where it has none: 0, or UNKNOWN if some of its pixels have no label.
    """
    seen = torch.stack([(labels == c).flatten(1).any(1) for c in range(1, classes)], 1)
    partly = (labels == IGNORE).flatten(1).any(1, keepdim=True)
    return torch.where(seen, 1.0, torch.where(partly, float(UNKNOWN), 0.0))


class ClassActivation(nn.Module):
    """Class activation maps: the encoder's last features -> (n, classes - 1, h / 8, w / 8) logits, without background.

    A head of the decoder would not do: there each place knows the whole crop, and what is in the crop would be seen
    everywhere in it.

    Args:
        channels: of the encoder's features
        classes: background included
        width: channels of the layer between
    """

    of_encoder = True

    def __init__(self, channels: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels[-DEPTHS:])
        self.last = nn.Conv2d(width, classes - 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        size = features[-DEPTHS].shape[-2:]
        each = [
            F.interpolate(layer(f), size, mode="bilinear", align_corners=False)
            for layer, f in zip(self.layers, features[-DEPTHS:], strict=True)
        ]
        scores: Tensor = self.last(torch.stack(each).sum(0).relu())
        return scores


def smooth_maximum(scores: Tensor) -> Tensor:
    """(n, classes - 1) logits of the presence of each class in a crop: log-mean-exp (Pinheiro & Collobert 2015).

    A small object must not be averaged away, and the maximum alone teaches one place.

    Args:
        scores: (n, classes - 1, h, w)
    """
    flat = SHARPNESS * scores.flatten(2)
    return (flat.logsumexp(2) - math.log(flat.shape[2])) / SHARPNESS


def presence_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over the known targets; 0 where none is.

    Args:
        logits: (n, classes - 1)
        targets: (n, classes - 1), 1, 0 or UNKNOWN
    """
    known = (targets >= 0).float()
    loss = F.binary_cross_entropy_with_logits(logits.float(), targets.clamp_min(0), reduction="none")
    return (loss * known).sum() / known.sum().clamp_min(1)
