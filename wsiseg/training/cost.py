"""What training will take, from a few steps of the recipe's network on random crops."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from wsiseg.inference.engines.torch import find_device
from wsiseg.recipe import Recipe
from wsiseg.training.start import build_network

PROGRAMS = 900 * 2**20  # bytes: Python, torch and its libraries, with the tiles that are read ahead
LOADER = 350 * 2**20  # bytes of each process that reads crops
PER_WEIGHT = 5  # weight, gradient, two moments of AdamW, moving average
TEMPORARY = 1.3  # on top of what is kept for the backward pass
FEW = 2  # crops that are measured on a CPU, where time grows with their number


@dataclass(frozen=True, slots=True)
class Cost:
    """What training takes.

    Attributes:
        step: seconds for one step, forward and backward
        total: seconds for all steps of all stages, without tiling and evaluation
        memory: bytes, of the device where it is a GPU
        device: which device was measured
    """

    step: float
    total: float
    memory: float
    device: str


def measure_cost(recipe: Recipe, device: str = "auto") -> Cost:
    """Time one step of supervised learning and count what it keeps in memory.

    Methods that also learn from slides without annotations pass more crops through the network, and take a multiple.

    Args:
        recipe: its slides are not read
        device: "auto", "cpu", "cuda", …

    Raises:
        EngineError: the device is not there
    """
    where = find_device(device)
    training = recipe.training
    crops = training.batch if where.type != "cpu" else min(FEW, training.batch)
    plain = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": "none"})})
    net = build_network(plain, len(recipe.classes.names))[0].to(where).train()
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    pixels = torch.rand(crops, 3, training.crop, training.crop, device=where)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = net(pixels).float().mean()
    loss.backward()  # also warms up
    _wait(where)
    began = time.monotonic()
    net(pixels).float().mean().backward()
    _wait(where)
    step = (time.monotonic() - began) * training.batch / crops
    steps = sum(stage.training.steps for _, stage in recipe.stages())
    memory = TEMPORARY * sum(kept.values()) * training.batch / crops + PER_WEIGHT * weights
    if where.type == "cpu":
        memory += PROGRAMS + training.loaders * LOADER
    return Cost(step, step * steps, memory, str(where))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
