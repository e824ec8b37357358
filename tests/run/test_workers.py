"""Real worker processes, killed in the middle of a slide: in the end the bytes of a serial run."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile

from tests.command import LONG, Command
from tests.run.conftest import Lab
from wsiseg.slides.open import open_slide

pytest.importorskip("distributed")

Results = Callable[[Path], dict[str, bytes]]
pytestmark = pytest.mark.timeout(600)


class Run(Command):
    """`wsiseg run` in a process of its own."""

    def __init__(self, lab: Lab, out: Path, *words: object, slides: str | None = None) -> None:
        self.out, self.log = out, out.with_suffix(".jsonl")
        super().__init__(
            "run", lab.recipe, "--out", out, "--slides", slides or lab.pattern, "--model", lab.model,
            "--log-json", self.log, "--device", "cpu", "--engine", "torch", *words, env={"COLUMNS": "200"},
        )  # fmt: skip

    def in_the_middle(self) -> str:
        """Wait until a slide is half done, and name it."""
        until = time.monotonic() + LONG
        while time.monotonic() < until and self.runs(0.005):
            for path in self.out.glob("slides/*.partial/*.partial/progress.json"):
                try:
                    if json.loads(path.read_text())["rows"] > 0:
                        return path.relative_to(self.out).parts[1].removesuffix(".partial")
                except (OSError, ValueError):
                    continue
        raise AssertionError(f"no slide was ever half done: {self.end()}")

    def worker_of(self, name: str) -> psutil.Process:
        """The process that has a slide's folder locked."""
        claim = str(self.out / "slides" / f"{name}.partial" / "claim.json")
        for child in psutil.Process(self.pid).children(recursive=True):
            try:
                if any(file.path == claim for file in child.open_files()):
                    return child
            except psutil.Error:
                continue
        raise AssertionError(f"nobody works on {name}")

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


def test_a_killed_worker_of_dask_loses_nothing(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes]
) -> None:
    run = Run(lab, tmp_path / "out", "--scheduler", "local", "--workers", 2)
    kill_one(run)
    done = run.end()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert results_of(tmp_path / "out") == serial
    assert re.search(r"^4 +done in", done.stdout)
    assert sorted(e["name"] for e in run.events("slide")) == ["s1", "s2", "s3", "s4"], "each once"
    assert "/status" in run.events("dashboard")[0]["url"]
    assert "dashboard" in done.stderr


def test_a_killed_run_and_a_killed_worker_lose_nothing(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes]
) -> None:
    """The workers of the killed run finish their slides, and those of the next one wait for them."""
    first = Run(lab, tmp_path / "out", "--workers", 2)
    first.in_the_middle()
    first.signal(signal.SIGKILL)
    first.end()
    assert not (tmp_path / "out" / "run.json").exists()
    second = Run(lab, tmp_path / "out", "--workers", 2)
    name = kill_one(second)
    done = second.end()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert results_of(tmp_path / "out") == serial
    assert [(e["name"], e["attempt"], e["why"]) for e in second.events("lost")] == [(name, 1, "SIGKILL")]
    assert sorted(e["name"] for e in second.events("slide")) == ["s1", "s2", "s3", "s4"], "each once"


def test_a_slide_that_kills_every_worker_is_given_up(lab: Lab, tmp_path: Path) -> None:
    """As one does that needs more memory than there is: the system kills whoever works on it."""
    run = Run(lab, tmp_path / "out", "--executor", "processes", "--workers", 1, slides=str(lab.slides[0]))
    for _ in range(3):
        kill_one(run)
    done = run.end()
    assert done.returncode == 1
    assert "tried 3 times and its worker was lost each time (SIGKILL)" in " ".join(done.stdout.split())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dask(program: str, *words: object, **settings: str) -> Command:
    """A scheduler or a worker as on a cluster: a program of its own, with settings of Dask."""
    environment = {f"DASK_DISTRIBUTED__{key}": value for key, value in settings.items()}
    return Command("--no-dashboard", *words, env=environment, main=f"distributed.cli.dask_{program}:main")


