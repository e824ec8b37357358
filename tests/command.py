"""`wsiseg` in a process of its own, forked from one that has loaded the libraries.

A new interpreter takes five seconds to load PyTorch, which is longer than most commands of the tests work. Tests of
what a new interpreter does (its time to start, its imports, its memory) start one instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.libraries", "tests.crash_job"])
LONG = 280  # s: for what would otherwise be waited for in vain


def _work(main: str, words: list[str], said: tuple[str, str], folder: str, environment: dict[str, str]) -> None:
    """The command: arguments, folder and environment as a shell gives them, its words on the screen in two files."""
    from tests.libraries import LOADED_BY

    assert os.getpid() != LOADED_BY, "nothing was loaded before this process was forked, which makes the tests slow"
    for number, name in enumerate(said, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["wsiseg", *words]
    module, _, name = main.partition(":")
    getattr(import_module(module), name)()


def program() -> None:
    """In place of a command: a file of Python, with the words after its name."""
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


class Command:
    """A command that runs; its process is a child of another process than the test's."""

    def __init__(
        self,
        *words: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        main: str = "wsiseg.cli:main",
    ) -> None:
        self.words, self._folder = [*map(str, words)], tempfile.TemporaryDirectory()
        self._said = f"{self._folder.name}/out", f"{self._folder.name}/err"
        self._done: subprocess.CompletedProcess[str] | None = None
        for name in self._said:  # a process that is killed at once writes none
            Path(name).touch()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        self.process: ForkServerProcess = PROCESSES.Process(
            target=_work, args=(main, self.words, self._said, str(cwd or Path.cwd()), environment)
        )
        self.process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def runs(self, seconds: float = 0) -> bool:
        """Whether it goes on for so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode is None

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self, timeout: float = LONG) -> subprocess.CompletedProcess[str]:
        """Wait for it: its exit code, standard output and error stream; the same when it is asked again."""
        if self._done is not None:
            return self._done
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            raise subprocess.TimeoutExpired(self.words, timeout)
        out, err = (Path(name).read_text(encoding="utf-8") for name in self._said)
        self._folder.cleanup()
        self._done = subprocess.CompletedProcess(self.words, code, out, err)
        return self._done


def wsiseg(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return Command(*words, cwd=cwd).end()


def python(file: Path, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a file of Python to its end."""
    return Command(file, *words, cwd=cwd, main="tests.command:program").end()
