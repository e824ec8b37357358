"""The PyTorch engine, for every device of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from wsiseg.bundle import ModelBundle
from wsiseg.data.augment import to_float
from wsiseg.errors import EngineError


def find_device(name: str) -> torch.device:
    """The device of a name: "auto" (CUDA, else Apple's, else the CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        EngineError: no such device here
    """
    if name == "auto":
        cuda, apple = torch.cuda.is_available(), torch.backends.mps.is_available()
        return torch.device("cuda" if cuda else "mps" if apple else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        have = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise EngineError(
            f"The device {name!r} does not exist here; there are {', '.join(have)} (or use auto)."
        ) from error
    return device


class TorchEngine:
    """A network under PyTorch: bf16 or fp16 autocast and pinned copies on CUDA, plain fp32 elsewhere."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        self.device = device
        self.net = net.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        cuda = device.type == "cuda"
        self.dtype = (torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16) if cuda else torch.float32

    @classmethod
    def from_bundle(cls, bundle: ModelBundle, device: str = "auto", *, threads: int | None = None) -> TorchEngine:
        """Load a bundle's network onto a device; BundleError, EngineError.

        Args:
            bundle: the model
            device: see `find_device`
            threads: of the whole process on a CPU; results can depend on it in their last bits. PyTorch's own choice
                where None
        """
        if threads is not None:
            torch.set_num_threads(threads)
        where = find_device(device)
        return cls(bundle.network(), where)

    @property
    def identity(self) -> dict[str, Any]:
        """See `Engine.identity`."""
        cpu = self.device.type == "cpu"
        return {
            "name": "torch",
            "version": torch.__version__,
            "device": "cpu"
            if cpu
            else torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else "mps",
            "precision": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads() if cpu else 0,
        }

    @property
    def streams(self) -> int:
        """See `Engine.streams`."""
        return 1

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.probabilities`."""
        pixels = torch.from_numpy(images)
        if self.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        elif self.device.type != "cpu":
            pixels = pixels.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.net(to_float(pixels))
        result: np.ndarray = logits.float().softmax(1).cpu().numpy()
        return result
