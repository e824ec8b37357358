"""Check the installation: what works, what is missing, and how to install it.

Every check runs by itself: whatever an import raises becomes the text of that check, and the others go on.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from wsiseg import __version__
from wsiseg.extras import EXTRAS
from wsiseg.process_memory import container_memory

CHECKOUT = (Path(__file__).parents[1] / "constraints.txt").is_file()  # else it was installed from a wheel
PIP, ALL = (
    ("pip install -c constraints.txt", "-e '.[all]'")
    if CHECKOUT
    else ("pip install", "--force-reinstall 'wsiseg[all]'")
)
REINSTALL = f"install wsiseg and its dependencies again, in one call: {PIP} {ALL}"
LOW_MEMORY_GB = 4
LOW_DISK_GB = 5
GB = 1e9


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: the thing
        ok: False where wsiseg needs it and cannot use it; what is only useful is always ok
        detail: what was found, or the error
        advice: what to do next; empty where there is nothing to do
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""


# What a check finds: its detail and its advice. It raises when the thing is needed and cannot be used.
Finding = tuple[str, str]


class MissingError(Exception):
    """Something needed is not there; the arguments are the detail and the advice."""


def examine() -> list[Check]:
    """Run all checks, a few seconds in total: first what wsiseg needs, then the machine, then optional packages."""
    return [_look(name, probe) for name, probe in CHECKS]


def render(checks: list[Check]) -> Table:
    """The checks as a table for a terminal."""
    table = Table(box=None, pad_edge=False, title="wsiseg doctor", title_justify="left")
    for heading in ("", "what", "found", "what to do"):
        table.add_column(heading, overflow="fold", no_wrap=not heading)
    for check in checks:
        mark = "[green]ok[/]" if check.ok and not check.advice else "[yellow]note[/]" if check.ok else "[red]bad[/]"
        table.add_row(mark, escape(check.name), escape(check.detail), escape(check.advice))
    return table


def _look(name: str, probe: Callable[[], Finding]) -> Check:
    try:
        detail, advice = probe()
    except MissingError as missing:
        return Check(name, False, missing.args[0], missing.args[1])
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(error.name or "")
        if extra is None:
            return Check(name, False, f"{error.name} is not installed", REINSTALL)
        return Check(name, True, f"{error.name} is not installed", f"for `wsiseg {extra}`: {_install(extra)}")
    except Exception as error:  # an import may fail with anything; the text of it is what the doctor is for
        reason = " ".join(str(error).split())
        return Check(name, False, f"{type(error).__name__}: {reason}" if reason else type(error).__name__, REINSTALL)
    return Check(name, True, detail, advice)


def _python() -> Finding:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}", ""


def _torch() -> Finding:
    import torch

    if torch.version.cuda:
        build = f"built for CUDA {torch.version.cuda}"
    elif torch.version.hip:
        build = f"built for ROCm {torch.version.hip}"
    else:
        build = "built for the CPU only"
    advice = ""
    if _has_nvidia_driver() and not torch.cuda.is_available():
        advice = (
            "this torch cannot use the NVIDIA GPU: update the driver"
            if torch.version.cuda
            else "there is an NVIDIA GPU: install a torch of the same version that is built for CUDA"
        )
    return f"{torch.__version__}, {build}", advice


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _devices() -> Finding:
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index} {properties.name} ({properties.total_memory / GB:.1f} GB)")
    if torch.backends.mps.is_available():
        found.append("mps (Apple GPU)")
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    simd = [torch.backends.cpu.get_cpu_capability()]
    simd += [text for key, text in (("avx512_bf16", "AVX512 bf16"), ("amx_bf16", "AMX bf16")) if cpu.get(key)]
    found.append(f"cpu ({_cores()} cores, {', '.join(simd)})")
    return "; ".join(found), ""


def _cores() -> int:
    """Cores this process may use, which a container or a cluster may have cut down."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torchvision() -> Finding:
    from wsiseg.nets.compat import ensure_torchvision

    helped = ensure_torchvision()
    version = importlib.import_module("torchvision").__version__
    return f"{version}, {'made to fit this torch by wsiseg' if helped else 'healthy'}", ""


def _timm() -> Finding:
    from wsiseg.nets.compat import ensure_torchvision

    ensure_torchvision()
    smp, timm = importlib.import_module("segmentation_models_pytorch"), importlib.import_module("timm")
    return f"segmentation-models-pytorch {smp.__version__}, timm {timm.__version__}", ""