def scheduler_at(port: int, **settings: str) -> Command:
    """A scheduler that answers."""
    process = dask("scheduler", "--host", "127.0.0.1", "--port", port, **settings)
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.1)
    raise AssertionError("the scheduler does not answer")


def stop(team: Iterable[Command]) -> None:
    """Kill programs and whatever they have started."""
    for program in team:
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            process = psutil.Process(program.pid)
            for each in (*process.children(recursive=True), process):
                each.kill()
        program.end()


@contextmanager
def cluster(port: int, *, workers: int) -> Iterator[list[Command]]:
    """A Dask scheduler and its workers."""
    where = f"tcp://127.0.0.1:{port}"
    team = [scheduler_at(port), *(dask("worker", where, "--nthreads", 1, "--no-nanny") for _ in range(workers))]
    try:
        yield team
    finally:
        stop(team)


def test_a_scheduler_that_is_lost_is_waited_for(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes]
) -> None:
    port = free_port()
    with cluster(port, workers=1) as team:
        run = Run(lab, tmp_path / "out", "--scheduler", f"tcp://127.0.0.1:{port}")
        run.in_the_middle()
        stop(team)
    with cluster(port, workers=1):
        done = run.end()
        assert done.returncode == 0, done.stderr
    assert results_of(tmp_path / "out") == serial
    assert sorted(e["name"] for e in run.events("slide")) == ["s1", "s2", "s3", "s4"], "each once"


def test_a_run_whose_scheduler_was_killed_is_run_again(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes]
) -> None:
    """Nobody starts that scheduler again: the user stops the command that waits for it, and repeats it elsewhere."""
    slides, port = str(lab.folder / "slides" / "s[12].svs"), free_port()
    with cluster(port, workers=1) as team:
        first = Run(lab, tmp_path / "out", "--scheduler", f"tcp://127.0.0.1:{port}", slides=slides)
        first.in_the_middle()
        team[0].signal(signal.SIGKILL)
        first.signal(signal.SIGINT)
        stopped = first.end()
    assert stopped.returncode == 130, stopped.stderr
    assert "the same command goes on from there" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    port = free_port()
    with cluster(port, workers=1):
        done = Run(lab, tmp_path / "out", "--scheduler", f"tcp://127.0.0.1:{port}", slides=slides).end()
    assert done.returncode == 0, done.stderr
    assert results_of(tmp_path / "out") == {name: serial[name] for name in serial if "/s1/" in name or "/s2/" in name}


