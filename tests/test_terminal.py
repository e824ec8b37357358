"""What people see and type at a terminal: hints that work, and a shell that completes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.slides.make import pyramid, texture, write_tiff
from wsiseg.cli import wsiseg
from wsiseg.cli.ending import NEXT, hints
from wsiseg.errors import OutputError

ROOT = Path(__file__).resolve().parents[1]


def parse(line: str) -> dict[str, object]:
    """What the command of a line takes its words for; a usage error where it does not know them."""
    program, name, *words = shlex.split(line)
    assert program == "wsiseg"
    return wsiseg.commands[name].make_context(name, words).params


@pytest.mark.parametrize("command", NEXT)
def test_what_is_hinted_at_can_be_typed(command: str) -> None:
    names = {name for line, _ in NEXT[command] for _, name, _, _ in string.Formatter().parse(line) if name}
    values = {name: f"a folder/it's {name}" for name in names}
    found = hints(command, slide_mpp=0.25, **values)
    assert len(found) == len(NEXT[command])
    for (line, purpose), (template, _) in zip(found, NEXT[command], strict=True):
        taken = parse(line)
        assert purpose
        assert (0.25 in (taken.get("slide_mpp"), taken.get("corrected_mpp"))) == ("{slide}" in template)
        said = [*map(str, taken.values())]
        for name in (n for _, n, _, _ in string.Formatter().parse(template) if n):
            assert any(values[name] in value for value in said), f"{name} is one word, spaces and quotes included"


def test_a_hint_without_its_values_is_left_out() -> None:
    assert hints("run") == []
    assert [line for line, _ in hints("run", results="out", predicted=None)] == ["wsiseg report out --out report.html"]
    both = hints("measure", slide="s.svs", outlines=("a.geojson", "b.geojson"), out="tables")
    assert parse(both[0][0])["outlines"] == (Path("a.geojson"), Path("b.geojson"))


def test_a_command_ends_with_the_next_ones(tmp_path: Path) -> None:
    """And its bar and its log say how far it is, how fast, and in how much memory; unless it is to be quiet."""
    slide = write_tiff(tmp_path / "a slide.tif", pyramid(texture(600, 400), (2,)), mpp=0.5)
    out, log = tmp_path / "quality", tmp_path / "log.jsonl"
    words = ["qc", str(slide), "--out", str(out), "--log-json", str(log)]
    done = CliRunner().invoke(wsiseg, words)
    assert done.exit_code == 0, done.output
    for part in ("blocks/s", "MiB", f"{out}: flags.json", f"wsiseg tile '{slide}' --exclude-artefacts"):
        assert part in done.stderr
    assert done.stderr.startswith(f"{slide.name}, 600 × 400 px at 0.5 µm/px: its tissue is examined")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines][:1] + [line["event"] for line in lines][-1:] == ["start", "end"]
    assert lines[-2]["done"] == lines[-2]["all"] > 0
    assert lines[-1]["peak_mib"] >= lines[-2]["peak_mib"] > 10
    quiet = CliRunner().invoke(wsiseg, [*words, "--overwrite", "--quiet"])
    assert quiet.exit_code == 0
    assert "Next" not in quiet.stderr
    assert "MiB" not in quiet.stderr
    assert quiet.stdout == done.stdout


def test_long_commands_begin_with_what_they_will_do(tmp_path: Path) -> None:
    slide, truth, store = tmp_path / "slide.svs", tmp_path / "slide.geojson", tmp_path / "tiles.zarr"
    size = "500 × 500 px at 2 µm/px"
    for words, plan in (
        (["synth", "--out", slide, "--size-mm", "1x1", "--mpp", 2, "--seed", 4],
         f"A pas section of seed 4, {size}: the slide goes to {slide}, its truth to {truth}"),
        (["tile", slide, "--annotations", truth, "--out", store, "--tile-mpp", 2, "--size", 128, "--no-tissue"],
         f"slide.svs, {size}: 16 of 16 tiles of 128 px at 2 µm/px with labels of Glomerulus.* go to {store}, compressed "
         "from 1 MB"),
        (["measure", slide, truth, "--out", tmp_path / "tables"],
         f"slide.svs, {size}: the objects of slide.geojson are measured; the tables go to {tmp_path / 'tables'}"),
    ):  # fmt: skip
        done = CliRunner().invoke(wsiseg, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        assert any(re.fullmatch(plan, line) for line in done.stderr.splitlines()), done.stderr


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "slide.tif", pyramid(texture(60, 40), ()), mpp=0.5)
    with pytest.raises(OutputError, match="its folder does not exist"):
        wsiseg.main(["qc", str(slide), "--log-json", str(tmp_path / "no" / "log")], standalone_mode=False)


class Bash:
    """An interactive bash, which does not print what is typed."""

    def __init__(self, screen: int) -> None:
        self.screen = screen

    def read(self, until: str) -> str:
        """All that bash prints until it has printed this."""
        text, end = "", time.monotonic() + 60
        while until not in text:
            assert time.monotonic() < end, text
            if select.select([self.screen], [], [], 0.2)[0]:
                text += os.read(self.screen, 4096).decode()
        return text

    def line(self, typed: str) -> str:
        """The line that bash makes of what is typed with tabulators in it."""
        os.write(self.screen, typed.encode())
        os.write(self.screen, b"\x01printf '<%s>' \x05 ENDED\n")  # at the line's beginning, and at its end
        return " ".join(re.findall(r"<([^<>]*)>", self.read("<ENDED>"))[:-1])


@contextmanager
def bash(folder: Path, program: Path) -> Iterator[Bash]:
    child, screen = pty.fork()
    if child == 0:
        os.chdir(folder)
        environment = {
            "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PS1": "> ", "TERM": "dumb",
            "HOME": str(folder), "INPUTRC": "/dev/null", "COLUMNS": "500",
        }  # fmt: skip
        os.execvpe("bash", ["bash", "--noprofile", "--norc", "-i"], environment)
    try:
        yield Bash(screen)
    finally:
        os.write(screen, b"\x15exit\n")
        os.close(screen)
        os.waitpid(child, 0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("wsiseg")
    if not program.exists():
        pytest.skip("wsiseg is not installed beside this Python")
    (tmp_path / "slide of mine.svs").touch()
    with bash(tmp_path, program) as shell:
        os.write(shell.screen, b'eval "$(wsiseg completion bash)"; stty -echo; echo "re""ady"\n')
        shell.read("ready")
        for typed, made in (
            ("wsiseg eva\t", "wsiseg evaluate"),
            ("wsiseg recipe sch\t", "wsiseg recipe schema"),
            ("wsiseg predict --parent-m\t", "wsiseg predict --parent-model"),
            ("wsiseg tile slide.svs --codec jp\t", "wsiseg tile slide.svs --codec jpeg"),
            ("wsiseg info sl\t", "wsiseg info slide of mine.svs"),
            ("wsiseg run --slides sl\t", "wsiseg run --slides slide of mine.svs"),
        ):
            assert shell.line(typed) == made


@pytest.mark.parametrize(("shell", "part"), [("zsh", "#compdef wsiseg"), ("fish", "--command wsiseg")])
def test_other_shells_are_given_theirs(shell: str, part: str) -> None:
    done = CliRunner().invoke(wsiseg, ["completion", shell])
    assert done.exit_code == 0
    assert part in done.output
    with pytest.raises(click.exceptions.BadParameter):
        parse("wsiseg completion tcsh")


def test_help_starts_at_once() -> None:
    """In processor time, which other programs on the machine do not stretch; the best of three."""
    code = "from wsiseg.cli import main; main()"
    took = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-c", code, "--help"], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(took) < 0.3
