"""Reads that many callers share, without ever seeing something older than their call. No NATS here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FreshReads(Generic[K, V]):
    """At most one read a key is in flight. Who asks while it is shares the next one, which begins after it.

    So every caller gets the result of a read that began after the call, and a thousand callers cost two reads.
    """

    def __init__(self, read: Callable[[K], Awaitable[V]]) -> None:
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}
        """Keys that are being read, each with those who wait for the next read."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V:
        """Raises what the read raises. A caller that is cancelled does not disturb the others."""
        future: asyncio.Future[V] = self._loop.create_future()
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(future)
        else:
            self._waiting[key] = [future]
            task = self._loop.create_task(self._serve(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _serve(self, key: K) -> None:
        while futures := self._waiting[key]:
            self._waiting[key] = []
            try:
                value = await self._read(key)
            except Exception as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future in futures:
                    if not future.done():
                        future.set_result(value)
        del self._waiting[key]
