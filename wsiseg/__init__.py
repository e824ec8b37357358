"""Segmentation of whole-slide images: from a few annotated slides to objects on all the others.

The names of `wsiseg.api` are here as well, `wsiseg.predict` for instance. They are loaded when they are first used, so
that `import wsiseg` takes no time.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_API = (
    "Comparison", "Polygons", "Tables", "Tiles", "Training",
    "evaluate", "measure_objects", "open_slide", "plot", "predict", "read_annotations", "tile", "train",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module("wsiseg.api"), name)
    raise AttributeError(f"module 'wsiseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
