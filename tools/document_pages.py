"""Write the parts of docs/ that follow from the code: `python -m tools.document_pages`.

A page has people's text, and parts between `<!-- from the code: NAME -->` and `<!-- end -->` that are made here: all
commands, all keys of recipes, and the tables of measurements.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Literal, TypeGuard, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from wsiseg.cli import wsiseg
from wsiseg.measure.column import Column
from wsiseg.measure.profiles import PROFILES
from wsiseg.methods import METHODS
from wsiseg.recipe import Recipe, Section
from wsiseg.recipe.schema import TrainingStage

DOCS = Path(__file__).resolve().parent.parent / "docs"
PART = re.compile(r"(<!-- from the code: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """A page with its parts made anew."""
    return PART.sub(lambda part: f"{part[1]}{''.join(PARTS[part[2]]())}\n{part[3]}", page)


def commands(group: click.Group = wsiseg, path: str = "wsiseg") -> Iterator[str]:
    """A section for each command of a group."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
            continue
        context = click.Context(command, info_name=f"{path} {name}", show_default=True)
        yield f"\n## {path} {name}\n\n{command.help}\n\n```\n{command.get_usage(context)[7:]}\n```\n"
        if command.epilog:  # the examples of `wsiseg.cli.help`, below their heading
            examples = "\n".join(line.strip() for line in command.epilog.splitlines()[2:])
            yield f"\n```sh\n{examples}\n```\n"
        options = [_option(parameter, context) for parameter in command.params if _is_shown(parameter)]
        if options:
            yield "\n| option | meaning | default |\n|---|---|---|\n"
            yield from options


def _is_shown(parameter: click.Parameter) -> TypeGuard[click.Option]:
    return isinstance(parameter, click.Option) and not parameter.hidden


def _option(option: click.Option, context: click.Context) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    names = ", ".join(f"`{name}{value}`" for name in option.opts)
    default = option.get_help_extra(context).get("default", "")
    needed = "required" if option.required else f"`{default}`" if default else ""
    return f"| {names} | {(option.help or '').replace('|', '/')} | {needed} |\n"


def recipe_keys() -> Iterator[str]:
    """One table of all keys."""
    yield "\n| key | meaning | default |\n|---|---|---|\n"
    yield from _keys("", Recipe)


def _keys(prefix: str, section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if name == "method" and section is Recipe:
            yield from _method_keys()
        elif name == "stage":
            yield from _keys("stage.", TrainingStage)
        elif isinstance(kind, type) and issubclass(kind, Section):
            yield from _keys(f"{prefix}{name}.", kind)
        else:
            yield _key(prefix + name, field)


def _method_keys() -> Iterator[str]:
    """The keys of [method]: those of all methods once, those of some with the names of these."""
    names = " or ".join(f"`{name}`" for name in METHODS)
    yield f"| `method.name` | {names}; which [method](methods/README.md) | `supervised` |\n"
    told: dict[str, list[str]] = {}
    for name, options in METHODS.items():
        for key, field in options.model_fields.items():
            if key != "name":
                told.setdefault(_key(f"method.{key}", field), []).append(name)
    for row, methods in told.items():
        note = "" if len(methods) == len(METHODS) else f" ({', '.join(methods)})"
        key, meaning, default = row.rsplit(" | ", 2)
        yield f"{key} | {meaning}{note} | {default}"


def _key(name: str, field: FieldInfo) -> str:
    kinds = get_args(field.annotation) if get_origin(field.annotation) is UnionType else (field.annotation,)
    literal = [kind for kind in kinds if get_origin(kind) is Literal]
    choices = [f"`{choice}`" for kind in literal for choice in get_args(kind)]
    meaning = "; ".join(part for part in (" or ".join(choices), field.description or "") if part)
    default = "required" if field.is_required() else "" if field.default in ("", (), {}) else f"`{field.default}`"
    return f"| `{name}` | {meaning} | {default} |\n"


def measurements(profile: str) -> Iterator[str]:
    """A table of columns for each table of a profile."""
    for name, columns in PROFILES[profile].items():
        yield f"\n### Table `{name}` of `{profile}`\n\n"
        yield "| column | unit | meaning | absent or empty | compared | source | in QuPath |\n"
        yield "|---|---|---|---|---|---|---|\n"
        yield from map(_column, columns)


def _column(column: Column) -> str:
    missing = [f"{kind}: {why}" for kind, why in (("absent", column.absent), ("empty", column.empty)) if why]
    cells = (
        ", ".join(f"`{name}`" for name in column.names), column.unit, column.meaning, "; ".join(missing),
        "yes" if column.compared else "", column.source, f"`{column.shown}`" if column.shown else "",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "commands": commands,
    "recipe keys": recipe_keys,
    "measurements generic": lambda: measurements("generic"),
    "measurements kidney": lambda: measurements("kidney"),
}


if __name__ == "__main__":
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (made := filled(text)) != text:
            path.write_text(made, encoding="utf-8")
            print(path)
