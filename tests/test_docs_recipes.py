"""Every recipe, key and table of a recipe that the documentation mentions is one that recipes have."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.example_slide import ROOT, blocks
from wsiseg.recipe import Recipe

# CHANGELOG.md names old keys on purpose.
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("pipelines/**/*.md"))]
FILES = ("json", "csv", "py", "html", "toml", "zarr", "md", "txt")

BASE = {
    "name": "example",
    "classes": {"names": ["Background", "Glomerulus", "Sclerotic glomerulus", "Podocyte"]},
    "data": {"slides": "slides.csv", "mpp": 1.0},
    "training": {"steps": 10},
}

CODE = re.compile(r"`([^`\n]+)`")
SET = re.compile(r"--set\s+([a-z_]+\.[\w.]+)=")


def keys_of(schema: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[str]:
    """The dotted names of all tables and keys below a node of a JSON schema."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    for key, value in node.get("properties", {}).items():
        name = f"{path}.{key}" if path else key
        yield name
        yield from keys_of(schema, value, name)
    for choice in [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]:
        yield from keys_of(schema, choice, path)
    if isinstance(node.get("items"), dict):
        yield from keys_of(schema, node["items"], path)


SCHEMA = Recipe.model_json_schema()
KEYS = frozenset(keys_of(SCHEMA, SCHEMA))
TABLES = frozenset(name.rsplit(".", 1)[0] for name in KEYS if "." in name)


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The second over the first, table by table."""
    both = dict(one)
    for key, value in other.items():
        there = both.get(key)
        both[key] = merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return both


def mentioned(text: str) -> Iterator[str]:
    """The keys and tables that a page names: `table.key`, `table.key = value`, `[table]`, `--set table.key=value`."""
    yield from SET.findall(text)
    for code in CODE.findall(text):
        if table := re.fullmatch(r"\[+([a-z_]+(?:\.[a-z_]+)*)\]+", code):
            yield table[1]
        elif key := re.match(r"([a-z_]+(?:\.[a-z_]+)+)(?=$|\s*=)", code):
            first, last = key[1].split(".")[0], key[1].rsplit(".", 1)[1]
            if first in TABLES and last not in FILES:
                yield key[1]


def snippets() -> list[Any]:
    found = []
    for page in PAGES:
        for number, block in enumerate((b for b in blocks(page) if b.language == "toml"), 1):
            found.append(pytest.param(block.text, id=f"{page.relative_to(ROOT)}-{number}"))
    return found


@pytest.mark.parametrize("text", snippets())
def test_a_recipe_on_a_page_is_valid(text: str) -> None:
    Recipe.model_validate(merged(BASE, tomllib.loads(text)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_keys_that_a_page_names_exist(page: Path) -> None:
    assert [key for key in mentioned(page.read_text(encoding="utf-8")) if key not in KEYS | TABLES] == []


def test_unknown_keys_are_found() -> None:
    text = "`data.rename`, `classes.rename`, `[run]`, `[runs]`, `run.json`, `data.tile = 3`, --set training.stepz=1"
    assert [key for key in mentioned(text) if key not in KEYS | TABLES] == ["training.stepz", "classes.rename", "runs"]
    assert {"method.learning_rate", "data.mpp", "run"} <= KEYS
