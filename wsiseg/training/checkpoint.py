"""Checkpoints: the nested state of a method as safetensors and JSON. No pickle is written or loaded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsiseg.atomic import translate_os_errors
from wsiseg.errors import StoreError


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], about: dict[str, Any]) -> None:
    """Replace the folder's checkpoint; a crash leaves the old one or the new one, never half of one.

    Args:
        folder: holds `step-N` folders, in the end just one
        step: steps done
        state: tensors and plain values, nested in dictionaries and lists
        about: what the state belongs to; compared when it is loaded
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _take_apart(state, "", tensors)
    final, fresh = folder / f"step-{step:08d}", folder / f"step-{step:08d}.partial"
    with translate_os_errors(final):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(tensors, fresh / "tensors.safetensors")
        (fresh / "state.json").write_text(json.dumps({"step": step, "about": about, "state": skeleton}))
        shutil.rmtree(final, ignore_errors=True)
        os.rename(fresh, final)
        for other in folder.glob("step-*"):
            if other != final:
                shutil.rmtree(other)


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """(steps done, state, about) of the newest checkpoint, or None if there is none.

    Raises:
        StoreError: the checkpoint is damaged
    """
    found = sorted(p for p in folder.glob("step-*") if p.suffix != ".partial")
    if not found:
        return None
    try:
        value = json.loads((found[-1] / "state.json").read_text())
        tensors = load_file(found[-1] / "tensors.safetensors")
        return int(value["step"]), _put_together(value["state"], tensors), value["about"]
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"The checkpoint {found[-1]} is damaged ({error}): remove it and train again.") from error


def _take_apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for the value, its tensors put aside. Dictionaries become pairs, for their keys may be numbers."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"pairs": [[k, _take_apart(v, f"{name}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_take_apart(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint cannot hold")


def _put_together(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "pairs" in value:
        return {k: _put_together(v, tensors) for k, v in value["pairs"]}
    return [_put_together(v, tensors) for v in value["list"]]


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)