def test_a_scheduler_that_never_was_there_is_one_sentence(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsiseg.errors import EngineError, SchedulerError
    from wsiseg.run import cluster as module

    monkeypatch.setattr(module, "CONNECT_S", 1.0)
    with pytest.raises(SchedulerError, match=r"tcp://127\.0\.0\.1:9 cannot be reached"):
        list(module.on_dask((), lab.plan(tmp_path), lambda event: None, scheduler="tcp://127.0.0.1:9"))

    with pytest.raises(SchedulerError, match=r"gone\.json cannot be reached \(the file does not exist\)"):
        list(module.on_dask((), lab.plan(tmp_path), lambda event: None, scheduler=str(tmp_path / "gone.json")))

    class Client:
        def scheduler_info(self, **_: object) -> dict[str, Any]:
            return {"workers": {"a": {"resources": {}}}}

    talk: Any = module._Conversation.__new__(module._Conversation)
    talk.plan, talk.target = lab.plan(tmp_path), "tcp://x"
    talk._check_resources(Client())
    object.__setattr__(talk.plan, "device", "cuda")
    with pytest.raises(EngineError, match="--resources GPU=1"):
        talk._check_resources(Client())


def test_a_scheduler_without_workers_is_told_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsiseg.run import cluster as module

    clock, told = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    talk: Any = module._Conversation.__new__(module._Conversation)
    talk.seen, talk.alone, talk.tell = 0.0, False, told.append
    for now, threads in ((10, 0), (20, 0), (30, 0), (40, 1), (50, 0), (60, 0)):
        clock[0] = now
        talk._look(threads)
        if now in (10, 20, 30, 50, 60):
            assert len(told) == {10: 0, 20: 1, 30: 1, 50: 1, 60: 2}[now]
    assert told[0] == {"event": "no workers", "seconds": module.ALONE_S}


class Wire:
    """The network between a scheduler and all others: a port that leads to it, and can be cut and mended."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.ends: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        """Let through whoever comes."""
        self.door = socket.create_server(("127.0.0.1", self.port))
        Thread(target=self._welcome, args=(self.door,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and let nobody in."""
        for end in [self.door, *self.ends]:
            with suppress(OSError):  # closed already by who had it
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ends.clear()

    def _welcome(self, door: socket.socket) -> None:
        with suppress(OSError):  # the door is closed
            while True:
                near, _ = door.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # cut, or one side has hung up
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def test_a_network_that_is_cut_loses_nothing(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes]
) -> None:
    """Dask's worker ends when it loses the scheduler, after its slide; whoever started it starts another."""
    ports = free_port(), free_port()
    where = f"tcp://127.0.0.1:{ports[0]}"
    team, wire = [scheduler_at(ports[1])], Wire(*ports)
    team.append(dask("worker", where, "--nthreads", 1, "--no-nanny"))
    run = Run(lab, tmp_path / "out", "--scheduler", where, slides=str(lab.folder / "slides" / "s[12].svs"))
    try:
        run.in_the_middle()
        wire.cut()
        team.append(dask("worker", where, "--nthreads", 1, "--no-nanny"))  # it knocks until somebody opens
        time.sleep(2)
        wire.mend()
        done = run.end()
    finally:
        stop(team)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert results_of(tmp_path / "out") == {name: serial[name] for name in serial if "/s1/" in name or "/s2/" in name}
    assert sorted(e["name"] for e in run.events("slide")) == ["s1", "s2"], "each once"
    assert "the connection to the scheduler was cut" in {e["why"] for e in run.events("lost")}


def test_a_worker_that_takes_more_memory_than_it_has_costs_its_slide_alone(
    lab: Lab, tmp_path: Path, results_of: Results, serial: dict[str, bytes]
) -> None:
    """A slide too large for a worker is given up, and no other with it."""
    (tmp_path / "slides").mkdir()
    for path in lab.slides[:2]:
        (tmp_path / "slides" / path.name).symlink_to(path)
    with open_slide(lab.slides[2]) as slide:
        small = slide.read(slide.frame.at(4.0).box, slide.frame.at(4.0))
    large = np.full((9_000, 12_000, 3), 255, np.uint8)  # 36 × 48 mm: much memory while its tissue is looked for
    large[: len(small), : small.shape[1]] = small
    about = {"axes": "YXS", "PhysicalSizeX": 4.0, "PhysicalSizeY": 4.0}
    tifffile.imwrite(tmp_path / "slides" / "large.tif", large, tile=(512, 512), compression="zlib", ome=True,
                     metadata=about, photometric="rgb")  # fmt: skip
    del large
    port = free_port()
    where, pattern = f"tcp://127.0.0.1:{port}", str(tmp_path / "slides" / "*")
    team = [scheduler_at(port, SCHEDULER__ALLOWED_FAILURES="0")]  # else it would try four times, twice
    team.append(dask("worker", where, "--nthreads", 1, "--memory-limit", "1100MB"))
    try:
        run = Run(lab, tmp_path / "out", "--scheduler", where, slides=pattern)
        done = run.end()
    finally:
        stop(reversed(team))
    assert done.returncode == 1, done.stderr
    assert [e["name"] for e in run.events("lost")] == ["large", "large"], "no other is blamed"
    assert "its worker was lost each time (KilledWorker" in " ".join(done.stdout.split())
    expected = {name: data for name, data in serial.items() if "/s1/" in name or "/s2/" in name}
    assert {name: data for name, data in results_of(tmp_path / "out").items() if "large" not in name} == expected
