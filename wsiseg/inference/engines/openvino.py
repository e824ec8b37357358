"""The OpenVINO engine: the same network on CPUs, several times as fast as PyTorch on those with bfloat16.

Converting a network takes seconds, so the result is kept in the user's cache (`$XDG_CACHE_HOME/wsiseg`, else
`~/.cache/wsiseg`) under the hash of all that it depends on. The conversion goes through OpenVINO's PyTorch front end
itself, not through its `convert_model`, which would report to its makers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from torch import Tensor, nn

from wsiseg.bundle import ModelBundle
from wsiseg.data.augment import to_float
from wsiseg.errors import EngineError

STREAMS = 2


class OpenVinoEngine:
    """A bundle's network compiled for the CPU, for batches of the bundle's own size.

    Precision is OpenVINO's own choice: bf16 on CPUs with AMX or AVX512-BF16, fp32 on others. Two batches are in work at
    once, each on half of the threads: threads that share a batch wait for each other at every layer, and for whichever
    of them has to let reading or blending go first.
    """

    def __init__(self, bundle: ModelBundle, threads: int | None = None) -> None:
        usage = bundle.usage
        self.shape = (usage.batch, usage.tile, usage.tile, 3)
        file = _cached(bundle, self.shape)
        self.streams = min(STREAMS, threads or os.cpu_count() or 1)
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": self.streams}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = openvino.Core().compile_model(file, "CPU", settings)
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.streams):
            request = self._compiled.create_infer_request()
            # The first look at a tensor's pixels sets up OpenVINO's bridge to NumPy, and two threads that do so at once
            # wait for each other for ever: one holds Python's lock, the other that of the bridge.
            request.get_input_tensor().data  # noqa: B018
            self._free.put(request)

    @classmethod
    def from_bundle(cls, bundle: ModelBundle, device: str = "auto", *, threads: int | None = None) -> OpenVinoEngine:
        """Convert a bundle's network, or take it from the cache; BundleError, EngineError."""
        if device not in ("auto", "cpu"):
            raise EngineError(f"OpenVINO runs on the CPU here, not on {device!r}: use --engine torch.")
        return cls(bundle, threads)

    @property
    def identity(self) -> dict[str, Any]:
        """See `Engine.identity`."""
        kind = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        return {
            "name": "openvino",
            "version": openvino.__version__,
            "device": "cpu",
            "precision": kind.get_type_name(),
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            "streams": self.streams,
        }

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.probabilities`."""
        if images.shape != self.shape:
            raise EngineError(f"This engine was compiled for tiles of {self.shape}, not of {images.shape}.")
        request = self._free.get()
        try:
            said: np.ndarray = request.infer([images])[0].copy()  # the next batch is written over it
        finally:
            self._free.put(request)
        return said


class _FromPixels(nn.Module):
    """The network from bytes to probabilities, so that both conversions run inside OpenVINO."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        probabilities: Tensor = self.net(to_float(pixels)).softmax(1)
        return probabilities


def _cached(bundle: ModelBundle, shape: tuple[int, ...]) -> Path:
    """The converted network of a bundle; converted now if it is not in the cache."""
    about = {"model": bundle.identity, "shape": shape, "openvino": openvino.__version__, "torch": torch.__version__}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsiseg" / "openvino"
    file = folder / f"{key}.xml"
    if file.exists() and file.with_suffix(".bin").exists():
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{key}.{os.getpid()}.xml"
        openvino.save_model(_converted(bundle, shape), partial, compress_to_fp16=False)
        partial.with_suffix(".bin").replace(file.with_suffix(".bin"))
        partial.replace(file)  # last: with it the pair is complete
    except OSError as error:
        raise EngineError(f"The converted network cannot be kept in {folder} ({error}): set XDG_CACHE_HOME.") from error
    return file


def _converted(bundle: ModelBundle, shape: tuple[int, ...]) -> openvino.Model:
    network = bundle.network()
    for member in network.members:
        if member.architecture.network == "DPT":
            member.net.encoder.fix_size(*shape[1:3])
    net = _FromPixels(network).eval()
    pixels = torch.zeros(shape, dtype=torch.uint8)
    with _only_errors():
        decoder: Any = TorchFXPythonDecoder.from_exported_program(torch.export.export(net, (pixels,)))
        front_end: Any = FrontEndManager().load_by_framework("pytorch")
        model: openvino.Model = front_end.convert(front_end.load(decoder))
    return model


@contextmanager
def _only_errors() -> Iterator[None]:
    """Without the decoder's warnings: it logs a traceback for every operation that PyTorch has renamed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(before)
