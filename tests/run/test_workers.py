"""Real worker processes, killed in the middle of a slide: in the end the bytes of a serial run."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.run.conftest import Lab

pytest.importorskip("distributed")

ROOT = Path(__file__).resolve().parents[2]
Results = Callable[[Path], dict[str, bytes]]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
LONG = 280  # s: for anything that would otherwise be waited for in vain
pytestmark = pytest.mark.timeout(600)


class Run:
    """`wsiseg run` in a process of its own."""

    def __init__(self, lab: Lab, out: Path, *words: object, slides: str | None = None) -> None:
        self.out, self.log = out, out.with_suffix(".jsonl")
        command = [sys.executable, "-c", "from wsiseg.cli import main; main()", "run", lab.recipe, "--out", out]
        command += ["--slides", slides or lab.pattern, "--model", lab.model, "--log-json", self.log]
        command += ["--device", "cpu", "--engine", "torch"]
        self.process = subprocess.Popen(
            [*map(str, command), *map(str, words)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def in_the_middle(self) -> str:
        """Wait until a slide is half done, and name it."""
        until = time.monotonic() + LONG
        while time.monotonic() < until and self.process.poll() is None:
            for path in self.out.glob("slides/*.partial/*.partial/progress.json"):
                try:
                    if json.loads(path.read_text())["rows"] > 0:
                        return path.relative_to(self.out).parts[1].removesuffix(".partial")
                except (OSError, ValueError):
                    continue
            time.sleep(0.005)
        raise AssertionError(f"no slide was ever half done: {self.end()}")

    def worker_of(self, name: str) -> psutil.Process:
        """The process that has a slide's folder locked."""
        claim = str(self.out / "slides" / f"{name}.partial" / "claim.json")
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if any(file.path == claim for file in child.open_files()):
                    return child
            except psutil.Error:
                continue
        raise AssertionError(f"nobody works on {name}")

    def end(self) -> tuple[int, str, str]:
        """(exit code, standard output, error stream)."""
        out, err = self.process.communicate(timeout=LONG)
        return self.process.returncode, out, err

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What was told."""
        return [e for e in map(json.loads, self.log.read_text().splitlines()) if e["event"] == kind]


def kill_one(run: Run) -> str:
    """Kill a worker in the middle of a slide, and wait until it is gone; whose slide."""
    while True:
        name = run.in_the_middle()
        try:
            worker = run.worker_of(name)
        except AssertionError:  # finished meanwhile, or not yet taken up again
            continue
        worker.send_signal(signal.SIGKILL)
        worker.wait(LONG)
        return name


@pytest.mark.parametrize("workers", [2, 4])
def test_a_killed_worker_of_dask_loses_nothing(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes], workers: int
) -> None:
    run = Run(lab, tmp_path / "out", "--scheduler", "local", "--workers", workers)
    kill_one(run)
    code, out, err = run.end()
    assert code == 0, err
    assert "Traceback" not in err
    assert results_of(tmp_path / "out") == serial
    assert re.search(r"^4 +done in", out)
    assert sorted(e["name"] for e in run.events("slide")) == ["s1", "s2", "s3", "s4"], "each once"
    assert "/status" in run.events("dashboard")[0]["url"]
    assert "dashboard" in err


def test_a_killed_run_and_a_killed_worker_lose_nothing(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes]
) -> None:
    """The workers of the killed run finish their slides, and those of the next one wait for them."""
    first = Run(lab, tmp_path / "out", "--workers", 2)
    first.in_the_middle()
    first.process.send_signal(signal.SIGKILL)
    first.process.communicate()
    assert not (tmp_path / "out" / "run.json").exists()
    second = Run(lab, tmp_path / "out", "--workers", 2)
    name = kill_one(second)
    code, _, err = second.end()
    assert code == 0, err
    assert "Traceback" not in err
    assert results_of(tmp_path / "out") == serial
    assert [(e["name"], e["attempt"], e["why"]) for e in second.events("lost")] == [(name, 1, "SIGKILL")]
    assert sorted(e["name"] for e in second.events("slide")) == ["s1", "s2", "s3", "s4"], "each once"


def test_a_slide_that_kills_every_worker_is_given_up(lab: Lab, tmp_path: Path) -> None:
    """As one does that needs more memory than there is: the system kills whoever works on it."""
    run = Run(lab, tmp_path / "out", "--executor", "processes", "--workers", 1, slides=str(lab.slides[0]))
    for _ in range(3):
        kill_one(run)
    code, out, _ = run.end()
    assert code == 1
    assert "tried 3 times and its worker was lost each time (SIGKILL)" in " ".join(out.split())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster(port: int, *, workers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A Dask scheduler and its workers as on a cluster: each a program of its own."""
    where = f"tcp://127.0.0.1:{port}"
    quiet: dict[str, Any] = {"env": ENVIRONMENT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    team = [subprocess.Popen([*dask, "--no-dashboard"], **quiet)]
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    one = [sys.executable, "-m", "distributed.cli.dask_worker", where, "--nthreads", "1", "--no-dashboard"]
    team += [subprocess.Popen([*one, "--no-nanny"], **quiet) for _ in range(workers)]
    try:
        yield team
    finally:
        for process in team:
            process.kill()
            process.wait()


def test_a_scheduler_that_is_lost_is_waited_for(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes]
) -> None:
    port = free_port()
    with cluster(port, workers=1) as team:
        run = Run(lab, tmp_path / "out", "--scheduler", f"tcp://127.0.0.1:{port}")
        run.in_the_middle()
        for process in team:
            process.kill()
            process.wait()
    with cluster(port, workers=1):
        code, _, err = run.end()
        assert code == 0, err
    assert results_of(tmp_path / "out") == serial
    assert sorted(e["name"] for e in run.events("slide")) == ["s1", "s2", "s3", "s4"], "each once"


def test_a_scheduler_that_never_was_there_is_one_sentence(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsiseg.errors import EngineError, SchedulerError
    from wsiseg.run import cluster as module

    monkeypatch.setattr(module, "CONNECT_S", 1.0)
    with pytest.raises(SchedulerError, match=r"tcp://127\.0\.0\.1:9 cannot be reached"):
        list(module.on_dask((), lab.plan(tmp_path), lambda event: None, scheduler="tcp://127.0.0.1:9"))

    class Client:
        def scheduler_info(self, **_: object) -> dict[str, Any]:
            return {"workers": {"a": {"resources": {}}}}

    talk: Any = module._Conversation.__new__(module._Conversation)
    talk.plan, talk.target = lab.plan(tmp_path), "tcp://x"
    talk._check_resources(Client())
    object.__setattr__(talk.plan, "device", "cuda")
    with pytest.raises(EngineError, match="--resources GPU=1"):
        talk._check_resources(Client())
