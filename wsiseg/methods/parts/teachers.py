"""Teachers: they label unlabelled crops. A teacher maps images to probabilities and is never trained itself."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from wsiseg.nets.ema import EMA
from wsiseg.nets.segmentation import SegmentationNet

FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))  # axes of (n, channels, h, w)


@torch.no_grad()
def probabilities(net: SegmentationNet, images: Tensor, fabric: Any) -> Tensor:
    """(n, classes, h, w) float32 of a network in eval mode, for (n, 3, h, w) images."""
    with fabric.autocast():
        logits: Tensor = net(images)
    return logits.float().softmax(1)


class EMATeacher:
    """The student's own average (Tarvainen & Valpola 2017): it gets better as the student does."""

    def __init__(self, ema: EMA, fabric: Any) -> None:
        self.ema, self.fabric = ema, fabric

    def __call__(self, images: Tensor) -> Tensor:
        """(n, classes, h, w) probabilities."""
        return probabilities(self.ema.net, images, self.fabric)


class Ensemble:
    """The newest of several networks that stand still; the mean over them and four flips.

    Args:
        fabric: of the context
        like: a network of the members' architecture
        members: how many are kept
    """

    def __init__(self, fabric: Any, like: SegmentationNet, members: int) -> None:
        self.fabric, self.like, self.most = fabric, like, members
        self.members: list[SegmentationNet] = []

    def add(self, net: SegmentationNet) -> None:
        """Take a copy of a network in; the oldest one leaves when there are too many."""
        self.members = [*self.members, deepcopy(net).eval().requires_grad_(False)][-self.most :]

    def __bool__(self) -> bool:
        return bool(self.members)

    def __call__(self, images: Tensor) -> Tensor:
        """(n, classes, h, w) probabilities."""
        each = [probabilities(net, images.flip(f), self.fabric).flip(f) for net in self.members for f in FLIPS]
        return torch.stack(each).mean(0)

    def state_dict(self) -> dict[str, Any]:
        """The members' weights."""
        return {"members": [net.state_dict() for net in self.members]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.members = []
        for weights in state["members"]:
            self.add(self.like)
            self.members[-1].load_state_dict(weights)
