"""Every link of the documentation leads somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from wsiseg.methods import METHODS
from wsiseg.methods.options import LearningOptions

ROOT = Path(__file__).resolve().parent.parent

FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
INLINE = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'][^)]*)?\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)", re.MULTILINE)
HTML = re.compile(r"""\b(?:src|href)\s*=\s*["']([^"']+)["']""")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


def pages() -> list[Path]:
    """The Markdown files of the repository, those not yet committed too."""
    if not (ROOT / ".git").exists():
        return sorted(p for p in ROOT.rglob("*.md") if not any(q.startswith(".") for q in p.relative_to(ROOT).parts))
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "*.md"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in sorted(filter(None, names)) if (ROOT / name).exists()]


def links(text: str) -> list[str]:
    """The targets of all links and pictures of a page, outside code."""
    text = CODE.sub("", FENCE.sub("", text))
    return [target for pattern in (INLINE, REFERENCE, HTML) for target in pattern.findall(text)]


def anchors(text: str) -> set[str]:
    """The names of a page's headings in links: lower case, without punctuation, spaces as hyphens."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        repeated, number = name, 0
        while repeated in found:
            number += 1
            repeated = f"{name}-{number}"
        found.add(repeated)
    return found


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    lost = []
    for link in links(text):
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and target.suffix == ".md" and anchor not in anchors(target.read_text("utf-8"))):
            lost.append(link)
    return lost


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_a_lost_link_is_found() -> None:
    text = """
    # Title

[good](README.md), [site](https://example.org/x), ![lost](docs/none.png "title"), [lost](README.md#no-such-heading),
[out](../outside.md), <img src="docs/none.svg">, `[code](none.md)`, [by name][name]

```
[fenced](none.md)
```

[name]: docs/none.md
"""
    assert broken(ROOT / "PAGE.md", text) == [
        "docs/none.png",
        "README.md#no-such-heading",
        "../outside.md",
        "docs/none.md",
        "docs/none.svg",
    ]


def test_anchors_are_named_as_readers_see_them() -> None:
    assert anchors("# One: `two`, three!\n## Twice\n## Twice\n```\n# no heading\n```\n") == {
        "one-two-three",
        "twice",
        "twice-1",
    }


@pytest.mark.parametrize("name", METHODS)
def test_every_option_of_a_method_is_on_its_page_with_its_default(name: str) -> None:
    page = (ROOT / "docs" / "methods" / f"{name.replace('_', '-')}.md").read_text(encoding="utf-8")
    shared = set() if name == "supervised" else set(LearningOptions.model_fields)
    own = {k: f.default for k, f in METHODS[name].model_fields.items() if k not in {"name", *shared}}
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", page, re.MULTILINE))
    assert told == {key: str(default) or '""' for key, default in own.items()}
