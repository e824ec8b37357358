"""The scripts for QuPath: installed, parsed, and run by Groovy with stand-ins for QuPath's classes.

The stand-ins have those methods of QuPath 0.5 to 0.7 that the scripts use, by name and arguments. QuPath itself is not run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.example_slide import write_example
from wsiseg.cli import wsiseg
from wsiseg.errors import OutputError
from wsiseg.qupath import command, install, scripts, user_folders

CLASSES = Path(__file__).parent / "classes"
FIND, IMPORT, EXPORT = "1 Find objects.groovy", "2 Import result.groovy", "3 Export annotations.groovy"
# Runs a script as QuPath would, and waits for the thread that it starts.
DRIVER = """
def binding = new groovy.lang.Binding()
for (file in args) new GroovyShell(this.class.classLoader, binding).evaluate(new File(file))
Thread.getAllStackTraces().keySet().findAll { it.getName() == 'wsiseg' }.each { it.join() }
"""


def test_they_are_written_where_qupath_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OutputError, match="start QuPath once"):
        install()
    for version in ("v0.5", "v0.6"):
        (tmp_path / "QuPath" / version).mkdir(parents=True)
    assert [path.name for path in user_folders(tmp_path)] == ["v0.5", "v0.6"]
    wsiseg.main(["qupath", "install"], standalone_mode=False)
    for version in ("v0.5", "v0.6"):
        folder = tmp_path / "QuPath" / version / "scripts" / "wsiseg"
        assert sorted(path.name for path in folder.iterdir()) == [FIND, IMPORT, EXPORT]
    wsiseg.main(["qupath", "install", "--folder", str(tmp_path / "mine")], standalone_mode=False)
    assert (tmp_path / "mine" / "wsiseg" / FIND).read_text() == scripts()[FIND]


def test_the_command_line_is_that_of_this_wsiseg(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run([*command(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("wsiseg")
    monkeypatch.setattr(sys, "executable", r"C:\it's\python.exe")
    assert r"'C:\\it\'s\\python.exe'" in scripts()[FIND]
    assert "@COMMAND@" not in "".join(scripts().values())


def test_the_options_that_they_give_exist() -> None:
    known = {option for parameter in wsiseg.commands["predict"].params for option in parameter.opts}
    used = set(re.findall(r"'(--[a-z-]+)'", scripts()[FIND]))
    assert {"--out", "--overwrite", "--log-json", "--model", "--mpp"} <= used <= known


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiled classes and the driver."""
    if not shutil.which("groovy") or not shutil.which("javac"):
        pytest.skip("groovy and a JDK are not installed: apt-get install groovy default-jdk-headless")
    folder = tmp_path_factory.mktemp("classes")
    subprocess.run(["javac", "-d", folder, *map(str, CLASSES.rglob("*.java"))], check=True)
    (folder / "driver.groovy").write_text(DRIVER)
    install([folder])
    return folder


def groovy(folder: Path, *names: str, **properties: object) -> str:
    """What scripts print when they run one after the other."""
    given = [f"-D{name}={value}" for name, value in properties.items()]
    files = [str(folder / "wsiseg" / name) for name in names]
    java = Path(str(shutil.which("javac"))).resolve().parents[1]
    done = subprocess.run(
        ["groovy", "-cp", str(folder), *given, str(folder / "driver.groovy"), *files],
        capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "JAVA_HOME": str(java)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_find_and_import(stand_ins: Path, tmp_path: Path) -> None:
    place = tmp_path / "with space"
    place.mkdir()
    write_example(place, "slide", 5)
    said = groovy(stand_ins, FIND, slide=place / "slide.svs", stated="2.0")
    result = place / "slide.wsiseg.geojson"
    features = json.loads(result.read_text())["features"]
    assert len(features) > 0
    assert f"HOLDS {len(features)}" in said
    assert f"INFO {len(features)} objects on slide.svs." in said
    assert "--mpp" not in said
    twice = groovy(stand_ins, IMPORT, IMPORT, slide=place / "slide.svs")
    assert twice.count(f"HOLDS {len(features)}\n") == 2, "the second import replaces the first"


def test_what_goes_wrong_is_said(stand_ins: Path, tmp_path: Path) -> None:
    (tmp_path / "slide.svs").write_bytes(b"no slide")
    said = groovy(stand_ins, FIND, slide=tmp_path / "slide.svs", set="0.5")
    assert "ERROR wsiseg: slide.svs" in said
    assert "--mpp 0.5" in said, "the file states no resolution, and QuPath knows one"
    assert "ERROR There is no result" in groovy(stand_ins, IMPORT, slide=tmp_path / "slide.svs")
    for name in (FIND, IMPORT):
        assert "ERROR Open an image first." in groovy(stand_ins, name)
        assert "ERROR wsiseg reads files" in groovy(stand_ins, name, slide="https://host/slide")
    assert "ERROR Open a project first." in groovy(stand_ins, EXPORT)


def test_export_of_a_project(stand_ins: Path, tmp_path: Path) -> None:
    said = groovy(stand_ins, EXPORT, project=tmp_path, slide=tmp_path / "my slide.svs")
    assert (tmp_path / "annotations" / "my slide.geojson").read_text() == "FEATURE_COLLECTION 2"
    assert "INFO 2 annotations of 1 images" in said