def _weights() -> Finding:
    from wsiseg.nets.weights import OFFLINE

    found = [f"{encoder} ({package} {metadata.version(package)})" for encoder, package in OFFLINE.items()]
    return ", ".join(found), ""


def _openslide() -> Finding:
    openslide = importlib.import_module("openslide")
    return f"library {openslide.__library_version__}, openslide-python {openslide.__version__}", ""


def _imported(module: str) -> Callable[[], Finding]:
    """A check that imports a module and says its version."""

    def probe() -> Finding:
        return str(importlib.import_module(module).__version__), ""

    return probe


def _codecs() -> Finding:
    imagecodecs = importlib.import_module("imagecodecs")
    codecs = {"JPEG": "JPEG8", "JPEG 2000": "JPEG2K", "zstd": "ZSTD", "WebP": "WEBP", "deflate": "ZLIB"}
    have = {name: bool(getattr(imagecodecs, codec).available) for name, codec in codecs.items()}
    detail = f"imagecodecs {imagecodecs.__version__}: {', '.join(name for name, ok in have.items() if ok)}"
    if not all(have.values()):
        lacking = ", ".join(name for name, ok in have.items() if not ok)
        raise MissingError(
            f"{detail}; without {lacking}", "install imagecodecs from a wheel, whose codecs are complete"
        )
    return detail, ""


def _shapely() -> Finding:
    shapely = importlib.import_module("shapely")
    if shapely.geos_version < (3, 10, 0):
        raise MissingError(f"GEOS {shapely.geos_version_string}", "install shapely from a wheel: GEOS 3.10 is needed")
    return f"shapely {shapely.__version__}, GEOS {shapely.geos_version_string}", ""


def _numba() -> Finding:
    numba = importlib.import_module("numba")
    caching = importlib.import_module("numba.core.caching")
    try:
        folder = caching.FunctionCache(_numba).cache_path
    except RuntimeError:  # numba found no folder it could write
        return f"{numba.__version__}, without a cache", "set NUMBA_CACHE_DIR to a folder that can be written"
    return f"{numba.__version__}, cache in {folder}", ""


def _memory() -> Finding:
    free = _free_memory()
    if free is None:
        return "this system does not say", ""
    low = free < LOW_MEMORY_GB * GB
    return f"{free / GB:.1f} GB free", "close other programs or take smaller tiles and batches" if low else ""


def _free_memory() -> float | None:
    """Bytes that a process could still allocate, within the limit of its container; None if unknown."""
    found = []
    table = Path("/proc/meminfo")
    if table.exists():
        rows = dict(line.split(":", 1) for line in table.read_text().splitlines())
        found.append(float(rows["MemAvailable"].split()[0]) * 1024)
    container = container_memory()
    if container is not None:
        found.append(float(container[1]))
    return min(found, default=None)


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    detail = f"{free / GB:.1f} GB free in the working directory"
    if not os.access(".", os.W_OK):
        return f"{detail}, which cannot be written", "name another place with --out"
    return detail, "make room, or name another place with --out" if free < LOW_DISK_GB * GB else ""


def _install(extra: str) -> str:
    return f"{PIP} 'wsiseg[{extra}]'"


def _optional(module: str, use: str) -> Callable[[], Finding]:
    """A check for a package that wsiseg works without."""

    def probe() -> Finding:
        advice = f"for {use}: {_install(EXTRAS[module])}"
        try:
            return f"{importlib.import_module(module).__version__}", ""
        except Exception as error:  # installed and broken: said, but no reason to call wsiseg broken
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                return "not installed", advice
            return f"{type(error).__name__}: {' '.join(str(error).split())}", advice

    return probe


CHECKS: tuple[tuple[str, Callable[[], Finding]], ...] = (
    ("Python", _python),
    ("wsiseg", lambda: (__version__, "")),
    ("torch", _torch),
    ("devices", _devices),
    ("torchvision", _torchvision),
    ("networks", _timm),
    ("ImageNet weights", _weights),
    ("OpenSlide", _openslide),
    ("tiffslide", _imported("tiffslide")),
    ("JPEG decoder", _imported("simplejpeg")),
    ("zarr", _imported("zarr")),
    ("codecs", _codecs),
    ("shapes", _shapely),
    ("numba", _numba),
    ("memory", _memory),
    ("disk", _disk),
    ("openvino", _optional("openvino", "faster prediction on Intel processors")),
    ("dask.distributed", _optional("distributed", "many slides on several machines")),
    ("pyarrow", _optional("pyarrow", "tables as Parquet")),
    ("starlette", _optional("starlette", "the viewer")),
    ("matplotlib", _optional("matplotlib", "reports and the viewer")),
)
