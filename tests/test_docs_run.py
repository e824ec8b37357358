"""What the documentation shows is run: the commands of README and tutorial, and the Python of every page."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.command import python
from tests.example_slide import ROOT, blocks, write_example
from wsiseg.cli import wsiseg

# Lines of README and tutorial that are not run, and why. Everything else in their blocks is.
NOT_RUN = {
    "make demo": "installs; tests/test_main_job.py runs `wsiseg demo`",
    "make test": "this very run",
    "make setup": "installs, as whoever runs these tests has done",
    ". .venv/bin/activate": "concerns a shell",
    "wsiseg view": "serves until it is stopped; tests/viewer runs it in a browser",
}

# The networks of README and tutorial learn for two steps, so that they give outlines that are worth nothing in seconds.
SMALL = """
name = "{name}"
[classes]
names = ["Background", "Glomerulus", "Sclerotic glomerulus"]
[data]
slides = "{slides}"
mpp = 4.0
tile = 128
[model]
encoder = "tu-test_resnet"
weights = "none"
decoder_channels = 16
[training]
steps = 2
batch = 2
crop = 64
loaders = 0
evaluate_every = 2
[predict]
tile = 128
overlap = 32
batch = 2
"""

PYTHON_PAGES = [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if page.name != "formats.md" and any(block.language == "python" for block in blocks(page))
]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the files that README and tutorial speak of before they make any."""
    folder = tmp_path_factory.mktemp("example")
    write_example(folder)
    shutil.copyfile(folder / "slide-truth.geojson", folder / "outlines.geojson")
    shutil.copyfile(folder / "slide-truth.geojson", folder / "reference.geojson")
    for seed, name in enumerate("abcd", 5):
        write_example(folder, name, seed)
        if name != "d":  # whose outlines the tutorial predicts
            (folder / f"{name}-truth.geojson").rename(folder / f"{name}.geojson")
    shutil.copyfile(folder / "slide.svs", folder / "other.svs")
    (folder / "slides").mkdir()
    shutil.copyfile(folder / "slide.svs", folder / "slides" / "one.svs")
    shutil.copyfile(folder / "slide-truth.geojson", folder / "slides" / "one.geojson")
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "kidney-glomeruli.toml").write_text(SMALL.format(name="kidney", slides="../slides.csv"))
    (folder / "my-recipe.toml").write_text(SMALL.format(name="mine", slides="slides.csv"))
    lists = [block.text for block in blocks(ROOT / "docs" / "tutorial.md") if block.language == "csv"]
    assert len(lists) == 1, "the tutorial shows one slide list"
    (folder / "slides.csv").write_text(lists[0])
    return folder


def command_lines(page: str) -> list[str]:
    """The lines of a page's command blocks, without comments."""
    lines = [line for block in blocks(ROOT / page) if block.language == "sh" for line in block.text.splitlines()]
    return [text for line in lines if (text := re.sub(r"(^|\s+)#.*", "", line).strip())]


def run(*words: str) -> None:
    """Run a command in this process, which has torch already; it must end well."""
    code: object = 0
    try:
        wsiseg.main(list(words), standalone_mode=False)
    except SystemExit as end:  # of `wsiseg doctor`
        code = end.code
    assert not code, words


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_commands_of_a_page_run(page: str, example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(example)
    ran = 0
    for line in command_lines(page):
        if any(line.startswith(start) for start in NOT_RUN):
            continue
        program, *words = shlex.split(line)
        assert program == "wsiseg", f"{line!r} is no command of ours: say in NOT_RUN why it cannot be run"
        extra = ["--device", "cpu"] if words[0] in ("train", "predict", "run") else []
        run(*words, *extra)
        if words[0] == "init":  # which has written hundreds of steps
            (example / "my-model" / "recipe.toml").write_text(SMALL.format(name="mine", slides="../slides.csv"))
        ran += 1
    assert ran >= 5


def test_no_block_of_readme_and_tutorial_is_passed_over() -> None:
    for page in ("README.md", "docs/tutorial.md"):
        for block in blocks(ROOT / page):
            assert block.language in ("sh", "csv"), f"{page}: say what this block is, or it is not run\n{block.text}"


def test_every_reason_for_not_running_a_line_is_needed() -> None:
    lines = command_lines("README.md") + command_lines("docs/tutorial.md")
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []


def test_the_tutorials_list_has_a_line_for_every_split() -> None:
    (text,) = (block.text for block in blocks(ROOT / "docs" / "tutorial.md") if block.language == "csv")
    assert {row["split"] for row in csv.DictReader(text.splitlines())} == {"train", "validation", "test"}


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(page: Path, example: Path, tmp_path: Path) -> None:
    shown = [block for block in blocks(page) if block.language == "python"]
    code = "\n".join(block.text for block in shown if block.why_not is None)
    if not code:
        pytest.skip("; ".join(str(block.why_not) for block in shown))
    for name in ("slide.svs", "outlines.geojson"):
        shutil.copyfile(example / name, tmp_path / name)
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    done = python(tmp_path / "page.py", cwd=tmp_path)
    assert done.returncode == 0, f"{code}\n{done.stderr}"
