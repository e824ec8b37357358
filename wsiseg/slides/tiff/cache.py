"""A cache of decoded tiles with one budget, in reused buffers.

The operating system takes about half as long to make a fresh array of the size of a tile as the decoder takes for the
tile. So a tile that leaves the cache leaves its buffer to the next one. Nobody may still be reading from it then:
pixels are copied out here, and a buffer that is being copied from is not given away.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from threading import Lock

import numpy as np

from wsiseg.slides.backend import Pixels

Key = tuple[Hashable, ...]
Shape = tuple[int, int, int]


@dataclass(slots=True)
class _Slot:
    pixels: Pixels
    readers: int = 0


class TileCache:
    """Tiles of many slides; the least recently used go first. Safe from several threads."""

    def __init__(self, budget: int) -> None:
        """A cache of at most `budget` bytes, though never less than what is being decoded and copied."""
        self.budget = budget
        self.clear()

    def clear(self) -> None:
        """Start again, even if the lock is held: the child of a fork lacks the thread that holds it."""
        self._lock = Lock()
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()
        self._spare: list[Pixels] = []
        self._bytes = 0  # of all buffers, those included that are being filled
        self._kinds: dict[Key, OrderedDict[Key, None]] = {}  # the keys of each kind, in the order of the slots

    def copy(
        self,
        key: Key,
        shape: Shape,
        decode: Callable[[Pixels], None],
        part: tuple[slice, slice],
        out: Pixels,
        *,
        enough: int,
    ) -> None:
        """Copy a part of a tile, which is decoded first if it is not in the cache.

        Two threads that want the same tile at the same moment may both decode it.

        Args:
            key: of the tile: its owner (see `forget`), then parts that with it name its kind, all of one shape, then
                its number
            shape: of the tile, (rows, columns, 3)
            decode: fills an array of that shape
            part: rows and columns of the tile
            out: where they go, uint8 of the shape of the part
            enough: bytes of tiles of this kind beyond which the oldest of them goes, also while there is room
        """
        slot = self._hold(key, shape, decode, enough)
        try:
            out[:] = slot.pixels[part]
        finally:
            with self._lock:
                slot.readers -= 1

    def forget(self, owner: Hashable) -> None:
        """Drop all tiles of an owner that is no longer read; their buffers are kept for others."""
        with self._lock:
            self._spare += [self._take(key) for key in [key for key in self._slots if key[0] == owner]]

    def _hold(self, key: Key, shape: Shape, decode: Callable[[Pixels], None], enough: int) -> _Slot:
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None:
                self._slots.move_to_end(key)
                self._kinds[key[:-1]].move_to_end(key)
                slot.readers += 1
                return slot
            same = self._kinds.get(key[:-1], ())
            if (len(same) + 1) * math.prod(shape) > enough and (old := self._oldest(same)) is not None:
                self._spare.append(old)
            buffer = self._buffer(shape)
        try:
            decode(buffer)
        except BaseException:
            with self._lock:
                self._spare.append(buffer)
            raise
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot(buffer)
                self._kinds.setdefault(key[:-1], OrderedDict())[key] = None
            else:  # another thread was quicker
                self._spare.append(buffer)
            slot.readers += 1
            return slot

    def _buffer(self, shape: Shape) -> Pixels:
        """An array to decode into: a spare one, that of the oldest tile, or, while there is room, a new one."""
        need = math.prod(shape)
        while self._spare or self._bytes + need > self.budget:
            given = self._spare.pop() if self._spare else self._oldest(self._slots)
            if given is None:
                break
            if given.shape == shape:
                return given
            self._bytes -= given.nbytes
        self._bytes += need
        return np.empty(shape, np.uint8)

    def _oldest(self, keys: Iterable[Key]) -> Pixels | None:
        for key in keys:
            if not self._slots[key].readers:
                return self._take(key)
        return None

    def _take(self, key: Key) -> Pixels:
        kind = key[:-1]
        del self._kinds[kind][key]
        if not self._kinds[kind]:
            del self._kinds[kind]
        return self._slots.pop(key).pixels
