"""Make torchvision importable beside a torch that was built without CUDA.

The torchvision wheels on PyPI are built for CUDA. Beside a CPU-only torch their compiled part does not load;
torchvision carries on without it, and then fails where it describes two of the operators that part would have brought:

    RuntimeError: operator torchvision::nms does not exist

timm imports torchvision, and segmentation-models-pytorch imports timm, so nothing works. Neither of them calls those
operators: it is enough that their signatures are known. `ensure_torchvision` declares them, and only on this failure.
"""

from __future__ import annotations

import importlib
import re
import sys

import torch

from wsiseg.errors import EngineError

_FAILURE = re.compile(r"operator torchvision::q?nms does not exist")

# Signatures as torchvision 0.28 registers them in C++ (torchvision/csrc/ops/nms.cpp and quantized/cpu/qnms_kernel.cpp).
_SCHEMAS = {
    "torchvision::nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# torch forgets a declaration when the Library object that made it is collected.
_kept_alive: list[torch.library.Library] = []


def ensure_torchvision() -> bool:
    """Import torchvision, declaring its missing operators if, and only if, it fails for lack of them.

    Call it before the first import of timm or segmentation_models_pytorch. Calling it again costs nothing.

    Returns:
        whether torchvision had to be helped; False where it is healthy

    Raises:
        EngineError: torchvision is missing or broken in some other way
    """
    if "torchvision" in sys.modules:
        return bool(_kept_alive)
    try:
        importlib.import_module("torchvision")
        return False
    except ImportError as error:
        _forget_half_loaded()
        raise _unusable(error) from error
    except Exception as error:  # a torchvision that fits another torch fails with many types
        _forget_half_loaded()
        if not _FAILURE.search(str(error)):
            raise _unusable(error) from error
    _declare_operators()
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        _forget_half_loaded()
        raise _unusable(error) from error
    return True


def _forget_half_loaded() -> None:
    """Python drops the package whose import failed, but keeps the submodules that loaded before the failure."""
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]


def _declare_operators() -> None:
    """Declare the signatures that torch does not know yet; no implementation, so a call still fails loudly."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not _is_known(name):
            library.define(schema)
    _kept_alive.append(library)


def _is_known(operator: str) -> bool:
    namespace, name = operator.split("::")
    return hasattr(getattr(torch.ops, namespace), name)


def _unusable(error: Exception) -> EngineError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return EngineError(
        f"torchvision, which the networks need, cannot be imported ({reason}): "
        "install torch and torchvision in one pip call with -c constraints.txt."
    )
