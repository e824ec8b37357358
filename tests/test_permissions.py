"""Commands of a user who may not write, or not read: one sentence, or it works. They need root, to become another.

Where another user cannot run this Python (a checkout in root's home), root gives up its right to pass over permissions,
and the files belong to the other user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slides.make import texture, write_tiff

ROOT = Path(__file__).resolve().parents[1]
NOBODY = 65534
pytestmark = [
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def lab() -> Iterator[Path]:
    """A folder that everybody may look into, with a slide that everybody may read; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    write_tiff(folder / "slide.tif", [texture(700, 600)], mpp=1.0, compression="none")
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def stranger(lab: Path) -> list[str]:
    """What stands before a command so that the files of the lab are somebody else's."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    runs = subprocess.run([*other, sys.executable, "-c", "import wsiseg"], env=environment(), capture_output=True)
    if runs.returncode == 0:
        return other
    os.chown(lab, NOBODY, NOBODY)
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def environment() -> dict[str, str]:
    """Of a user without a home."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return kept | {"HOME": "/proc/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def command(lab: Path, stranger: list[str]) -> Command:
    """Runs a command in the lab as somebody else."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        line = [*stranger, sys.executable, "-c", "from wsiseg.cli import main; main()", *map(str, words)]
        return subprocess.run(line, capture_output=True, text=True, timeout=250, cwd=lab, env=environment())

    return run


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    for part in parts:
        assert part in last


def test_a_slide_in_a_folder_that_is_read_only(lab: Path, command: Command) -> None:
    """Neither the home nor the folder of the slide can be written: caches go elsewhere or are done without."""
    for words in (
        ("info", "slide.tif", "--thumbnail", "open/thumbnail.png"),
        ("tile", "slide.tif", "--no-tissue", "--out", "open/s.zarr", "-q"),
        ("qc", "slide.tif", "--out", "open/qc"),
        ("doctor",),
    ):
        done = command(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert "Traceback" not in done.stderr
    assert {p.name for p in (lab / "open").iterdir()} == {"thumbnail.png", "s.zarr", "qc"}


@pytest.mark.parametrize(
    "words",
    [
        ("tile", "slide.tif", "--no-tissue", "-q"),
        ("tissue", "slide.tif", "--out", "t.png"),
        ("info", "slide.tif", "--thumbnail", "t.png"),
        ("predict", "slide.tif", "--no-tissue", "--engine", "torch", "-q"),
    ],
)
def test_results_where_nobody_may_write(lab: Path, command: Command, words: tuple[str, ...]) -> None:
    before = sorted(lab.iterdir())
    refused(command(*words), "cannot be written", "permission denied")
    assert sorted(lab.iterdir()) == before


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_what_may_not_be_read(lab: Path, command: Command, closed: str) -> None:
    room = lab / f"closed-{closed}"
    room.mkdir()
    shutil.copy(lab / "slide.tif", room / "s.tif")
    (room / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (room / "r.toml").write_text('name = "a"\n')
    owner = lab.stat().st_uid
    for path in (room, *room.iterdir()):
        os.chown(path, owner, owner)
        path.chmod((0o700 if closed == "folder" else 0o755) if path == room else 0o600)
    refused(command("info", room / "s.tif"), "s.tif")
    refused(command("tile", "slide.tif", "--annotations", room / "a.geojson", "--out", "open/a.zarr"), "a.geojson")
    refused(command("recipe", "check", room / "r.toml"), "r.toml")
    refused(command("predict", "slide.tif", "--model", room, "--out", "open/a.geojson"), room.name)
