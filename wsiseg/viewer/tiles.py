"""Make tiles: a few at a time, in threads, cached while there is memory, and skipped if nobody waits for them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

CACHE_BYTES = 256 << 20
MOST_WAITING = 256  # tiles; a screen has about 20 in each layer


class Crowded(Exception):  # noqa: N818 - it is no fault of anybody
    """More tiles are requested than anybody can look at."""


class Gone(Exception):  # noqa: N818
    """The client has gone."""


class TileCache:
    """Encoded tiles, the least recently used ones dropped first. Several threads may use it.

    Args:
        limit: bytes of all tiles together
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> bytes | None:
        """The tile, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, body: bytes) -> None:
        """Keep a tile; one that is larger than the whole cache is not kept."""
        with self._lock:
            self._size += len(body) - len(self._kept.pop(key, b""))
            self._kept[key] = body
            while self._size > self._limit:
                _, dropped = self._kept.popitem(last=False)
                self._size -= len(dropped)


class TileMaker:
    """Makes tiles in as many threads as there are processors.

    Args:
        workers: threads
        cache: where finished tiles go
    """

    def __init__(self, workers: int | None = None, cache: TileCache | None = None) -> None:
        workers = workers or max(2, os.cpu_count() or 2)
        self.cache = cache or TileCache()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tile")
        self._gate = asyncio.Semaphore(workers)
        self._waiting = 0

    async def get(self, key: Hashable, make: Callable[[], bytes], gone: Callable[[], Awaitable[bool]]) -> bytes:
        """The tile of a key, made by `make` in a thread unless it is kept.

        Raises:
            Crowded: too many are waiting already
            Gone: `gone()` said so when its turn came; nothing was made
        """
        if (kept := self.cache.get(key)) is not None:
            return kept
        if self._waiting >= MOST_WAITING:
            raise Crowded
        self._waiting += 1
        try:
            async with self._gate:
                if (kept := self.cache.get(key)) is not None:  # made while this one waited
                    return kept
                if await gone():
                    raise Gone
                body = await asyncio.get_running_loop().run_in_executor(self._pool, make)
        finally:
            self._waiting -= 1
        self.cache.put(key, body)
        return body

    async def run(self, work: Callable[[], T]) -> T:
        """Other work that would hold up the server, in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for the tiles in progress and start no others."""
        self._pool.shutdown(wait=True, cancel_futures=True)
