"""Run a model bundle fast on a device."""

from wsiseg.engines.torch import TorchEngine

ENGINES = {"torch": TorchEngine}
