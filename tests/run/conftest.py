"""A lab with a few small generated slides, a model with small tiles, and a recipe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wsiseg.bundle import load_bundle
from wsiseg.models import GLOMERULI
from wsiseg.recipe import load_recipe
from wsiseg.run.plan import Plan, identity_of
from wsiseg.synthetic import SlideSpec, generate, write_slide

RECIPE = """
name = "small"
[classes]
names = ["Background", "Glomerulus", "Sclerotic glomerulus"]
[data]
slides = "none.csv"
mpp = 4.0
tile = 128
[training]
steps = 1
[run]
stages = ["predict", "measure", "export"]
formats = ["xml"]
"""


@dataclass(frozen=True, slots=True)
class Lab:
    """Where things are, and how to plan with them."""

    folder: Path
    slides: tuple[Path, ...]
    model: Path
    recipe: Path

    @property
    def pattern(self) -> str:
        """All slides."""
        return str(self.folder / "slides" / "*.svs")

    def plan(self, results: object, *overrides: str, **options: Any) -> Plan:
        """A plan for these slides."""
        bundle = load_bundle(self.model)
        recipe = load_recipe(self.recipe, overrides, places=False)
        where = {"engine": "torch", "device": "cpu", "scratch": str(self.folder / "scratch")}
        return Plan(recipe, str(results), str(self.model), identity_of(bundle), **(where | options))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    (folder / "slides").mkdir()
    slides = tuple(folder / "slides" / f"s{seed}.svs" for seed in range(1, 5))
    for seed, path in enumerate(slides, 1):
        write_slide(generate(SlideSpec(seed=seed, width_um=1500, height_um=1200, mpp=2.0)), path)
    # Many small tiles, one at a time: a slide takes long enough to be killed in the middle.
    shutil.copytree(GLOMERULI, folder / "model")
    about = json.loads((folder / "model" / "model.json").read_text())
    about["usage"] |= {"tile": 128, "overlap": 32, "batch": 1}
    (folder / "model" / "model.json").write_text(json.dumps(about))
    (folder / "recipe.toml").write_text(RECIPE)
    return Lab(folder, slides, folder / "model", folder / "recipe.toml")


@pytest.fixture(scope="session")
def results_of() -> Callable[[Path], dict[str, bytes]]:
    """What a run made, less what differs between two runs of the same: times and hosts."""

    def collect(folder: Path) -> dict[str, bytes]:
        found = {}
        for path in sorted((folder / "slides").rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                if path.name == "record.json":
                    record = {k: v for k, v in json.loads(data).items() if k not in ("times", "host")}
                    data = json.dumps(record).encode()
                found[str(path.relative_to(folder))] = data
        return found

    return collect


@pytest.fixture(scope="session")
def serial(lab: Lab, results_of: Callable[[Path], dict[str, bytes]]) -> dict[str, bytes]:
    """The results of all slides, made one by one: what every other way must come to."""
    from wsiseg.run.listed import list_slides
    from wsiseg.run.runner import one_by_one, run

    out = lab.folder / "serial"
    assert run(list_slides(lab.pattern), lab.plan(out), one_by_one, lambda event: None).count("done") == len(lab.slides)
    return results_of(out)
