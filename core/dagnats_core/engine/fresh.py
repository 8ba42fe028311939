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
        self._running: dict[K, asyncio.Task[V]] = {}
        self._next: dict[K, asyncio.Future[V]] = {}

    async def get(self, key: K) -> V:
        """Raises what the read raises. Cancelling one caller does not disturb the others."""
        if key not in self._running:
            return await asyncio.shield(self._begin(key))
        waiting = self._next.get(key)
        if waiting is None:
            waiting = self._next[key] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(waiting)

    def _begin(self, key: K) -> asyncio.Task[V]:
        task = asyncio.ensure_future(self._one(key))
        self._running[key] = task
        task.add_done_callback(lambda _: self._ended(key))
        return task

    async def _one(self, key: K) -> V:
        return await self._read(key)

    def _ended(self, key: K) -> None:
        del self._running[key]
        waiting = self._next.pop(key, None)
        if waiting is not None:
            self._begin(key).add_done_callback(lambda task: _pass_on(task, waiting))


def _pass_on(task: asyncio.Task[V], waiting: asyncio.Future[V]) -> None:
    if waiting.done():
        return
    if task.cancelled():
        waiting.cancel()
        return
    error = task.exception()
    if error is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(task.result())
