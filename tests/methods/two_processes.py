"""One step of a method in one process or in two, with the same crops in all: `two_processes.py METHOD OUT` is in two.

`NODE_RANK=n two_processes.py METHOD OUT PROCESSES DEVICE` is process n of several that share one device.

Batch statistics and dropout differ between processes by nature, so they stand still here, and so does augmentation.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

import lightning_fabric
import torch
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from wsiseg.data.augment import to_float
from wsiseg.data.crops import Batch, Drawing, Pools
from wsiseg.methods import make_method
from wsiseg.methods.context import Batches, Context
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.recipe import Recipe
from wsiseg.training.run import make_fabric

TABLES: dict[str, dict[str, Any]] = {
    "supervised": {},
    "adversarial": {
        "adversarial_start": 0.0, "unlabelled_start": 0.0, "rampup": 0.0, "discriminator_width": 4, "target": "source",
        "held_out": 0.0, "self_taught_weight": 0.0,
    },
}  # fmt: skip


def still(net: nn.Module) -> None:
    """Batch normalisation and dropout as in prediction, whatever mode is asked for."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]


def sharing(device: str, processes: int) -> Any:
    """A launched Fabric of one process of several on one device: each is a node of its own, and Gloo lets them share."""
    strategy = DDPStrategy(broadcast_buffers=False, process_group_backend="gloo") if processes > 1 else "auto"
    fabric = lightning_fabric.Fabric(accelerator=device, devices=1, num_nodes=processes, strategy=strategy)
    fabric.launch()
    return fabric


def gradients(name: str, processes: int, device: str | None = None) -> dict[str, Tensor]:
    """The gradients of a method's networks after one step, in this process and the others that Fabric starts."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # the gradients are compared to 1/1000
    fabric = sharing(device, processes) if device else make_fabric(torch.device("cpu"), processes, "32-true")
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "classes": {"names": ["Background", "A", "B"]},
            "data": {"slides": "none.csv", "mpp": 2.0},
            # Dice is a ratio over the whole batch, so its mean over processes is another number.
            "method": {"name": name, "dice": 0.0, "warmup": 0.0, **TABLES[name]},
            "training": {"steps": 6, "batch": 4, "crop": 64},
        }
    )
    torch.manual_seed(0)
    net = SegmentationNet(Architecture("tu-test_resnet", 3, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16))
    still(net)
    context = Context(
        recipe.method, recipe.classes.class_map(), 2.0, 64, recipe.augment, fabric, lambda encoder=None: net,
        Pools([], [], Drawing(4, 64, 0)),
    )  # fmt: skip
    method: Any = make_method(context)
    method.views.weak = lambda batch: (to_float(batch.images), batch.labels.long())
    method.views.plain = lambda batch: (to_float(batch.images), batch.covered)
    method.views.stain = lambda images: images
    torch.manual_seed(1)
    images, labels = torch.randint(0, 256, (4, 64, 64, 3)).to(torch.uint8), torch.randint(0, 3, (4, 64, 64))
    place = torch.zeros(4, 2, dtype=torch.long)
    whole = Batch(images, labels.to(torch.uint8), labels >= 0, place[:, 0], place, ((),) * 4)
    whole = whole.to(fabric.device)
    mine = slice(None) if processes == 1 else slice(2 * fabric.global_rank, 2 * fabric.global_rank + 2)
    metrics = method.update(Batches(whole.part(mine), replace(whole, images=whole.images.flip(0)).part(mine)), 0.9)
    found = {f"net/{k}": p.grad for k, p in method.student.net.module.named_parameters() if p.grad is not None}
    if name == "adversarial":
        assert "adversarial_unlabelled" in metrics
        found |= {f"discriminator/{k}": p.grad for k, p in method.critic.net.module.named_parameters()}
    return {k: v.cpu().clone() for k, v in found.items()}


if __name__ == "__main__":
    shared = sys.argv[3:]
    found = gradients(sys.argv[1], int(shared[0]), shared[1]) if shared else gradients(sys.argv[1], 2)
    if int(os.environ.get("NODE_RANK" if shared else "LOCAL_RANK", "0")) == 0:
        torch.save(found, sys.argv[2])
