"""Check the structure of a TIFF without decoding anything.

TIFF 6.0 (Adobe, 1992) and BigTIFF (Aware Systems, 2007): a header points to the first directory, every directory to
the next. A copy that was cut off has a directory, a value or a tile behind the end of the file. Readers that go on
without those show fewer levels or black tiles, so the structure is checked before one of them opens the file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wsiseg.errors import SlideError

WHOLE = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # bytes of the whole-number field types
STRIPS, TILES = (273, 279), (324, 325)  # offsets, byte counts
SUB_DIRECTORIES = 330
MAX_DIRECTORIES = 10_000

# tifffile logs what it finds wrong; here that becomes part of one sentence, and the log stays quiet unless asked for.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_tiff(head: bytes) -> bool:
    """Whether a file begins like a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def open_tiff(path: str) -> Iterator[Any]:
    """A tifffile.TiffFile of a file, whatever its name says: tifffile takes all that is called .ndpi for NDPI."""
    import tifffile

    with open(path, "rb") as file, tifffile.TiffFile(file, name="slide.tif") as tiff:
        if not len(tiff.pages):
            raise SlideError("it has no image directory")
        yield tiff


def orientation_of(page: Any) -> int:
    """The orientation tag of a tifffile page; 1 is upright."""
    return int(page.tags["Orientation"].value) if "Orientation" in page.tags else 1


def require_whole(path: str) -> None:
    """SlideError unless every directory and every tile of a TIFF lies inside the file."""
    try:
        with open(path, "rb") as file:
            size = os.path.getsize(path)
            if not _walk(file, size):
                raise SlideError("it has no image directory")
    except OSError as error:
        raise SlideError(f"it cannot be read ({error.strerror or error})") from error
    except EOFError as error:
        raise SlideError(f"it is cut off: {error} lies behind its end at {size:,} bytes") from error


def _walk(file: BinaryIO, size: int) -> int:
    """Looks at all directories and says how many there are; EOFError names what lies behind the end."""
    head = file.read(16)
    if not is_tiff(head):
        raise SlideError("it does not begin like a TIFF")
    tiff = _Tiff(file, size, "<" if head[:2] == b"II" else ">", head[2:4] in (b"+\0", b"\0+"))
    if len(head) < (16 if tiff.big else 8):
        raise EOFError("the first directory")
    queue, seen = [tiff.number(head[8:16] if tiff.big else head[4:8])], set[int]()
    while queue:
        place = queue.pop()
        if place == 0 or place in seen:
            continue
        if len(seen) >= MAX_DIRECTORIES:
            raise SlideError(f"it has more than {MAX_DIRECTORIES} directories")
        seen.add(place)
        tags, following = tiff.directory(place)
        for offsets, counts in (STRIPS, TILES):
            starts, lengths = tags.get(offsets), tags.get(counts)
            if starts is not None and lengths is not None and starts.size == lengths.size > 0:
                beyond = int((starts + lengths > size).sum())
                if beyond:
                    raise EOFError(f"the end of {beyond} of {starts.size} tiles")
        queue += [following, *(int(place) for place in tags.get(SUB_DIRECTORIES, ()))]
    return len(seen)


@dataclass(frozen=True, slots=True)
class _Tiff:
    """An open TIFF: its file, its size in bytes, its byte order ("<" or ">"), and whether it is a BigTIFF."""

    file: BinaryIO
    size: int
    order: str
    big: bool

    def number(self, raw: bytes) -> int:
        return int.from_bytes(raw, "little" if self.order == "<" else "big")

    def bytes_at(self, start: int, length: int, what: str) -> bytes:
        if start + length > self.size:
            raise EOFError(what)
        self.file.seek(start)
        return self.file.read(length)

    def directory(self, place: int) -> tuple[dict[int, NDArray[np.uint64]], int]:
        """The tags that are needed here and the place of the next directory."""
        head, word, entry = (8, 8, 20) if self.big else (2, 4, 12)  # bytes: number of entries, an offset, an entry
        entries = self.number(self.bytes_at(place, head, "a directory")) * entry
        body = self.bytes_at(place + head, entries + word, "a directory")
        found = {}
        for start in range(0, entries, entry):
            tag, kind = self.number(body[start : start + 2]), self.number(body[start + 2 : start + 4])
            if tag in (*STRIPS, *TILES, SUB_DIRECTORIES) and kind in WHOLE:
                value = body[start + 4 + word : start + entry]
                length = self.number(body[start + 4 : start + 4 + word]) * WHOLE[kind]
                if length > word:
                    value = self.bytes_at(self.number(value), length, "a list of tiles")
                found[tag] = np.frombuffer(value[:length], f"{self.order}u{WHOLE[kind]}").astype(np.uint64)
        return found, self.number(body[-word:])
