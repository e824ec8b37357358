"""What is checked before a run begins, and a run of another organ."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.run.conftest import Lab
from wsiseg import extras
from wsiseg.cli import wsiseg
from wsiseg.errors import MissingExtraError, RecipeError


def command(*words: object) -> Result:
    return CliRunner().invoke(wsiseg, [str(w) for w in words])


@pytest.fixture(scope="module")
def crypts(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The laboratory's model, whose only class is a crypt."""
    model = tmp_path_factory.mktemp("crypts") / "model"
    shutil.copytree(lab.model, model)
    about = json.loads((model / "model.json").read_text())
    about["classes"] = [{"index": 0, "name": "Background", "color": [255, 255, 255]}] + [
        {"index": i, "name": name, "color": [200, 0, 10 * i]}
        for i, name in enumerate(
            ("Crypt", "Crypt abscess")[: len([c for c in about["classes"] if c["index"] < 255]) - 1], 1
        )
    ]
    (model / "model.json").write_text(json.dumps(about))
    return model


def test_another_organ_goes_through_the_default_stages(lab: Lab, crypts: Path, tmp_path: Path) -> None:
    words = ["run", lab.recipe, "--slides", lab.slides[0], "--model", crypts, "--out", tmp_path / "out", "--quiet"]
    done = command(*words, "--stages", "predict,measure,report", "--device", "cpu")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "slides" / "s1"
    tables = {path.stem: path for path in (folder / "measurements").iterdir()}
    assert "glomeruli" not in tables
    assert "slides" in tables
    with tables["slides"].open(newline="", encoding="utf-8-sig") as file:
        columns = next(csv.reader(file))
    for text in (done.output, " ".join(columns), (folder / "report.html").read_text(encoding="utf-8")):
        assert "lomerul" not in text


def test_a_class_that_the_model_lacks_is_told_before_predicting(lab: Lab, crypts: Path, tmp_path: Path) -> None:
    words = ["run", lab.recipe, "--slides", lab.slides[0], "--model", crypts, "--out", tmp_path / "out", "--quiet"]
    for setting in ("measure.profile='kidney'", "measure.glomeruli=['Glom']"):
        done = command(*words, "--set", setting)
        assert isinstance(done.exception, RecipeError), done.output
        assert "'Crypt'" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_parquet_without_its_package_is_told_before_predicting(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "pyarrow" else there(name))
    settings = ("--set", "run.stages=['predict','export']", "--set", "run.formats=['parquet']")
    words = ["run", lab.recipe, "--slides", lab.slides[0], "--model", lab.model, "--out", tmp_path / "out", "--quiet"]
    for done in (command(*words, *settings), command("recipe", "check", lab.recipe, *settings)):
        assert isinstance(done.exception, MissingExtraError), done.output
        assert "wsiseg[parquet]" in str(done.exception)
    assert not (tmp_path / "out").exists()
