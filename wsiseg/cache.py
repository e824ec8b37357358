"""A cache of decoded arrays: the least recently used go first when a budget of bytes is full."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from numpy.typing import NDArray


class ArrayCache:
    """Arrays of many owners under one budget. Safe from several threads; two may make the same array at once."""

    def __init__(self, budget: int) -> None:
        """A cache that keeps at most `budget` bytes, though never less than the newest array."""
        self.budget = budget
        self._arrays: OrderedDict[tuple[Hashable, ...], NDArray[Any]] = OrderedDict()
        self._bytes, self._lock = 0, Lock()

    def get(self, key: tuple[Hashable, ...], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of a key, made when it is not at hand; read-only.

        Args:
            key: its owner first; `forget` knows it by that
            make: gives a new array, which nobody else may change
        """
        with self._lock:
            found = self._arrays.get(key)
            if found is not None:
                self._arrays.move_to_end(key)
                return found
        made = make()
        made.flags.writeable = False
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = made
                self._bytes += made.nbytes
            while self._bytes > self.budget and len(self._arrays) > 1:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return made

    def forget(self, owner: Hashable) -> None:
        """Drops all arrays of an owner."""
        with self._lock:
            for key in [key for key in self._arrays if key[0] == owner]:
                self._bytes -= self._arrays.pop(key).nbytes
