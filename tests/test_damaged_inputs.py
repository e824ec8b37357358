"""Recipes, bundles, tile stores and label maps damaged at random: one sentence, or no harm; never another error.

WSISEG_DAMAGE is the number of damaged files of each kind; tests/slides/test_damaged.py and
tests/annotations/test_damage.py, which damage slides and annotation files, heed it too.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.annotations.test_damage import damaged
from tests.fixtures_stores import write_store
from tests.stores.test_labels import GRID, write
from wsiseg.bundle import load_bundle
from wsiseg.errors import WsisegError
from wsiseg.models import DEMONSTRATION
from wsiseg.recipe import load_recipe
from wsiseg.stores.labels import LabelMap
from wsiseg.stores.tiles import TileStore

ROUNDS = int(os.environ.get("WSISEG_DAMAGE", "40"))
RECIPES = Path(__file__).parents[1] / "pipelines"


def outcome(work: Callable[[], object]) -> str:
    """The sentence of a refusal; empty where nothing was noticed."""
    began = time.monotonic()
    try:
        work()
        said = ""
    except WsisegError as error:
        said = str(error)
        assert said.rstrip().endswith((".", "?", ")")), said
        assert "\n" not in said
    assert time.monotonic() - began < 10
    return said


def change(path: Path, chance: random.Random) -> None:
    """Damage one file."""
    path.write_bytes(damaged(path.read_bytes(), chance, tree=path.suffix == ".json"))


def test_recipes(tmp_path: Path) -> None:
    sources, chance, said = sorted(RECIPES.rglob("*.toml")), random.Random("recipes"), []
    assert sources
    for _ in range(ROUNDS):
        path = tmp_path / "recipe.toml"
        path.write_bytes(damaged(chance.choice(sources).read_bytes(), chance, tree=False))
        said.append(outcome(lambda: load_recipe(path, places=False)))  # noqa: B023
    assert 0 < sum(map(bool, said)) < ROUNDS


@pytest.mark.parametrize(
    "text",
    ["x = " + "[" * 3000, "x = " + "1" * 5000, "steps = " + "9" * 400, "x = {a=" * 2000, "[" + "a." * 3000 + "b]"],
)
def test_recipes_that_are_too_deep_or_too_long(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    said = outcome(lambda: load_recipe(path))
    assert "recipe.toml" in said
    assert len(said) < 600
    if text.startswith("x = "):
        (tmp_path / "sound.toml").write_text('name = "a"\n')
        assert outcome(lambda: load_recipe(tmp_path / "sound.toml", (f"name={text[4:]}",)))


def test_bundles(tmp_path: Path) -> None:
    chance, said, sound = random.Random("bundles"), [], DEMONSTRATION
    for i in range(ROUNDS):
        copy = tmp_path / str(i)
        shutil.copytree(sound, copy)
        files = [p for p in copy.rglob("*") if p.is_file() and p.suffix in (".json", ".safetensors")]
        heavy = i % 8 == 0  # its weights: the whole file is hashed, which takes its time
        change(chance.choice([p for p in files if (p.suffix == ".safetensors") == heavy]), chance)

        def use(copy: Path = copy) -> None:
            bundle = load_bundle(copy)
            for each in (bundle, bundle.parent):
                if each is not None:
                    each.network()

        said.append(outcome(use))
        if heavy:
            assert said[-1], "the weights are not those that the bundle names"
        shutil.rmtree(copy)
    assert any(said)


@pytest.mark.parametrize("kind", ["tiles", "labels"])
def test_stores(tmp_path: Path, kind: str) -> None:
    sound, chance, said = tmp_path / "sound.zarr", random.Random(kind), []
    if kind == "tiles":
        write_store(sound, 3)
    else:
        rng = np.random.default_rng(0)
        write(sound, np.kron(rng.integers(0, 3, (9, 12), np.uint8), np.ones((100, 100), np.uint8)))

    def read(path: Path) -> list[bytes]:
        if kind == "labels":
            found = LabelMap(path)
            return [found.read(found.frame.box).tobytes()]
        store = TileStore(path)
        return [part.tobytes() for i in range(len(store)) for part in (store.image(i), store.label(i))]

    wanted = read(sound)
    assert GRID.shape
    for i in range(ROUNDS):
        copy = tmp_path / f"{i}.zarr"
        shutil.copytree(sound, copy)
        target = chance.choice(sorted(p for p in copy.rglob("*") if p.is_file()))
        chunk = target.suffix != ".json"
        if chunk and chance.random() < 0.5:
            target.write_bytes(target.read_bytes()[: chance.randrange(max(1, target.stat().st_size))])
        else:
            change(target, chance)
        found: list[list[bytes]] = []
        sentence = outcome(lambda: found.append(read(copy)))  # noqa: B023
        said.append(sentence)
        if chunk and not sentence:
            assert found[0] == wanted, f"{target.name} is damaged, and nobody says so ({i})"
        shutil.rmtree(copy)
    assert any(said)
