"""Check the structure of a TIFF and read a few tags, without decoding anything.

TIFF 6.0 (Adobe, 1992) and BigTIFF (Aware Systems, 2007): a header points to the first directory, every directory to
the next. A copy that was cut off has a directory, a value or a tile behind the end of the file. Readers that go on
without those show fewer levels or black tiles, so this is looked at before one of them is used.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from wsiseg.errors import SlideError

# bytes of the whole-number field types
WHOLE = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
BITS_PER_SAMPLE, ORIENTATION = 258, 274
STRIPS, TILES = (273, 279), (324, 325)  # offsets, byte counts
SUB_DIRECTORIES = 330
MAX_DIRECTORIES = 10_000

Tags = dict[int, list[int]]

# tifffile logs what it finds wrong; here that becomes part of one sentence, and the log stays quiet unless asked for.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class _Tiff:
    """An open TIFF and how its kind writes a directory."""

    file: BinaryIO
    size: int
    first: int  # where the first directory is
    order: str  # of struct: "<" or ">"
    word: str  # an offset
    count: str  # the number of entries
    entry: int  # bytes of an entry

    def numbers(self, raw: bytes, code: str) -> list[int]:
        width = struct.calcsize(self.order + code)
        return [int(v) for v in struct.unpack(f"{self.order}{len(raw) // width}{code}", raw)]

    def bytes_at(self, start: int, length: int, what: str) -> bytes:
        if start + length > self.size:
            raise EOFError(what)
        self.file.seek(start)
        return self.file.read(length)

    def directory(self, place: int, wanted: Collection[int]) -> tuple[Tags, int]:
        """The wanted whole-number tags and the place of the next directory; EOFError names what is not there."""
        head = struct.calcsize(self.order + self.count)
        step = struct.calcsize(self.order + self.word)
        entries = self.numbers(self.bytes_at(place, head, "a directory"), self.count)[0]
        body = self.bytes_at(place + head, entries * self.entry + step, "a directory")
        found: Tags = {}
        for start in range(0, entries * self.entry, self.entry):
            tag, kind = struct.unpack_from(self.order + "HH", body, start)
            if tag in wanted and kind in WHOLE:
                count = self.numbers(body[start + 4 : start + 4 + step], self.word)[0]
                value = body[start + 4 + step : start + 4 + 2 * step]
                length = count * WHOLE[kind]
                if length > step:
                    value = self.bytes_at(self.numbers(value, self.word)[0], length, "a list of tiles")
                found[tag] = self.numbers(value[:length], {1: "B", 2: "H", 4: "I", 8: "Q"}[WHOLE[kind]])
        return found, self.numbers(body[-step:], self.word)[0]


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


def first_tags(path: str, wanted: Collection[int]) -> Tags:
    """Whole-number tags of the first directory; none of a file that is not a TIFF or that ends before them."""
    with open(path, "rb") as file:
        try:
            tiff = _header(file, os.path.getsize(path))
            return tiff.directory(tiff.first, wanted)[0] if tiff else {}
        except EOFError:
            return {}


def tiff_damage(path: str) -> str | None:
    """What is missing from a TIFF, None when every directory and every tile lies inside the file."""
    try:
        return _damage(path)
    except OSError as error:
        raise SlideError(f"it cannot be read ({error.strerror or error})") from error


def _damage(path: str) -> str | None:
    with open(path, "rb") as file:
        size = os.path.getsize(path)
        try:
            tiff = _header(file, size)
            if tiff is None:
                return "it does not begin like a TIFF"
            queue, seen = [tiff.first], set[int]()
            while queue:
                place = queue.pop()
                if place == 0 or place in seen:
                    continue
                if len(seen) >= MAX_DIRECTORIES:
                    return f"it has more than {MAX_DIRECTORIES} directories"
                seen.add(place)
                tags, following = tiff.directory(place, (*STRIPS, *TILES, SUB_DIRECTORIES))
                _check_tiles(tags, size)
                queue += [following, *tags.get(SUB_DIRECTORIES, ())]
        except EOFError as error:
            return f"it is cut off: {error} lies behind its end at {size:,} bytes"
    return None if seen else "it has no image directory"


def _header(file: BinaryIO, size: int) -> _Tiff | None:
    head = file.read(16)
    if not is_tiff(head):
        return None
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    if len(head) < (16 if big else 8):
        raise EOFError("the first directory")
    first = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0]
    if big:
        return _Tiff(file, size, first, order, "Q", "Q", 20)
    return _Tiff(file, size, first, order, "I", "H", 12)


def _check_tiles(tags: Tags, size: int) -> None:
    for offsets, counts in (STRIPS, TILES):
        starts, lengths = tags.get(offsets, []), tags.get(counts, [])
        if starts and len(starts) == len(lengths):
            ends = np.asarray(starts, np.uint64) + np.asarray(lengths, np.uint64)
            if int(ends.max()) > size:
                raise EOFError(f"the end of {int((ends > size).sum())} of {ends.size} tiles")
