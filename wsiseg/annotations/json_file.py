"""From a file to a JSON tree: unpacking, odd JSON, and one sentence for whatever is wrong."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from wsiseg.errors import AnnotationError


def load_bytes(path: Path) -> bytes:
    """The content of a file, unpacked if it is gzip; AnnotationError when it cannot be had."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        raise AnnotationError(f"{path} does not exist: check the name of the outline file.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise AnnotationError(f"{path} is a damaged gzip file: copy or export it again.") from None
    except OSError as error:
        raise AnnotationError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from walking millions of new lists again and again: parsing is ten times as fast.

    A JSON tree has no cycles, so nothing is left behind.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse_json(path: Path, raw: bytes) -> Any:
    """The JSON tree of a file's content; a key given twice keeps its last value.

    Raises:
        AnnotationError: it is no JSON, or is cut short; the place is named.
    """
    if not raw.strip():
        raise AnnotationError(f"{path} is empty: export the outlines again.")
    try:
        return orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return _parse_with_bare_nan(path, raw)


def _parse_with_bare_nan(path: Path, raw: bytes) -> Any:
    """The slower parser: it takes the bare NaN and Infinity that QuPath wrote up to 0.4, and says what is wrong."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise AnnotationError(f"{path} is not a text file in UTF-8, so it is no GeoJSON: give another file.") from None
    except RecursionError:
        raise AnnotationError(f"{path} is nested too deeply to be GeoJSON: give another file.") from None
    except json.JSONDecodeError as error:
        short = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        what = "ends too early" if short else "is not valid JSON"
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise AnnotationError(f"{path} {what} ({place}): export the outlines again.") from None
