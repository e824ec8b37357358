"""The recorded session of docs/first-hour.md: every command runs, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.example_slide import ROOT, blocks, write_example
from wsiseg.cli import wsiseg

PAGE = ROOT / "docs" / "first-hour.md"
INSTALLS = ("pip", "python")  # as whoever runs these tests has done


def steps() -> list[tuple[str, list[str]]]:
    """The command lines of the page, and what each prints; `…` stands for anything."""
    found: list[tuple[str, list[str]]] = []
    for block in blocks(PAGE):
        assert block.language == "console", f"say what this block is, or it is not run\n{block.text}"
        for line in block.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


METRIC = re.compile(r"[01]\\\.\d{3}\b")  # as `re.escape` writes it


def pattern(lines: list[str]) -> str:
    """A regular expression for what a command prints; `…` stands for anything, and a metric for any metric."""
    escaped = (METRIC.sub(r"[01]\\.\\d{3}", re.escape(line)).replace("…", ".*?") for line in lines)
    return "".join(f"{line}[ ]*\n" for line in escaped)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four small slides, three of them with annotations."""
    (tmp_path / "slides").mkdir()
    for seed, name in enumerate(("biopsy-1", "biopsy-2", "biopsy-3", "biopsy-4"), 5):
        write_example(tmp_path / "slides", name, seed)
        drawn = tmp_path / "slides" / f"{name}-truth.geojson"
        if name == "biopsy-4":
            drawn.unlink()
        else:
            drawn.rename(tmp_path / "slides" / f"{name}.geojson")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_session(folder: Path) -> None:
    ran = []
    for line, shown in steps():
        program, *words = shlex.split(line)
        if program in INSTALLS:
            continue
        assert program == "wsiseg", line
        ran.append(words[0])
        if words[0] == "view":
            serves(words, folder)
            continue
        done = CliRunner().invoke(wsiseg, [*words, *(["--device", "cpu"] if words[0] in ("train", "predict") else [])])
        assert done.exit_code == 0, done.output
        assert re.fullmatch(pattern(shown), done.output), f"$ {line}\n{done.output}"
    assert ran == ["init", "recipe", "train", "predict", "view", "predict", "evaluate"]


def serves(words: list[str], folder: Path) -> None:
    """Start the viewer, ask it for its page, and stop it."""
    command = [sys.executable, "-c", "from wsiseg.cli import main; main()", *words, "--no-browser", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as viewer:
        assert viewer.stdout is not None
        address = next(m[0] for line in viewer.stdout if (m := re.search(r"http://\S+", line)))
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.status == 200
        viewer.send_signal(signal.SIGINT)
        viewer.stdout.read()
    assert viewer.returncode in (0, 130)


def test_init_names_the_same_commands(folder: Path) -> None:
    """What `init` prints as the next commands is what the page goes on with."""
    said = CliRunner().invoke(wsiseg, ["init", "slides"]).output
    named = [line.split()[1] for line in said.splitlines() if line.startswith("  wsiseg ")]
    went = [shlex.split(line)[1] for line, _ in steps() if line.startswith("wsiseg ")]
    assert named == list(dict.fromkeys(went[1:]))
