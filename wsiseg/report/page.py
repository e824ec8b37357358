"""Self-contained HTML: no script, no request, all text escaped.

`Html` is text that is ready; everything else is escaped where it is put in. So a slide may be called anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import NewType

from wsiseg.classes import Colour

Html = NewType("Html", str)
Cell = str | Html

STYLE = (files("wsiseg.report") / "report.css").read_text(encoding="utf-8")
SCRIPT = (files("wsiseg.report") / "sort.js").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# The page may show pictures that it holds, and use the one style and the one script that it holds; nothing else.
POLICY = (
    f"default-src 'none'; img-src data:; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'; "
    "form-action 'none'"
)


def text(value: str) -> Html:
    """Plain text, escaped."""
    return Html(escape(value))


def join(parts: Iterable[Html]) -> Html:
    """Parts one after the other."""
    return Html("".join(parts))


def paragraph(value: str, kind: str = "") -> Html:
    """A paragraph of plain text; `kind` is a class of report.css."""
    return Html(f"<p{_class(kind)}>{escape(value)}</p>\n")


def section(title: str, *parts: Html) -> Html:
    """A part of the page with its heading."""
    return Html(f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n")


def subsection(title: str, *parts: Html) -> Html:
    """A part of a section."""
    return Html(f'<div class="part">\n<h3>{escape(title)}</h3>\n{"".join(parts)}</div>\n')


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell | Picture]], kind: str = "") -> Html:
    """A table; the first cell of a row is its heading, and all cells are plain text.

    Args:
        caption: what it holds
        head: of the columns
        rows: a cell may be a `Picture`
        kind: "sortable" lets a click on a column's heading sort the rows
    """
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = [
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(map(_cell, rest))}</tr>\n' for first, *rest in rows
    ]
    return Html(
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table{_class(kind)}>\n'
        f"<caption>{escape(caption)}</caption>\n"
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table></div>\n"
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture in a cell.

    Attributes:
        jpeg: the file
        alt: what it shows
    """

    jpeg: bytes
    alt: str


WORDS = 40  # characters from which a cell holds words rather than a number


def _cell(cell: Cell | Picture) -> str:
    if isinstance(cell, Picture):
        source = f"data:image/jpeg;base64,{base64.b64encode(cell.jpeg).decode()}"
        return f'<td><img src="{source}" alt="{escape(cell.alt)}"></td>'
    value = str(cell)
    return f"<td{_class('words' if len(value) > WORDS else '')}>{escape(value)}</td>"


def picture(media: str, data: bytes, alt: str, caption: str = "", kind: str = "") -> Html:
    """A picture inside the page.

    Args:
        media: "image/svg+xml", "image/png", "image/jpeg"
        data: the file
        alt: what it shows, for those who do not see it
        caption: plain text below it
        kind: a class of report.css
    """
    source = f"data:{media};base64,{base64.b64encode(data).decode()}"
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(f'<figure{_class(kind)}><img src="{source}" alt="{escape(alt)}">{below}</figure>\n')


def legend(entries: Mapping[str, Colour]) -> Html:
    """Which colour means what, below a picture; nothing where there are no entries."""
    items = [
        f'<li><svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" fill="rgb({r},{g},{b})"/></svg> '
        f"{escape(name)}</li>"
        for name, (r, g, b) in entries.items()
    ]
    return Html(f'<ul class="legend">{"".join(items)}</ul>\n' if items else "")


def row(parts: Iterable[Html]) -> Html:
    """Pictures side by side, as far as they fit."""
    return Html(f'<div class="row">\n{"".join(parts)}</div>\n')


def document(title: str, summary: str, *parts: Html) -> bytes:
    """The whole page, UTF-8."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(summary)}</p>\n{''.join(parts)}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    ).encode("utf-8", "replace")  # a file's name may be no text


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
