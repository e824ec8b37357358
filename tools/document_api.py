"""The page of all public names, docs/api.md of the site, made from the docstrings.

The source is read, never imported, so the page does not depend on what is installed.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What people build on. Everything else (cli, viewer, the inside of training, …) may change without notice.
MODULES = (
    "errors", "geometry", "grid", "classes", "slides.open", "slides.slide", "slides.backend", "selection.select",
    "selection.tissue", "selection.tiling", "annotations.polygon", "annotations.formats", "annotations.feature",
    "annotations.geojson_write", "annotations.trace", "annotations.rasterise", "stores.tiles", "stores.labels",
    "stores.objects", "stores.prediction", "bundle", "inference.engines", "inference.engines.engine",
    "inference.predict", "inference.cascade", "export", "evaluation.compare", "evaluation.evaluate",
    "evaluation.objects", "evaluation.pixels", "evaluation.agreement", "measure.files", "measure.objects",
    "measure.tables", "methods.context", "synthetic.slide", "synthetic.svs", "synthetic.annotator", "recipe.load",
)  # fmt: skip

HEAD = """# Public names

Every public function and class, with its docstring. [From Python](python.md) shows how they work together. Names that
begin with `_` are private.
"""

DRAWN = set("─│┌└├")  # lines of a drawing, which must stay under one another
SECTIONS = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$", re.MULTILINE)


def page(root: Path = ROOT) -> str:
    """Markdown for all modules of `MODULES`."""
    return HEAD + "".join(_module(root, name) for name in MODULES)


def _module(root: Path, name: str) -> str:
    path = root / "wsiseg" / Path(*name.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    parts = [f"\n## wsiseg.{name}\n\n{_text(ast.get_docstring(tree))}\n"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            parts.append(f"\n### {node.name}\n\n{_function(node)}")
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            parts.append(f"\n### {node.name}\n\n{_class(node)}")
    return "".join(parts)


def _source(node: ast.AST) -> str:
    """Code as it is written here, with double quotes."""
    code = ast.unparse(node)
    return code if '"' in code else code.replace("'", '"')


def _function(node: ast.FunctionDef) -> str:
    decorators = "".join(f"@{_source(d)}\n" for d in node.decorator_list)
    return f"```py\n{decorators}{_signature(node)}\n```\n\n{_text(ast.get_docstring(node))}\n"


def _signature(node: ast.FunctionDef) -> str:
    """On one line where it fits, else an argument a line."""
    result = f" -> {_source(node.returns)}" if node.returns else ""
    line = f"def {node.name}({_source(node.args)}){result}"
    if len(line) <= 100:
        return line
    arguments = "".join(f"    {argument},\n" for argument in _arguments(node.args))
    return f"def {node.name}(\n{arguments}){result}"


def _arguments(arguments: ast.arguments) -> list[str]:
    """Each argument with its type and default; `*` where keywords begin."""
    places = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(places) - len(arguments.defaults)) + list(arguments.defaults)
    found = [_argument(a, d) for a, d in zip(places, defaults, strict=True)]
    if arguments.vararg:
        found.append(f"*{_argument(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        found.append("*")
    found += [_argument(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        found.append(f"**{_argument(arguments.kwarg, None)}")
    return found


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {_source(argument.annotation)}" if argument.annotation else ""
    return argument.arg + kind + (f" = {_source(default)}" if default is not None else "")


def _class(node: ast.ClassDef) -> str:
    bases = ", ".join(map(_source, node.bases))
    head = f"class {node.name}({bases})" if bases else f"class {node.name}"
    fields = [
        f"    {_source(n)}"
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not n.target.id.startswith("_")
    ]
    parts = ["```py\n", "\n".join([f"{head}:" if fields else head, *fields]), "\n```\n\n"]
    parts.append(_text(ast.get_docstring(node)) + "\n")
    members = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    rows = [_member(member) for member in members]
    return "".join(parts) + (f"\n| member | |\n|---|---|\n{''.join(rows)}" if rows else "")


def _member(node: ast.FunctionDef) -> str:
    """A row with the signature and the first sentence of a method or property."""
    said = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    given = [name for name in _arguments(node.args) if name.split(":")[0] not in ("self", "cls")]
    is_value = any("property" in _source(d) for d in node.decorator_list)
    call = "" if is_value else f"({', '.join(given)})"
    shown = f"{node.name}{call}".replace("|", "\\|")
    return f"| `{shown}` | {said} |\n"


def _text(docstring: str | None) -> str:
    """A docstring as Markdown: what is set out in columns stays so, and sections become lists."""
    blocks = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(_block(block) for block in blocks)


def _block(block: str) -> str:
    lines = block.split("\n")
    if SECTIONS.match(lines[0]):
        return f"**{lines[0].rstrip(':')}**\n\n{_list(lines[1:])}"
    if any(line.startswith("    ") for line in lines) or DRAWN & set(block):
        return f"```text\n{block}\n```"
    return block.replace("<", "&lt;")


def _list(lines: list[str]) -> str:
    """`name: meaning` over one or more lines as list items; anything else as it is."""
    items: list[str] = []
    for line in inspect.cleandoc("\n".join(lines)).split("\n"):
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        else:
            names, colon, meaning = line.partition(": ")
            items.append(f"`{names}`: {meaning}" if colon else line)
    return "\n".join(f"- {item}" for item in items).replace("<", "&lt;")
