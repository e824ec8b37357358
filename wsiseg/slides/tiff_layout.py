"""Is a TIFF whole? A walk over its directories that decodes nothing.

TIFF 6.0 (Adobe, 1992) and BigTIFF (Aware Systems, 2007): a header points to the first directory (IFD), every
directory to the next. A copy that was cut off has a directory, a value or a tile behind the end of the file. Readers
that go on without those show fewer levels or black tiles, so this is looked at before one of them is used.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

# field type -> bytes
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
OFFSETS, COUNTS = (273, 324), (279, 325)  # strips, tiles
SUB_DIRECTORIES = 330
MAX_DIRECTORIES = 10_000


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the two kinds of TIFF write their directories."""

    order: str  # of struct: "<" or ">"
    word: str  # an offset
    count: str  # the number of entries
    entry: int  # bytes of an entry
    inline: int  # bytes of a value that fits into its entry


def is_tiff(head: bytes) -> bool:
    """Whether a file begins like a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_damage(path: str) -> str | None:
    """What is missing from a TIFF, None when every directory and every tile lies inside the file."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(16)
        if not is_tiff(head):
            return "it does not begin like a TIFF"
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\0", b"\0+")
        layout = _Layout(order, "Q", "Q", 20, 8) if big else _Layout(order, "I", "H", 12, 4)
        if len(head) < (16 if big else 8):
            return "it ends inside its header"
        first = struct.unpack_from(order + layout.word, head, 8 if big else 4)[0]
        queue, seen = [first], set[int]()
        while queue:
            place = queue.pop()
            if place == 0 or place in seen:
                continue
            if len(seen) >= MAX_DIRECTORIES:
                return f"it has more than {MAX_DIRECTORIES} directories"
            seen.add(place)
            try:
                following = _directory(file, layout, place, size)
            except EOFError as error:
                return f"it is cut off: {error} lies behind its end at {size:,} bytes"
            queue += following
    return None if seen else "it has no image directory"


def _directory(file: BinaryIO, layout: _Layout, place: int, size: int) -> list[int]:
    """Checks one directory and returns where the next and the sub-directories are; EOFError names what is missing."""
    width = struct.calcsize(layout.order + layout.count)
    entries = struct.unpack(layout.order + layout.count, _bytes(file, place, width, size, "a directory"))[0]
    step = struct.calcsize(layout.order + layout.word)
    body = _bytes(file, place + width, entries * layout.entry + step, size, "a directory")
    found: dict[int, np.ndarray] = {}
    for i in range(entries):
        tag, kind = struct.unpack_from(layout.order + "HH", body, i * layout.entry)
        at = i * layout.entry + 4
        count = struct.unpack_from(layout.order + layout.word, body, at)[0]
        at += step
        if tag in (*OFFSETS, *COUNTS, SUB_DIRECTORIES) and kind in SIZES:
            length = count * SIZES[kind]
            if length <= layout.inline:
                raw = body[at : at + length]
            else:
                target = struct.unpack_from(layout.order + layout.word, body, at)[0]
                raw = _bytes(file, target, length, size, "a list of tiles")
            code = {2: "u2", 4: "u4", 8: "u8", 1: "u1"}[SIZES[kind]]
            found[tag] = np.frombuffer(raw, layout.order + code).astype(np.uint64)
    for offsets, counts in zip(OFFSETS, COUNTS, strict=True):
        if offsets in found and counts in found and len(found[offsets]) == len(found[counts]):
            ends = found[offsets] + found[counts]
            if ends.size and int(ends.max()) > size:
                raise EOFError(f"the end of {int((ends > size).sum())} of {ends.size} tiles")
    following = struct.unpack_from(layout.order + layout.word, body, entries * layout.entry)[0]
    return [int(following), *(int(v) for v in found.get(SUB_DIRECTORIES, ()))]


def _bytes(file: BinaryIO, start: int, length: int, size: int, what: str) -> bytes:
    if start + length > size:
        raise EOFError(what)
    file.seek(start)
    return file.read(length)
