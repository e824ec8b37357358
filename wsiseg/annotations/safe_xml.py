"""XML of strangers, read without ever expanding an entity or fetching a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from wsiseg.annotations.json_file import load_bytes
from wsiseg.errors import AnnotationError

_DECLARATION = re.compile(r"^\s*<\?xml\b[^>]*\?>")
_ENCODING = re.compile(r"encoding\s*=\s*[\"']([^\"']+)[\"']")

# Encodings in which "<!DOCTYPE" cannot hide; nothing else is in use for outlines.
_ENCODINGS = ("utf-8", "us-ascii", "ascii", "iso-8859-1", "windows-1252")


def events(path: Path) -> Iterator[tuple[Literal["start", "end"], Element]]:
    """The elements of a file as they begin and end; whoever iterates clears what he is done with.

    Raises:
        AnnotationError: the file cannot be read, is no well-formed XML, or declares a document type, which outline files
            never need and attackers do
    """
    text = _text(path)
    try:
        for event, element in ElementTree.iterparse(BytesIO(text.encode()), events=("start", "end")):
            yield ("start" if event == "start" else "end"), element
    except ElementTree.ParseError as error:
        raise AnnotationError(f"{path} is damaged or no XML ({error}): export the outlines again.") from None


def root_of(path: Path) -> str:
    """The name of the outermost element."""
    for _, element in events(path):
        return element.tag
    raise AnnotationError(f"{path} is empty: export the outlines again.")


def coordinates(elements: list[Element], path: Path, where: str) -> NDArray[np.float64]:
    """(n, 2) the attributes X and Y of every element; AnnotationError if one is missing or no finite number."""
    try:
        points = np.array([(float(e.attrib["X"]), float(e.attrib["Y"])) for e in elements]).reshape(-1, 2)
    except (KeyError, ValueError):
        raise AnnotationError(f"{path}: {where} has a corner without numbers X and Y; export it again.") from None
    if not np.isfinite(points).all():
        raise AnnotationError(f"{path}: {where} has a corner that is not finite; correct it or export it again.")
    return points


def _text(path: Path) -> str:
    """The content without its XML declaration."""
    raw = load_bytes(path)
    try:
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            text = raw.decode("utf-16")
        else:
            head = _DECLARATION.match(raw.removeprefix(b"\xef\xbb\xbf")[:200].decode("ascii", "replace"))
            declared = _ENCODING.search(head[0]) if head else None
            encoding = declared[1].lower() if declared else "utf-8"
            if encoding not in _ENCODINGS:
                raise AnnotationError(f"{path} is in the encoding {encoding!r}: save it as UTF-8.")
            text = raw.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError:
        raise AnnotationError(f"{path} is not text in the encoding that it declares: save it as UTF-8.") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise AnnotationError(f"{path} declares a document type, which is refused for safety: take that line out.")
    return _DECLARATION.sub("", text, count=1)
