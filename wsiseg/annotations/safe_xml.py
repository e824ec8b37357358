"""Read untrusted XML without expanding entities or fetching files.

Entities exist only where a document type declares them, so a file that declares one is refused. Expat, which reads the
file afterwards, also looks for the declaration: no encoding can hide from the one what it shows to the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from wsiseg.annotations.gather import check_near
from wsiseg.annotations.json_file import load_bytes
from wsiseg.errors import AnnotationError


def events(path: Path) -> Iterator[tuple[Literal["start", "end"], Element]]:
    """The elements of a file as they begin and end; the caller clears the elements that it has used.

    Raises:
        AnnotationError: the file cannot be read, is not well-formed XML, or declares a document type, which annotation
            files never need and attackers do
    """
    raw = load_bytes(path)

    def refuse(*_: Any) -> None:
        raise AnnotationError(f"{path} declares a document type, which is refused for safety: remove that line.")

    def stop(*_: Any) -> None:  # a document type stands before the outermost element
        raise StopIteration

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler, parser.StartElementHandler = refuse, stop
    try:
        with contextlib.suppress(StopIteration):
            parser.Parse(raw, True)
        for event, element in ElementTree.iterparse(BytesIO(raw), events=("start", "end")):
            yield ("start" if event == "start" else "end"), element
    except (
        expat.ExpatError,
        ElementTree.ParseError,
        LookupError,
        ValueError,
    ) as error:  # the last two: of the encoding
        raise AnnotationError(f"{path} is damaged or not XML ({error}): export the annotations again.") from None


def root_of(path: Path) -> str:
    """The name of the outermost element; raises as `events`."""
    return next(events(path))[1].tag


def coordinates(elements: list[Element], path: Path, where: str) -> NDArray[np.float64]:
    """(n, 2) the attributes X and Y of every element; AnnotationError if one is missing or no number of a slide."""
    try:
        points = np.array([(float(e.attrib["X"]), float(e.attrib["Y"])) for e in elements]).reshape(-1, 2)
    except (KeyError, ValueError):
        raise AnnotationError(f"{path}: {where} has a corner without numbers X and Y; export it again.") from None
    check_near(points, path, where)
    return points
