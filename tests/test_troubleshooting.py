"""Every message that docs/troubleshooting.md quotes is still one of the program's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GAP = "…"
MESSAGE = re.compile(r"^### `(.+)`$|^\| `(.+?)` \|", re.MULTILINE)


def quoted() -> list[str]:
    """The messages of the page, `…` for what differs."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return [heading or row for heading, row in MESSAGE.findall(text)]


def text_of(node: ast.expr) -> str | None:
    """A text of the source with a gap for each value that is put in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else GAP for v in node.values)
    return None


def texts(source: str) -> Iterator[str]:
    """All texts of a module, quotes that mark code taken for gaps as the page does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.expr) and (text := text_of(node)):
            yield bare(text)


def bare(text: str) -> str:
    """Without what may differ: gaps that meet are one, code in back quotes is a gap."""
    return re.sub(rf"(?:`[^`]*`|{GAP})+", GAP, text)


@cache
def program() -> frozenset[str]:
    return frozenset(t for path in (ROOT / "wsiseg").rglob("*.py") for t in texts(path.read_text(encoding="utf-8")))


def is_said(message: str, said: frozenset[str]) -> bool:
    """Whether a message is one of the program's; its gaps may swallow words, never all of them."""
    parts = message.split(GAP)
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    kept = len(message.replace(GAP, "").strip(" .,:()"))
    likely = (t for t in said if all(part in t for part in parts))  # which is quicker to see
    return any(pattern.fullmatch(t) and kept >= 0.5 * len(t.replace(GAP, "")) for t in likely)


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_exists(message: str) -> None:
    assert is_said(message, program()), "no such message in wsiseg/: has it changed?"


def test_a_message_that_has_changed_is_found() -> None:
    said = frozenset({bare("There is no tile store at …: make one with `wsiseg tile`.")})
    assert is_said("There is no tile store at …: make one with ….", said)
    assert not is_said("There is no label map at …: make one with ….", said)
    assert not is_said("There is …", said)


PACKAGES = ("run", "qc", "report", "viewer")
OTHERS = ("ValueError", "FileNotFoundError", "HTTPException")  # caught again, or said by the page of the viewer itself


def raised(source: str) -> Iterator[str]:
    """The sentences of all errors that a module raises for people."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            sentence = text_of(node.exc.args[0])
            if sentence and ast.unparse(node.exc.func) not in OTHERS:
                yield bare(sentence)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_message_of_a_package_is_on_the_page(package: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "wsiseg" / package).rglob("*.py")]
    said = {sentence for source in sources for sentence in raised(source)}
    assert said
    assert [s for s in sorted(said) if not any(is_said(message, frozenset({s})) for message in quoted())] == []


def test_the_page_quotes_some() -> None:
    assert len(quoted()) > 30
