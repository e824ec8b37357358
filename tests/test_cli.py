"""The command line: documented, quick to start, and one sentence for everything that will not do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.command import wsiseg as run
from tools.document_pages import PARTS, filled
from wsiseg.cli import wsiseg

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("pipelines/*.toml"))]


def refused(*words: object, cwd: Path | None = None) -> str:
    """The one sentence of a command that must not work."""
    done = run(*words, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("wsiseg: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_what_pages_take_from_the_code_is_up_to_date() -> None:
    marked = 0
    for path in ROOT.glob("docs/**/*.md"):
        text = path.read_text(encoding="utf-8")
        marked += text.count("<!-- from the code: ")
        assert filled(text) == text, f"{path.name}: python -m tools.document_pages"
    assert marked == len(PARTS)


def named(name: str, rest: str) -> click.Command:
    """The command of a line, that of a group if it names one."""
    command = wsiseg.commands[name]
    if not isinstance(command, click.Group):
        return command
    words = rest.split()
    assert words, f"wsiseg {name} is a group: name one of {', '.join(command.commands)}"
    return command.commands[words[0]]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_in_the_docs_exists_with_its_options(path: Path) -> None:
    for name, rest in re.findall(r"\bwsiseg ([a-z]+)\b([^\n`]*)", path.read_text()):
        if name not in wsiseg.commands:
            assert not re.search(r"--\w", rest), f"{path.name}: wsiseg {name}{rest}"
            continue
        known = {o for p in named(name, rest).params for o in p.opts} | {"--help"}
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", rest.split("#")[0]))
        assert used <= known, f"{path.name}: wsiseg {name}{rest}"


# Options on the pages that belong to other programs.
OTHERS = {"--from", "--no-crop", "--user", "--shm-size", "--rm", "--gpus", "--logdir", "--resources", "--memory-limit"}


def test_every_option_in_a_sentence_exists() -> None:
    known = {"--help", "--version", *OTHERS}
    for command in commands_of(wsiseg).values():
        shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        known |= {name for option in shown for name in [*option.opts, *option.secondary_opts]}
    for script in [*ROOT.glob("pipelines/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tools/*.py")]:
        known |= set(re.findall(r'"(--[a-z][a-z0-9-]+)"', script.read_text(encoding="utf-8")))
    unknown = {}
    for path in PAGES:
        for code in re.findall(r"`([^`\n]+)`", path.read_text(encoding="utf-8")):
            if lost := set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", code)) - known:
                unknown[f"{path.relative_to(ROOT)}: {code}"] = lost
    assert not unknown


def commands_of(group: click.Group, path: str = "") -> dict[str, click.Command]:
    """Every command, those of groups by both names."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[f"{path}{name}"] = command
        if isinstance(command, click.Group):
            found |= commands_of(command, f"{path}{name} ")
    return found


def test_every_command_and_option_has_a_help_text() -> None:
    for name, command in commands_of(wsiseg).items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"{name} {parameter.name}"


def test_every_command_has_a_section_a_whole_summary_and_an_example() -> None:
    assert sorted(name for names in wsiseg.sections.values() for name in names) == sorted(wsiseg.commands)
    shown = CliRunner().invoke(wsiseg, ["--help"]).output
    assert "..." not in shown.split("--help", 1)[1], "a summary was cut"
    for name, command in commands_of(wsiseg).items():
        if not isinstance(command, click.Group):
            assert command.epilog, f"{name}: add an example to wsiseg/cli/help.py"
            assert f"wsiseg {name}" in command.epilog


