"""Control groups: their limit is known, and a command that outgrows it leaves nothing that looks finished."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.control_group import control_group
from wsiseg.cli import screen, wsiseg
from wsiseg.errors import OutputError
from wsiseg.process_memory import container_memory
from wsiseg.synthetic import SlideSpec, generate, write_slide

GIB = 2**30


def lay(root: Path, **files: object) -> None:
    for name, content in files.items():
        root.mkdir(parents=True, exist_ok=True)
        (root / name.replace("__", ".")).write_text(f"{content}\n")


def test_version_2(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("0::/job/step\n")
    assert container_memory(tmp_path, groups) is None
    lay(tmp_path / "job", memory__max=2 * GIB, memory__current=GIB, memory__stat=f"anon 5\ninactive_file {GIB // 4}")
    lay(tmp_path / "job" / "step", memory__max="max", memory__current=GIB // 2)
    assert container_memory(tmp_path, groups) == (2 * GIB, 2 * GIB - GIB + GIB // 4)
    lay(tmp_path / "job" / "step", memory__max=GIB)
    assert container_memory(tmp_path, groups) == (GIB, GIB // 2), "the narrowest of all counts"
    groups.write_text("0::/\n")
    lay(tmp_path, memory__max=3 * GIB, memory__current=0)
    assert container_memory(tmp_path, groups) == (3 * GIB, 3 * GIB), "as a container sees its own"


def test_version_1(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("5:cpu,cpuacct:/\n4:memory:/job\n0::/\n")
    lay(tmp_path / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=GIB)
    assert container_memory(tmp_path, groups) is None, "so large a number stands for no limit"
    lay(tmp_path / "memory" / "job", memory__limit_in_bytes=GIB, memory__usage_in_bytes=2 * GIB)
    assert container_memory(tmp_path, groups) == (GIB, 0)
    assert container_memory(tmp_path, tmp_path / "none") is None, "no Linux"


def test_a_promise_is_no_larger_than_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = tmp_path / "slide.svs"
    write_slide(generate(SlideSpec(7, 1500, 1200, "pas", 1.0, ())), slide)
    words = ["tile", str(slide), "--out", str(tmp_path / "s.zarr"), "-q", "--max-ram"]
    monkeypatch.setattr(screen, "container_memory", lambda: (200 * 2**20, 0))
    done = CliRunner().invoke(wsiseg, [*words, "8GB"])
    assert isinstance(done.exception, OutputError)
    assert done.stderr.startswith("--max-ram: this container or job may use 0.2 GiB, which is taken instead.")
    done = CliRunner().invoke(wsiseg, [*words, "100MB"])
    assert isinstance(done.exception, OutputError)
    assert "container" not in done.stderr


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with 40 MiB, less than any command takes."""
    with control_group() as made:
        made.limit.write_text(str(40 * 2**20))
        yield made.folder


@pytest.mark.parametrize("command", ["tile", "predict"])
def test_a_command_that_outgrows_its_group(group: Path, tmp_path: Path, command: str) -> None:
    slide = tmp_path / "slide.svs"
    write_slide(generate(SlideSpec(7, 1500, 1200, "pas", 1.0, ())), slide)
    out = tmp_path / "out.zarr" if command == "tile" else tmp_path / "out.geojson"
    line = [sys.executable, "-c", "from wsiseg.cli import main; main()", command, str(slide), "--out", str(out), "-q"]
    enter = f'echo $$ > {group / "cgroup.procs"}; exec "$@"'
    done = subprocess.run(["sh", "-c", enter, "sh", *line], capture_output=True, text=True, timeout=200)
    if done.returncode == 2:
        assert "memory" in done.stderr.splitlines()[-1]
    else:
        assert done.returncode == -9, done.stderr  # by the kernel
    assert not out.exists()
    assert "Traceback" not in done.stderr
    sound = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert sound.returncode == 0, sound.stderr
    assert out.exists()
