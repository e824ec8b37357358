"""Nothing names a device by hand: every method's step on another device than the CPU, without one.

Fake tensors know their shape, type and device, and complain where devices are mixed, but hold no numbers. A build of
PyTorch without CUDA cannot even pretend to have gradients there, so the other device is then the one called "meta".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from wsiseg.data.crops import Batch, Drawing, Pools
from wsiseg.methods import METHODS, make_method
from wsiseg.methods.context import Batches, Context
from wsiseg.nets.compat import ensure_torchvision
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.recipe import Recipe

DEVICE = "cuda" if torch.version.cuda else "meta"
NOW = {"unlabelled_start": 0.0, "rampup": 0.0}
TABLES: dict[str, dict[str, Any]] = {
    "supervised": {"noisy_label_threshold": 0.5, "noisy_label_warmup": 0.0},
    "adversarial": {**NOW, "adversarial_start": 0.0, "feature_matching": 0.1, "r1": 1.0, "r1_every": 1},
    "adaptation": {**NOW, "consistency_weight": 1.0},
    "self_training": {**NOW, "rounds": 2},
    "mix_and_match": {},
    "dmpct": {**NOW, "rounds": 2},
}  # of other methods: `NOW`


class Wrapped(nn.Module):
    """What Fabric puts around a network."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        with autocast():
            return self.module(*args)


def autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16) if DEVICE == "cuda" else nullcontext()


class OtherFabric:
    """The few things that a method asks of Fabric, on a device that need not be there."""

    device = torch.device(DEVICE)

    def setup(self, net: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        before = list(net.parameters())
        after = dict(zip(map(id, before), net.to(DEVICE).parameters(), strict=True))
        for group in optimiser.param_groups:
            group["params"] = [after[id(p)] for p in group["params"]]
        return Wrapped(net), optimiser

    def autocast(self) -> AbstractContextManager[Any]:
        return autocast()

    def backward(self, loss: Tensor) -> None:
        loss.backward()


def moved(self: nn.Module, device: str | None = None, **_: Any) -> nn.Module:
    """nn.Module.to swaps what its tensors hold, which fake ones do not allow: put new ones in their place."""
    for module in self.modules() if device else ():
        for table in (module._parameters, module._buffers):
            for key, value in table.items():
                if value is not None:
                    there = value.detach().to(device)
                    table[key] = nn.Parameter(there, value.requires_grad) if isinstance(value, nn.Parameter) else there
    return self


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    ensure_torchvision()
    import segmentation_models_pytorch  # noqa: F401  # imported outside of the mode: it makes real tensors

    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.5)  # a fake loss has no number
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda self, memo: self, raising=False)  # one world for copies
    with FakeTensorMode() as mode:
        yield mode


def update_on(name: str, batch_on: str) -> dict[str, float]:
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "classes": {"names": ["Background", "A", "B"]},
            "data": {"slides": "none.csv", "mpp": 2.0},
            "method": {"name": name, **TABLES.get(name, NOW)},
            "augment": {"stain": 0.1},
            "training": {"steps": 6, "batch": 2, "crop": 64},
        }
    )
    architecture = Architecture("tu-test_resnet", 3, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16)
    images = torch.zeros(2, 96, 96, 3, dtype=torch.uint8, device=batch_on)
    labels, place = torch.zeros(2, 96, 96, dtype=torch.uint8, device=batch_on), torch.zeros(2, 2, device=batch_on)
    crops = Batch(images, labels, labels == 0, place[:, 0], place, ((), ()))
    pools = Pools([], [], Drawing(2, 96, 0))
    pools.hold_out = lambda fraction: None  # type: ignore[method-assign]  # there are no stores
    context = Context(
        recipe.method, recipe.classes.class_map(), 2.0, 64, recipe.augment, OtherFabric(),
        lambda encoder=None: SegmentationNet(architecture), pools,
    )  # fmt: skip
    method = make_method(context)
    batches = Batches(crops, crops, crops)
    method.update(batches, 0.4)
    return method.update(batches, 0.9)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.usefixtures("fake")
def test_a_step_elsewhere_mixes_no_devices(name: str) -> None:
    assert "loss" in update_on(name, DEVICE)


@pytest.mark.usefixtures("fake")
def test_the_check_would_see_a_mix() -> None:
    with pytest.raises(RuntimeError, match="device"):
        update_on("supervised", "cpu")
