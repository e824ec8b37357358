"""Run a model bundle fast on a device."""

from __future__ import annotations

from importlib.util import find_spec

from wsiseg.bundle import ModelBundle
from wsiseg.errors import EngineError
from wsiseg.extras import require_extra
from wsiseg.inference.engines.engine import Engine
from wsiseg.inference.engines.torch import TorchEngine, find_device

NAMES = ("auto", "torch", "openvino")


def make_engine(bundle: ModelBundle, name: str = "auto", device: str = "auto", *, threads: int | None = None) -> Engine:
    """What runs a bundle.

    Args:
        bundle: the model
        name: "torch", "openvino", or "auto": OpenVINO on a CPU where it is installed, else PyTorch
        device: "auto", "cpu", "cuda", "cuda:1", …
        threads: of a CPU; results can depend on it in their last bits. As many as there are cores where None

    Raises:
        EngineError: no such engine or device here
        MissingExtraError: OpenVINO is not installed
        BundleError: the weights are missing or damaged
    """
    if name not in NAMES:
        raise EngineError(f"The engine {name!r} is unknown: choose one of {', '.join(NAMES)}.")
    if name == "auto":
        name = "openvino" if find_spec("openvino") and find_device(device).type == "cpu" else "torch"
    if name == "torch":
        return TorchEngine.from_bundle(bundle, device, threads=threads)
    require_extra("openvino", "The engine OpenVINO", otherwise="use --engine torch")
    from wsiseg.inference.engines.openvino import OpenVinoEngine

    return OpenVinoEngine.from_bundle(bundle, device, threads=threads)
