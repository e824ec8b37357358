"""kill -9 at random moments: nothing half-written under a final name, and in the end the same bytes."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KILLS = 7  # for each of the three jobs: 21 in all


def start(job: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.crash_job", job, str(folder)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    return child


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def final(contents: dict[str, bytes]) -> dict[str, bytes]:
    """What stands under final names: neither parts nor what lies in folders still being made."""
    return {name: data for name, data in contents.items() if ".part" not in name}


@pytest.mark.parametrize("job", ["tile", "predict", "export"])
def test_killed_at_random_moments(job: str, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    folder.mkdir()
    began = time.monotonic()
    assert start(job, whole).wait() == 0
    span, wanted = time.monotonic() - began, files(whole)
    assert wanted == final(wanted), "a finished job leaves no part behind"
    seed = random.randrange(10**6)
    rng, kills = random.Random(seed), 0
    while kills < KILLS:
        child = start(job, folder)
        try:
            child.wait(rng.uniform(0, 0.5 * span))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
        there = files(folder)
        for name, data in final(there).items():
            assert wanted[name] == data, f"{name} is half-written (seed {seed}, kill {kills})"
        if child.returncode == 0:
            assert there == wanted, f"seed {seed}, kill {kills}"
            shutil.rmtree(folder)
            folder.mkdir()
    assert start(job, folder).wait() == 0
    assert files(folder) == wanted, f"seed {seed}"
