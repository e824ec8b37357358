"""From a TOML file to a recipe, or to one sentence that says what is wrong with it."""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from string import Template
from typing import Any

from pydantic import ValidationError

from wsiseg.errors import RecipeError
from wsiseg.recipe.schema import Recipe

# Keys of version 0.1 that have another name or place now.
MOVED = {f"run.{key}": f"measure.{key}" for key in ("thickness_um", "glomeruli", "sclerotic", "podocytes")}


def load_recipe(path: Path, overrides: tuple[str, ...] = (), *, places: bool = True) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file
        overrides: "table.key=value" with the value in TOML, or as bare text
        places: make whole paths of those to the slides and weights of training; otherwise they stay as they are
            written, for whoever does not train

    Raises:
        RecipeError: not TOML, an unknown key, an impossible value
    """
    try:
        value = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe at {path}: the ones that come along are in pipelines/.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} is no readable TOML file: {error}.") from error
    for override in overrides:
        _override(value, override)
    if places:
        _find_places(value, Path(path).resolve().parent)
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error)}") from error


def _find_places(value: dict[str, Any], base: Path) -> None:
    """Paths that start at the recipe's folder, and environment variables in them."""
    for table, key in (("data", "slides"), ("data", "root"), ("model", "weights"), ("predict", "within_model")):
        section = value.get(table)
        if isinstance(section, dict) and section.get(key) and section[key] not in ("imagenet", "none"):
            section[key] = str(base / expand(str(section[key])))


def expand(text: str) -> str:
    """Put environment variables into a path; RecipeError for one that is not set."""
    try:
        return Template(text).substitute(os.environ)
    except KeyError as error:
        raise RecipeError(f"{text!r} needs the environment variable {error.args[0]}, which is not set.") from None
    except ValueError as error:
        raise RecipeError(f"{text!r} is no path: {error}.") from error


def _override(value: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"--set {override!r} is not of the form table.key=value.")
    *tables, key = name.strip().split(".")
    for table in tables:
        value = value.setdefault(table, {})
        if not isinstance(value, dict):
            raise RecipeError(f"--set {override!r}: {table!r} is no table.")
    try:
        value[key] = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        value[key] = text.strip()


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        if where in MOVED:
            return f"the key {where!r} is called {MOVED[where]!r} now."
        *tables, key = first["loc"]
        section: Any = Recipe
        for table in tables:
            section = section.model_fields[table].annotation
        near = get_close_matches(str(key), section.model_fields, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(section.model_fields)}."
        return f"the key {where!r} is unknown; {hint}"
    if first["type"] == "missing":
        return f"{where!r} is missing."
    if first["type"] == "value_error":  # from a check of our own, which says it all
        return f"{first['ctx']['error']}."
    return f"{where} = {first['input']!r} will not do: {first['msg'][:1].lower()}{first['msg'][1:]}."
