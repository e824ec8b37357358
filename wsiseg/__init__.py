"""Segmentation of whole-slide images: from a few annotated slides to objects on all the others.

The names of `wsiseg.api` are here as well, `wsiseg.predict` for instance. They are loaded when they are first used, so
that `import wsiseg` takes no time.
"""

import os
from importlib import import_module
from pathlib import Path
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


def _place_compiled_code() -> None:
    """Name a folder for numba's compiled code where it finds none: installed by root, used without a home.

    The folder in the place for temporary files is this user's alone; whoever could write to it could run code here.
    """
    if "NUMBA_CACHE_DIR" in os.environ or os.name != "posix":
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if os.access(Path(__file__).parent, os.W_OK) or os.access(there, os.W_OK | os.X_OK):
        return
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"wsiseg-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.lstat()
        private = (
            folder.is_dir() and not folder.is_symlink() and owner.st_uid == os.getuid() and not owner.st_mode & 0o077
        )
    except OSError:
        private = False
    os.environ["NUMBA_CACHE_DIR"] = str(folder) if private else tempfile.mkdtemp(prefix="wsiseg-")


_place_compiled_code()
