"""Import this before anything that imports torchvision: its CUDA build then works beside a torch without CUDA.

torchvision describes two operators of its compiled part, which does not load there, and fails. Nothing here calls them;
it is enough that they are declared. `wsiseg.nets.compat` does the same, and is not there in these environments.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


def _built_for_cuda() -> bool:
    found = find_spec("torchvision")
    return bool(found and found.origin) and "+cu" in (Path(found.origin).parent / "version.py").read_text()


DECLARED = None  # torch forgets a declaration when this is collected
if torch.version.cuda is None and _built_for_cuda():
    DECLARED = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        DECLARED.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
