"""Replies that are waited for: one future each, found by reply subject, one coarse timer for all. Sends
nothing.

Both the request mux and the publisher stand on it. A time-out is late by `TICK_S` at most, so a request
costs no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from dagnats_core import limits
from dagnats_core.errors import Busy

TICK_S = 0.05

T = TypeVar("T")


class Waiting(Generic[T]):
    """Futures by reply subject. `timed_out(about)` makes the exception of one that got no reply in time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, prefix: str, timed_out: Callable[[str], Exception]) -> None:
        self.prefix = prefix
        self._loop = loop
        self._timed_out = timed_out
        self._count = 0
        self._entries: dict[str, tuple[asyncio.Future[T], float, str]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, about: str, timeout_s: float) -> tuple[str, asyncio.Future[T]]:
        """A fresh reply subject and the future of its reply. `about` names the request in errors.

        Raises Busy above `limits.REPLIES_AWAITED_MAX`.
        """
        entries = self._entries
        if len(entries) >= limits.REPLIES_AWAITED_MAX:
            raise Busy(f"more than {limits.REPLIES_AWAITED_MAX} replies are awaited on one connection")
        self._count += 1
        subject = f"{self.prefix}{self._count}"
        future: asyncio.Future[T] = self._loop.create_future()
        entries[subject] = (future, self._loop.time() + timeout_s, about)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)
        return subject, future

    def pop(self, subject: str) -> tuple[asyncio.Future[T], str] | None:
        """The future that waits on `subject` and what it is about; None if nothing does (any more)."""
        entry = self._entries.pop(subject, None)
        if entry is None or entry[0].done():
            return None
        return entry[0], entry[2]

    def fail(self, about: str, error: Exception) -> None:
        """End the waits that are about `about` with `error`."""
        for subject in [subject for subject, entry in self._entries.items() if entry[2] == about]:
            future = self._entries.pop(subject)[0]
            if not future.done():
                future.set_exception(error)

    def fail_all(self, failure: Callable[[str], Exception]) -> None:
        """End every wait with `failure(about)`."""
        entries, self._entries = self._entries, {}
        for future, _, about in entries.values():
            if not future.done():
                future.set_exception(failure(about))

    def _tick(self) -> None:
        now = self._loop.time()
        late = [subject for subject, entry in self._entries.items() if entry[1] <= now or entry[0].done()]
        for subject in late:
            future, _, about = self._entries.pop(subject)
            if not future.done():
                future.set_exception(self._timed_out(about))
        self._timer = self._loop.call_later(TICK_S, self._tick) if self._entries else None
