"""Several devices through Fabric: two processes learn from half a batch each what one learns from all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.methods.two_processes import gradients

SCRIPT = Path(__file__).with_name("two_processes.py")
ROOT = SCRIPT.parents[2]


@pytest.mark.parametrize("name", ["supervised", "adversarial"])
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(name: str, tmp_path: Path) -> None:
    out, environment = tmp_path / "two.pt", {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), name, str(out)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    one, two = gradients(name, 1), torch.load(out, weights_only=True)
    assert one.keys() == two.keys()
    assert len(one) > 60
    for key, gradient in one.items():
        assert torch.allclose(gradient, two[key], rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-9), key
