"""kill -9 at random moments: nothing half-written under a final name, and in the end the same bytes.

WSISEG_KILLS is the number of moments; they differ from run to run.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tests.command import PROCESSES
from tests.crash_job import JOBS

KILLS = int(os.environ.get("WSISEG_KILLS", "3"))  # for each of the three jobs


def start(job: str, folder: Path) -> ForkServerProcess:
    child = PROCESSES.Process(target=JOBS[job], args=(folder,))
    child.start()
    return child


def finish(child: ForkServerProcess, seconds: float | None = None) -> int | None:
    """The exit code of a child; None if it goes on."""
    child.join(seconds)
    return child.exitcode


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def final(contents: dict[str, bytes]) -> dict[str, bytes]:
    """What stands under final names: neither parts nor what lies in folders still being made."""
    return {name: data for name, data in contents.items() if ".part" not in name}


@pytest.mark.parametrize("job", sorted(JOBS))
def test_killed_at_random_moments(job: str, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    folder.mkdir()
    began = time.monotonic()
    assert finish(start(job, whole)) == 0
    span, wanted = time.monotonic() - began, files(whole)
    assert wanted == final(wanted), "a finished job leaves no part behind"
    seed = random.randrange(10**6)
    rng, kills = random.Random(seed), 0
    while kills < KILLS:
        child = start(job, folder)
        if finish(child, rng.uniform(0, 0.5 * span)) is None:
            child.kill()
            finish(child)
            kills += 1
        there = files(folder)
        for name, data in final(there).items():
            assert wanted[name] == data, f"{name} is half-written (seed {seed}, kill {kills})"
        if child.exitcode == 0:
            assert there == wanted, f"seed {seed}, kill {kills}"
            shutil.rmtree(folder)
            folder.mkdir()
    assert finish(start(job, folder)) == 0
    assert files(folder) == wanted, f"seed {seed}"
