"""Print a recipe as TOML (https://toml.io/en/v1.0.0), with all defaults filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from wsiseg.recipe.schema import Recipe


def show_recipe(recipe: Recipe) -> str:
    """The text of a TOML file that gives the same recipe. A key without a value becomes a comment: TOML has no
    null.
    """
    return "\n".join(_lines("", recipe.model_dump(mode="json"))) + "\n"


def _lines(prefix: str, table: Mapping[str, Any]) -> Iterator[str]:
    """The plain keys of a table first, for what follows the head of another table belongs to that one."""
    tables = {key: value for key, value in table.items() if isinstance(value, dict) and value}
    lists = {key: value for key, value in table.items() if isinstance(value, list) and value and _tables(value)}
    for key, value in table.items():
        if key not in tables and key not in lists:
            yield f"# {_key(key)} has no value" if value is None else f"{_key(key)} = {_value(value)}"
    for key, value in tables.items():
        yield from ("", f"[{prefix}{_key(key)}]")
        yield from _lines(f"{prefix}{_key(key)}.", value)
    for key, values in lists.items():
        for value in values:
            yield from ("", f"[[{prefix}{_key(key)}]]")
            yield from _lines(f"{prefix}{_key(key)}.", value)


def _tables(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):  # JSON escapes as TOML does, but for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "{}" if value == {} else json.dumps(value)
