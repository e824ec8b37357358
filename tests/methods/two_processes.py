"""One step of a method in one process or in two, with the same crops in all: `two_processes.py METHOD PROCESSES OUT`.

Batch statistics and dropout differ between processes by nature, so they stand still here, and so does augmentation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsiseg.data.augment import to_float
from wsiseg.methods import METHODS
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.recipe import Recipe
from wsiseg.training.run import make_fabric

EAGER = {"start": 0.0, "unlabelled_from": 0.0, "ramp": 0.0, "width": 4}


def still(net: nn.Module) -> None:
    """Batch normalisation and dropout as in prediction, whatever mode is asked for."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]


def main() -> None:
    name, processes, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    fabric = make_fabric(torch.device("cpu"), processes, "32-true")
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "classes": {"names": ["Background", "A", "B"]},
            "data": {"slides": "none.csv", "mpp": 2.0},
            # Dice is a ratio over the whole batch, so its mean over processes is another number.
            "method": {"name": name, "dice": 0.0, "warmup": 0.0, "adversarial": EAGER},
            "training": {"steps": 6, "batch": 4, "crop": 64},
        }
    )
    torch.manual_seed(0)
    generator = SegmentationNet(Architecture("resnet18", 3, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16))
    still(generator)
    method: Any = METHODS[name](recipe, recipe.classes.class_map(), fabric, generator)
    method.augment = lambda images, labels: (to_float(images), labels.long())
    torch.manual_seed(1)
    images, labels = torch.randint(0, 256, (4, 64, 64, 3)).to(torch.uint8), torch.randint(0, 3, (4, 64, 64))
    mine = slice(None) if processes == 1 else slice(2 * fabric.global_rank, 2 * fabric.global_rank + 2)
    figures = method.update((images[mine], labels[mine]), (images.flip(0)[mine], labels[mine]), 0.9)
    if fabric.is_global_zero:
        found = {f"generator/{k}": p.grad for k, p in method.net.module.named_parameters() if p.grad is not None}
        if name == "adversarial":
            assert "adversarial_unlabelled" in figures
            found |= {f"discriminator/{k}": p.grad for k, p in method.discriminator.module.named_parameters()}
        result: dict[str, Tensor] = {k: v.clone() for k, v in found.items()}
        torch.save(result, out)


if __name__ == "__main__":
    main()
