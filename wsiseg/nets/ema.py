"""The exponential moving average of a network's weights, which predicts better than the last ones (Polyak 1992)."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


class Average:
    """An averaged copy of a network.

    Early on the decay is min(decay, (1 + t) / (10 + t)), so that the random start is soon forgotten. Batch statistics
    are averaged like weights; counters are copied.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.net = deepcopy(source).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """Move towards the source's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        mine, theirs = self.net.state_dict(), source.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floats], [theirs[n] for n in floats], 1 - decay)
        for name in mine.keys() - set(floats):
            mine[name].copy_(theirs[name])
