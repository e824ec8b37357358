"""Make tiles: a few at a time, in threads, cached while there is memory, and skipped if nobody waits for them."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.exceptions import HTTPException

T = TypeVar("T")

CACHE_BYTES = 256 << 20
MOST_WAITING = 256  # tiles; a screen has about 20 in each layer


class TileCache:
    """Encoded tiles, the least recently used ones dropped first.

    Args:
        limit: bytes of all tiles together
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> bytes | None:
        """The tile, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Hashable, body: bytes) -> None:
        """Keep a tile; one that is larger than the whole cache is not kept."""
        self._size += len(body) - len(self._kept.pop(key, b""))
        self._kept[key] = body
        while self._size > self._limit:
            self._size -= len(self._kept.popitem(last=False)[1])


class TileMaker:
    """Makes tiles in as many threads as there are processors; everything but the making runs in the event loop.

    Args:
        workers: threads
    """

    def __init__(self, workers: int | None = None) -> None:
        workers = workers or max(2, os.cpu_count() or 2)
        self._cache = TileCache()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tile")
        self._gate = asyncio.Semaphore(workers)
        self._waiting = 0

    async def get(self, key: Hashable, make: Callable[[], bytes], gone: Callable[[], Awaitable[bool]]) -> bytes:
        """The tile of a key, made by `make` in a thread unless it is kept.

        Raises:
            HTTPException: 503, too many are waiting already; 410, `gone()` said so when its turn came, and nothing was
                made
        """
        if (kept := self._cache.get(key)) is not None:
            return kept
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, "Too many tiles at once: wait a second.", {"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._gate:
                if (kept := self._cache.get(key)) is not None:  # made while this one waited
                    return kept
                if await gone():
                    raise HTTPException(410, "The client has gone.")
                body = await self.run(make)
        finally:
            self._waiting -= 1
        self._cache.put(key, body)
        return body

    async def run(self, work: Callable[[], T]) -> T:
        """Work that would hold up the server, in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for the tiles in progress and start no others."""
        self._pool.shutdown(wait=True, cancel_futures=True)
