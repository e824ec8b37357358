"""Load a recipe from a TOML file, or raise one sentence that says what is wrong with it."""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from string import Template
from typing import Any

from pydantic import ValidationError

from wsiseg.errors import RecipeError
from wsiseg.methods import METHODS
from wsiseg.models import find_model
from wsiseg.recipe.renamed import refuse_old_keys
from wsiseg.recipe.schema import Recipe
from wsiseg.section import Section


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
        raise RecipeError(f"There is no recipe at {path}: the bundled ones are in pipelines/.") from None
    except RecursionError:
        raise RecipeError(f"{path} is not a readable TOML file: its values are nested too deeply.") from None
    except (OSError, ValueError) as error:  # text that is not UTF-8, not TOML, or a number of thousands of digits
        raise RecipeError(f"{path} is not a readable TOML file: {str(error).partition(';')[0]}.") from error
    for override in overrides:
        _override(value, override)
    refuse_old_keys(value)
    if places:
        _find_places(value, Path(path).resolve().parent)
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error)}") from error
    try:
        recipe.stages()
    except ValidationError as error:
        raise RecipeError(f"{path}, in a [[stage]]: {_explain(error)}") from error
    except ValueError as error:
        raise RecipeError(f"{path}: {error}.") from error
    return recipe


def _find_places(value: dict[str, Any], base: Path) -> None:
    """Paths that start at the recipe's folder, environment variables in them, and names of models."""
    for table, key in (("data", "slides"), ("data", "root"), ("model", "weights"), ("predict", "parent_model")):
        section = value.get(table)
        if isinstance(section, dict) and section.get(key) and not is_keyword(str(section[key])):
            named = expand(str(section[key]))
            known = find_model(named) if table != "data" and not (base / named).exists() else base / named
            section[key] = str(base / known)


def is_keyword(weights: str) -> bool:
    """Whether a value of `model.weights` is no path: "imagenet", "none" or "hf-hub:…"."""
    return weights in ("imagenet", "none") or weights.startswith("hf-hub:")


def expand(text: str) -> str:
    """Put environment variables into a path; RecipeError for one that is not set."""
    try:
        return Template(text).substitute(os.environ)
    except KeyError as error:
        raise RecipeError(f"{text!r} needs the environment variable {error.args[0]}, which is not set.") from None
    except ValueError as error:
        raise RecipeError(f"{text!r} is not a path: {error}.") from error


def _override(value: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"--set {override!r} is not of the form table.key=value.")
    *tables, key = name.strip().split(".")
    for table in tables:
        value = value.setdefault(table, {})
        if not isinstance(value, dict):
            raise RecipeError(f"--set {override!r}: {table!r} is not a table.")
    try:
        value[key] = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        value[key] = text.strip()
    except (RecursionError, ValueError):
        raise RecipeError(
            f"--set {name.strip()}: its value is nested too deeply, or has thousands of digits."
        ) from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    section, path = _follow(first["loc"])
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        owners = [name for name, options in METHODS.items() if path[0] == "method" and path[-1] in options.model_fields]
        if owners:
            return (
                f"the key {where!r} belongs to the method {' or '.join(owners)}: set method.name, or take the key out."
            )
        near = get_close_matches(path[-1], section.model_fields, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(section.model_fields)}."
        return f"the key {where!r} is unknown; {hint}"
    if first["type"] == "missing":
        return f"{where!r} is missing."
    if first["type"] == "value_error":  # from a check of our own, which says it all
        return f"{first['ctx']['error']}."
    if first["type"] == "union_tag_invalid":
        return f"method.name = {first['ctx']['tag']!r} will not do: the methods are {', '.join(METHODS)}."
    return f"{where} = {first['input']!r} will not do: {first['msg'][:1].lower()}{first['msg'][1:]}."


def _follow(location: tuple[int | str, ...]) -> tuple[Any, list[str]]:
    """The table that an error lies in, and the parts of its key as a recipe has them.

    Behind `method` pydantic names the method, and behind a key that may be of several types the type.
    """
    section: Any = Recipe
    path: list[str] = []
    for part in map(str, location):
        if path == ["method"] and part in METHODS:
            section = METHODS[part]
        elif "[" not in part:  # otherwise a type such as "tuple[float, ...]"
            path.append(part)
            inner = section.model_fields[part].annotation if part in section.model_fields else None
            if isinstance(inner, type) and issubclass(inner, Section):
                section = inner
    return section, path
