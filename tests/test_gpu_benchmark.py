"""benchmarks/gpu.py on the CPU, at its smallest: that a machine with a GPU is not the first to run it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def gpu() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import gpu as module
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_small_pieces_on_the_cpu(gpu: Any) -> None:
    place = gpu.Place("cpu", True)
    found = gpu.forward("fp32", place)
    assert found["tiles_per_second"]["2"] > 0
    assert found["agree"] == 1
    assert gpu.forward("bf16, channels-last, CUDA graph", place) == {"left_out": True}
    same = gpu.labels("kidney-glomeruli", place)
    assert same["agree"] == 1  # the CPU against itself
    assert same["objects"][0] == same["objects"][1]
    assert same["tissue_px"] > 1000
    rows = [gpu.ROWS["forward"]({"fp32": found}), gpu.ROWS["labels"]({"kidney-glomeruli": same})]
    assert "100.0000%" in rows[0]
    assert "100.0000%" in rows[1]


def test_two_processes_share_a_device(gpu: Any) -> None:
    found = gpu.processes("supervised", gpu.Place("cpu", True))
    assert found["gradients"] > 60
    assert found["worst"] < 1e-3


def test_every_method_and_every_contract_has_its_unit(gpu: Any) -> None:
    from wsiseg.methods import METHODS
    from wsiseg.recipe import load_recipe

    assert gpu.train_units() == list(METHODS)
    for name in METHODS:
        recipe = load_recipe(BENCHMARKS.parent / "pipelines" / "demo.toml", (gpu.only_name(name),), places=False)
        assert recipe.method.name == name
    assert {"test_torch_engine", "test_supervised", "test_semi_supervised"} <= set(gpu.contract_units())


def test_calls_go_on_and_say_what_failed(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    left = [2]

    def unit(piece: str, name: str, place: Any, limit: float) -> dict[str, Any] | None:
        if not left[0]:
            return None  # as if the time were over
        left[0] -= 1
        asked.append(f"{piece}/{name}")
        return (
            {"failed": "Traceback\nRuntimeError: no kernel"}
            if name == "adversarial"
            else {"gradients": 9, "worst": 0.0}
        )

    monkeypatch.setattr(gpu, "_in_process", unit)
    monkeypatch.setattr(gpu, "PIECES", {"processes": (lambda: ["supervised", "adversarial", "third"], None)})
    results, place = tmp_path / "results.json", gpu.Place("cpu", True)
    assert not gpu.run(["processes"], place, results, 100)
    left[0] = 9
    assert gpu.run(["processes"], place, results, 100)
    assert asked == ["processes/supervised", "processes/adversarial", "processes/third"]
    text = gpu.table(results)
    assert "| supervised | 9 | 0.0e+00 |" in text
    assert "processes/adversarial failed: `RuntimeError: no kernel`" in text
    assert json.loads(results.read_text())["about"]["device"] == "cpu"
    with pytest.raises(SystemExit, match="of another device"):
        gpu.run(["processes"], gpu.Place("cuda", False), results, 1)