def test_tiling_never_loads_torch_and_help_is_quick(slides: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from wsiseg.cli import wsiseg;wsiseg.main({!r}, standalone_mode=False); print(sorted(sys.modules))"
    )
    tiling = ["tile", str(slides / "CMU-1-Small-Region.svs"), "--out", str(tmp_path / "s.zarr"), "--quiet"]
    help_loads_not = ("torch", "numpy", "zarr", "shapely")
    for words, heavy in ((["--help"], help_loads_not), (["tile", "--help"], help_loads_not), (tiling, ("torch",))):
        done = subprocess.run([sys.executable, "-c", script.format(words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for module in heavy:
            assert f"'{module}'" not in done.stdout, f"{words}: {module}"


def test_info(slides: Path) -> None:
    done = run("info", slides / "CMU-1-Small-Region.svs", "--json")
    facts = json.loads(done.stdout)
    assert (facts["width"], facts["height"], facts["mpp"]) == (2220, 2967, [0.499, 0.499])
    assert facts["vendor"] == "aperio"


def test_the_missing_resolution_is_asked_for(slides: Path) -> None:
    slide = slides / "tcga-cr-7395-01a-01-ts1.svs"
    assert "--mpp" in refused("info", slide)
    assert run("info", slide, "--mpp", 0.25).returncode == 0


FOUR = [
    ("CMU-1-Small-Region.svs", []),
    ("tcga-cr-7395-01a-01-ts1.svs", ["--slide-mpp", "0.25"]),
    ("multi_frame_jpeg2000_camelyon_challenge_image.dcm", []),
    ("../kidney/kidney-051.svs", []),
]


@pytest.mark.parametrize(("name", "options"), FOUR, ids=[name for name, _ in FOUR])
def test_the_commands_on_real_slides(slides: Path, tmp_path: Path, name: str, options: list[str]) -> None:
    """info, tissue, tile, predict with the bundled models, evaluate against itself."""
    slide = slides / name
    coarse = ["--tile-mpp", "32"] if name.endswith(".dcm") else ["--tile-mpp", "2.0"]
    for words in (
        ["info", slide, "--thumbnail", tmp_path / "slide.png", *options],
        ["tissue", slide, "--out", tmp_path / "tissue.png", *options],
        ["tissue", slide, "--out", tmp_path / "tissue.geojson", *options],
        ["tile", slide, "--size", 256, *coarse, *options, "--quiet"],
    ):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{slide.stem}.zarr" / "zarr.json").exists()
    if name.endswith(".dcm"):
        assert "has only 28.96" in refused("predict", "--slide", slide, "--quiet", cwd=tmp_path)
        assert not list(tmp_path.glob("*.parent.geojson"))
        return
    done = run("predict", "--slide", slide, *options, "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if name.endswith("051.svs"):
        assert "glomeruli alone (the slide has 1 µm/px" in done.stderr
        assert not list(tmp_path.glob("*.parent.geojson"))
    else:
        assert "nuclei in them" in done.stderr
        assert list(tmp_path.glob("*.parent.geojson"))
    out = tmp_path / f"{slide.stem}.geojson"
    assert json.loads(out.read_text())["type"] == "FeatureCollection"
    found = json.loads(out.read_text())["features"]
    again = run("predict", "--slide", slide, *options, "--quiet", cwd=tmp_path)
    assert "already there" in again.stdout
    done = run("evaluate", "--slide", slide, "--truth", out, "--prediction", out, "--json", *options)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["pooled"]["objects"]
    assert figures["any"]["found"] == len(found)
    assert figures["any"]["missed"] == figures["any"]["unmatched"] == 0


ODD = [
    "broken.svs", "unopenable.tiff", "unreadable.svs", "zero_gi.tif", "ojpeg-tile.tif", "small_dicom.dcm", "😐.svs",
    "test_orient3.tif", "test_orient6.tif", "kidney-48-5.tif", "grey10kx5k.tif",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_files_work_or_are_one_sentence_and_leave_nothing(odd: Path, tmp_path: Path, name: str) -> None:
    done = run("tile", odd / name, "--out", tmp_path / "out.zarr", "--quiet")
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 2
        assert [line[:8] for line in done.stderr.splitlines()] == ["wsiseg: "]
        assert not (tmp_path / "out.zarr").exists()
    else:
        assert (tmp_path / "out.zarr" / "zarr.json").exists()


def test_a_truncated_slide_is_one_sentence(slides: Path, tmp_path: Path) -> None:
    whole = (slides / "CMU-1-Small-Region.svs").read_bytes()
    for share in (0.1, 0.5, 0.9):
        cut = tmp_path / f"cut-{share}.svs"
        cut.write_bytes(whole[: int(len(whole) * share)])
        assert "cut-" in refused("tile", cut, "--out", tmp_path / "out.zarr", "--quiet")
        assert not (tmp_path / "out.zarr").exists()


def test_bad_outlines_and_models_and_places_are_one_sentence(slides: Path, tmp_path: Path) -> None:
    slide = slides / "CMU-1-Small-Region.svs"
    text = tmp_path / "text.geojson"
    text.write_text("these are not outlines")
    empty = tmp_path / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    other = tmp_path / "other.geojson"
    other.write_text(
        '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0,0],[9,0],[9,9],[0,0]]]},'
        '"properties": {"classification": {"name": "Tubule", "color": [1,2,3]}}}'
    )
    assert "text.geojson" in refused("tile", slide, "--annotations", text, cwd=tmp_path)
    assert "'Tubule'" in refused("tile", slide, "--annotations", other, "--classes", "Glomerulus", cwd=tmp_path)
    assert "no model bundle" in refused("predict", "--slide", slide, "--model", tmp_path, cwd=tmp_path)
    assert "nothing.svs" in refused("info", tmp_path / "nothing.svs")
    assert "nothing to compare" in refused("evaluate", "--slide", slide, "--truth", empty, "--prediction", empty)
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "file" in refused("tile", slide, "--out", blocked / "out.zarr", "--quiet")
    assert "cannot be written" in refused("info", slide, "--thumbnail", blocked / "a.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.geojson", "file", "other.geojson", "text.geojson"]


def test_a_full_disk_is_one_sentence_and_keeps_what_is_finished(slides: Path, tmp_path: Path) -> None:
    """The kernel's limit on file size stands in for a full disk: both make write() fail in the middle."""
    slide, out = slides / "CMU-1-Small-Region.svs", tmp_path / "out.zarr"
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY));"
        "from wsiseg.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "tile", str(slide), "--out", str(out), "--quiet"], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("wsiseg: ")
    assert "out.zarr cannot be written" in done.stderr
    assert not out.exists()
    assert run("tile", slide, "--out", out, "--quiet").returncode == 0
    assert (out / "zarr.json").exists()


@pytest.mark.parametrize(("mpp", "code"), [("4", 0), ("5", 2)])
def test_predict_without_a_model_works_up_to_four_um(slides: Path, tmp_path: Path, mpp: str, code: int) -> None:
    """A slide coarser than the bundled model's pixels is enlarged, one that is far coarser refused in a sentence."""
    done = run("predict", slides / "../kidney/kidney-051.svs", "--slide-mpp", mpp, "--quiet", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert f"glomeruli alone (the slide has {mpp} µm/px" in done.stderr
    assert ("has only 5" in done.stderr) == (code == 2)
