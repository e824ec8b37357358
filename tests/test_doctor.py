"""The doctor finds what works and survives what does not."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from wsiseg import doctor
from wsiseg.doctor import CHECKS, Check, examine, render

USEFUL = ("openvino", "dask.distributed", "pyarrow", "starlette", "matplotlib")


def named(name: str) -> Check:
    """One check alone."""
    return doctor._look(name, dict(CHECKS)[name])


def test_this_installation_is_well() -> None:
    checks = examine()
    assert [check.name for check in checks] == [name for name, _ in CHECKS]
    assert [check for check in checks if not check.ok] == []
    found = {check.name: check.detail for check in checks}
    assert found["torch"].startswith("2."), "the version comes first"
    assert "built for" in found["torch"]
    assert "cpu (" in found["devices"]
    assert "GEOS 3." in found["shapes"]
    assert "JPEG 2000" in found["codecs"]
    assert "tu-tf_efficientnet_lite0" in found["ImageNet weights"]
    assert json.loads(json.dumps([asdict(check) for check in checks]))[0]["name"] == "Python"


def shown(checks: list[Check]) -> str:
    screen = io.StringIO()
    Console(file=screen, width=200).print(render(checks))
    return screen.getvalue()


def test_the_table_shows_every_check_and_takes_no_orders_from_error_texts() -> None:
    text = shown(
        [
            Check("torch", True, "2.13.0"),
            Check("openvino", True, "not installed", "for speed: pip install 'dask[distributed]'"),
            Check("zarr", False, "ImportError: [/red] [bold]x", "install it"),
        ]
    )
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines[2:]] == ["ok", "note", "bad"]
    assert "'dask[distributed]'" in text
    assert "[/red] [bold]x" in text


@pytest.mark.parametrize(
    ("module", "check"), [("openslide", "OpenSlide"), ("zarr", "zarr"), ("shapely", "shapes"), ("numba", "numba")]
)
def test_a_needed_package_that_does_not_import(monkeypatch: pytest.MonkeyPatch, module: str, check: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = named(check)
    assert not found.ok
    assert module in found.detail
    assert found.advice == doctor.REINSTALL


@pytest.mark.parametrize("name", USEFUL)
def test_a_useful_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    module = name.split(".")[-1]
    monkeypatch.setitem(sys.modules, module, None)
    found = named(name)
    assert found.ok
    assert "pip install -c constraints.txt" in found.advice

    monkeypatch.delitem(sys.modules, module)
    (tmp_path / f"{module}.py").write_text("raise OSError('libbroken.so: wrong ELF class')")
    monkeypatch.syspath_prepend(tmp_path)
    found = named(name)
    assert found.ok
    assert found.detail == "OSError: libbroken.so: wrong ELF class"


def test_without_torch_the_rest_is_still_examined() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from wsiseg.doctor import examine\n"
        "print('|'.join(check.name for check in examine() if 'wsiseg[predict]' in check.advice))\n"
        "print([check.name for check in examine() if not check.ok])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    names, bad = done.stdout.splitlines()
    assert names == "torch|devices|torchvision|networks|ImageNet weights", done.stderr
    assert bad == "[]", "whoever only tiles needs no torch"


def test_incomplete_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = {name: SimpleNamespace(available=name != "JPEG2K") for name in ("JPEG8", "JPEG2K", "ZSTD", "WEBP", "ZLIB")}
    monkeypatch.setitem(sys.modules, "imagecodecs", SimpleNamespace(__version__="1", **codec))
    found = named("codecs")
    assert not found.ok
    assert found.detail == "imagecodecs 1: JPEG, zstd, WebP, deflate; without JPEG 2000"


def test_an_unused_gpu_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(doctor, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert named("torch") == Check(
        "torch",
        True,
        f"{torch.__version__}, built for the CPU only",
        "there is an NVIDIA GPU: install a torch of the same version that is built for CUDA",
    )
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "update the driver" in named("torch").advice


def test_gpus_are_listed_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    card = SimpleNamespace(name="NVIDIA L4", total_memory=24e9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    assert named("devices").detail.startswith("cuda:0 NVIDIA L4 (24.0 GB); cuda:1 NVIDIA L4 (24.0 GB); ")


def test_little_room_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_free_memory", lambda: 1.5e9)
    assert named("memory").detail == "1.5 GB free"
    assert named("memory").advice
    monkeypatch.setattr(doctor, "_free_memory", lambda: None)
    assert named("memory") == Check("memory", True, "this system does not say")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in named("disk").detail
    assert "--out" in named("disk").advice


def test_free_memory_is_what_the_system_says() -> None:
    free = doctor._free_memory()
    if free is None:
        pytest.skip("this system does not say how much memory is free")
    assert 0 <= free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_numba_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    def refuse(function: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(caching, "FunctionCache", refuse)
    found = named("numba")
    assert found.ok
    assert "NUMBA_CACHE_DIR" in found.advice
