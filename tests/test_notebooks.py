"""The notebooks of the documentation run from top to bottom, and are kept without outputs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.example_slide import ROOT, write_example

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the notebooks speak of: a slide with outlines, a new one, and a folder of four annotated slides."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "slides").mkdir()
    for seed, name in enumerate("abcd", 5):
        write_example(folder / "slides", name, seed)
        (folder / "slides" / f"{name}-truth.geojson").rename(folder / "slides" / f"{name}.geojson")
    for name in ("slide", "new"):
        shutil.copyfile(folder / "slides" / "b.svs", folder / f"{name}.svs")
    shutil.copyfile(folder / "slides" / "b.geojson", folder / "outlines.geojson")
    return folder


def test_there_are_three_and_none_has_outputs() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["errors", "first-slide", "train"]
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells), path.name


def test_the_notebooks_run(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, each in a folder of its own and without names of the one before, in one kernel."""
    all_cells = []
    for path in NOTEBOOKS:
        folder = tmp_path / path.stem
        shutil.copytree(material, folder)
        begin = nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {folder}")
        all_cells.append([begin, *nbformat.read(path, as_version=4).cells])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))  # nothing is written into the user's own folders
    whole = nbformat.v4.new_notebook(cells=[cell for cells in all_cells for cell in cells])
    NotebookClient(whole, timeout=240, kernel_name="python3").execute()
    for path, cells in zip(NOTEBOOKS, all_cells, strict=True):
        outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
        assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 2, path.name
        assert not [output for output in outputs if output.output_type == "error"], path.name
