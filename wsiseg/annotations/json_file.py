"""Read JSON files: unpack them up to a limit, accept odd JSON, and raise one sentence for anything wrong."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any

import orjson

from wsiseg.errors import AnnotationError

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"

# Bytes of one annotation file, unpacked. Five million nuclei of 30 corners have this much.
DEFAULT_LIMIT = 4 * 2**30

_STEP = 2**24
_limit = DEFAULT_LIMIT


def set_input_limit(size: int) -> None:
    """From now on, refuse annotation files that have more than `size` bytes when unpacked (of this process)."""
    global _limit
    _limit = size


def load_bytes(path: Path) -> bytes:
    """The content of a file, unpacked if it is gzip.

    Raises:
        AnnotationError: it cannot be had, or is larger than the limit
    """
    with opened(path) as file:
        return _unpacked(path, file, _limit)


def load_texts(path: Path) -> list[bytes]:
    """The JSON texts of a file: one, or as many as there are JSON files in a ZIP archive, which QuPath writes too.

    Raises:
        AnnotationError: it cannot be read or is larger than the limit
    """
    with opened(path) as file:
        if file.read(4) != ZIP:
            file.seek(0)
            return [_unpacked(path, file, _limit)]
        try:
            with zipfile.ZipFile(file) as archive:
                return list(_members(path, archive))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise AnnotationError(
                f"{path} is a ZIP archive that is damaged, encrypted or packed in an unusual way ({error}): "
                "unpack it, and give the GeoJSON file."
            ) from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """An annotation file, open for reading; AnnotationError if that fails."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise AnnotationError(f"{path} does not exist: check the name of the annotation file.") from None
    except OSError as error:
        raise AnnotationError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error


def _members(path: Path, archive: zipfile.ZipFile) -> Iterator[bytes]:
    """The JSON files of an archive; what macOS adds beside them is left out."""
    names = [
        name
        for name in archive.namelist()
        if name.lower().endswith((".json", ".geojson", ".json.gz", ".geojson.gz"))
        and not name.startswith("__MACOSX/")
        and not name.rpartition("/")[2].startswith(".")
    ]
    if not names:
        raise AnnotationError(f"{path} has no .geojson or .json file in it: export the annotations again.")
    left = _limit
    for name in names:
        with archive.open(name) as member:
            raw = _unpacked(path, member, left)
        left -= len(raw)
        yield raw


def _unpacked(path: Path, file: IO[bytes], limit: int) -> bytes:
    """All of an open file, unpacked if it is gzip, if it is no longer than the limit."""
    raw = _all_of(path, file, limit)
    if raw[:2] != GZIP:
        return raw
    try:
        with gzip.GzipFile(fileobj=BytesIO(raw)) as packed:
            return _all_of(path, packed, limit)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise AnnotationError(f"{path} is a damaged gzip file: copy or export it again.") from None


def _all_of(path: Path, file: IO[bytes] | gzip.GzipFile, limit: int) -> bytes:
    content = BytesIO()
    while piece := file.read(_STEP):
        if content.write(piece) and content.tell() > limit:
            raise AnnotationError(
                f"{path} has more than {_limit / 1e9:.3g} GB when unpacked: raise the limit with --max-input, or check "
                "the file."
            )
    return content.getvalue()


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
        AnnotationError: it is not JSON, or is cut short; the place is named.
    """
    if not raw.strip():
        raise AnnotationError(f"{path} is empty: export the annotations again.")
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    # Python's own parser is slower. It takes the bare NaN and Infinity that QuPath wrote up to 0.4, and says what is wrong.

    def number(text: str) -> float:
        value = float(text) if len(text) > 18 or not text.lstrip("-").isdecimal() else int(text)
        if math.isinf(value):
            raise AnnotationError(
                f"{path} has a number that is too large ({text[:12]}…, {len(text)} characters): correct it there."
            )
        return value

    try:
        text = raw.decode("utf-8-sig")
        tree = json.loads(text, parse_int=number, parse_float=number)
        if "\\u" in text:
            json.dumps(tree, ensure_ascii=False).encode()
        return tree
    except UnicodeDecodeError:
        raise AnnotationError(f"{path} is not a text file in UTF-8, so it is not GeoJSON: give another file.") from None
    except UnicodeEncodeError:
        raise AnnotationError(
            f"{path} has a text with half a character in it (a lone surrogate): correct the name there."
        ) from None
    except RecursionError:
        raise AnnotationError(f"{path} is nested too deeply to be GeoJSON: give another file.") from None
    except json.JSONDecodeError as error:
        short = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        what = "ends too early" if short else "is not valid JSON"
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise AnnotationError(f"{path} {what} ({place}): export the annotations again.") from None
