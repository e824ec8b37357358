"""The exponential moving average (EMA) of a network's weights, which predicts better than the last ones (Polyak 1992)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from wsiseg.nets.segmentation import SegmentationNet


class EMA:
    """An averaged copy of a network, in eval mode.

    The decay of the t-th update (from 0) is min(decay, 1 - 1 / (t + 1)): the first one copies the source, so that the
    random start never counts, and until the decay is reached the copy is the plain mean of all weights so far. Batch
    statistics are averaged like weights; counters are copied.
    """

    def __init__(self, source: SegmentationNet, decay: float) -> None:
        self.net = deepcopy(source).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, source: SegmentationNet) -> None:
        """Move towards the source's present weights."""
        decay = min(self.decay, 1 - 1 / (self.updates + 1))
        self.updates += 1
        mine, theirs = self.net.state_dict(), source.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floats], [theirs[n] for n in floats], 1 - decay)
        for name in mine.keys() - set(floats):
            mine[name].copy_(theirs[name])

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights, and how often they were updated."""
        return {"net": self.net.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.net.load_state_dict(state["net"])
        self.updates = state["updates"]
