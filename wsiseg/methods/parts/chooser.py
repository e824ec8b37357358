"""Where unlabelled crops are drawn. Most tissue is empty: anywhere, fewer than one crop in five holds an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wsiseg.data.augment import to_float
from wsiseg.data.crops import CELLS, cell_of
from wsiseg.geometry import Box
from wsiseg.methods.context import Context

STRIDE = 16  # px; tiles are cut to whole multiples for the network


class CropChooser:
    """Every so many steps a teacher looks at tiles, and crops are then centred where it sees objects.

    Of the tiles drawn this time, each of their parts is weighted by the probability of all objects in it, and evenly for
    the rest of the crops, so that a teacher that misses an object everywhere does not keep its tissue away for good.

    Attributes:
        favoured: (classes,) weight of each class in that choice, 0 of background, and then also of the classes that labelled
            crops are centred on; None: objects of all classes alike, and labelled crops as the recipe has them
    """

    def __init__(self, ctx: Context) -> None:
        self.options, self.pools, self.device = ctx.options, ctx.pools, ctx.device
        self.favoured: Tensor | None = None
        self.updates = 0

    def step(self, teacher: Callable[[Tensor], Tensor], ready: bool = True) -> dict[str, float]:
        """Count a step; choose again when it is time and the teacher is ready. Gives metrics to log."""
        o = self.options
        due = o.choose_every and self.updates % o.choose_every == 0 and ready
        self.updates += 1
        if due and self.favoured is not None:
            self.pools.favour(self.favoured[1:])
        return self._choose(teacher) if due else {}

    @torch.no_grad()
    def _choose(self, teacher: Callable[[Tensor], Tensor]) -> dict[str, float]:
        dataset = self.pools.dataset("unlabelled")
        if dataset is None:
            return {}
        tiles = torch.randperm(len(dataset.places))[: self.options.choose_tiles]
        seen = torch.zeros(len(dataset.places), CELLS, CELLS)
        found = torch.zeros_like(seen)
        for number in tiles.tolist():
            s, i = dataset.places[number]
            store, tile = dataset.stores[s], dataset.stores[s].tile(int(i))
            image = torch.from_numpy(store.read(tile.keep))
            h, w = (n // STRIDE * STRIDE for n in image.shape[:2])
            if not h or not w:
                continue
            probability = teacher(to_float(image[None, :h, :w].to(self.device)))[0].cpu()
            objects = 1 - probability[0]
            if self.favoured is not None:
                objects = (probability * self.favoured[:, None, None]).sum(0)
            inner = Box(0, 0, tile.keep.w, tile.keep.h)
            for row in range(CELLS):
                for col in range(CELLS):
                    part = objects[cell_of(inner, row, col).slices]
                    seen[number, row, col] = 1
                    found[number, row, col] = part.mean() if part.numel() else 0
        fraction = self.options.choose_objects
        total = found.sum().clamp_min(1e-6)
        self.pools.weigh("unlabelled", fraction * found / total + (1 - fraction) * seen / seen.sum().clamp_min(1))
        return {"chosen_objects": (found.square().sum() / total).item()}

    def state_dict(self) -> dict[str, Any]:
        """How many steps were counted; the choice itself is kept with the pools."""
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.updates = state["updates"]
