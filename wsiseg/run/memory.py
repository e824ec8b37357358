"""Wait until there is enough memory for a slide; `wsiseg.memory` estimates how much it needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from wsiseg.memory import BASE, require


class Budget:
    """Bytes of one process, shared by the slides that its threads work on."""

    def __init__(self, limit: int) -> None:
        self._limit, self._free = limit, limit - BASE
        self._change = threading.Condition()

    @contextmanager
    def share(self, needed: int) -> Iterator[None]:
        """Wait until this much memory is free, and reserve it; OutputError if there is never that much."""
        require(needed, self._limit)
        with self._change:
            self._change.wait_for(lambda: self._free >= needed)
            self._free -= needed
        try:
            yield
        finally:
            with self._change:
                self._free += needed
                self._change.notify_all()


@lru_cache(maxsize=1)
def budget(limit: int) -> Budget:
    """The budget of this process."""
    return Budget(limit)
