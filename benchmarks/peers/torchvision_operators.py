"""Import this before anything that imports torchvision: its CUDA build then works beside a torch without CUDA.

torchvision describes two operators of its compiled part, which does not load there, and fails. Nothing here calls them;
it is enough that they are declared. What runs in these environments cannot use `wsiseg.nets.compat`, which does the same.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

_found = find_spec("torchvision")
DECLARED = None  # torch forgets a declaration when this is collected
if _found and _found.origin and torch.version.cuda is None:
    if "+cu" in (Path(_found.origin).parent / "version.py").read_text():
        DECLARED = torch.library.Library("torchvision", "DEF")
        for _name in ("nms", "qnms"):
            DECLARED.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
