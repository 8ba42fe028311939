"""The life that ordered readers and pull consumers share: opened, watched, opened again when it went wrong.
No wire words.

    start -> open -> alive --(gap, silence, reconnect, refusal)--> broken -> open -> alive …      stop from
    anywhere

A subclass says how to open (a fresh subscription each time, so that nothing asked for before can still
arrive) and calls `_break` when it finds that it missed something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from nats.aio.subscription import Subscription

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.message import FastMessage
from dagnats_core.errors import DagNatsError

REOPEN_DELAY_S = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Pauses before the first, second … attempt in a row; the last one repeats."""

LOOKS = 4

log = structlog.get_logger(__name__)


class Healing:
    """Keeps one server-side delivery alive. `silence_s`: this long without a word means it is dead."""

    def __init__(self, connection: Connection, name: str, silence_s: float) -> None:
        self._connection = connection
        self._name = name
        self._silence_s = silence_s
        self._loop = asyncio.get_running_loop()
        self._subscription: Subscription | None = None
        self._alive = False
        """Deliveries count. False from `_break` to the next opening."""
        self._heard = 0
        self._failures = 0
        self._broken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._remove_listener: Callable[[], None] | None = None

    async def start(self) -> None:
        """Open; raises what the first attempt raises. Later troubles heal by themselves. Starting twice is
        fine."""
        if self._task is not None:
            return
        try:
            await self._open()
        except BaseException:
            await self._unsubscribe()
            raise
        self._task = self._loop.create_task(self._heal(), name=f"bus-{self._name}")
        self._remove_listener = self._connection.on_reconnect(lambda: self._break("reconnected"))
        self._watch(-1, 0)

    async def stop(self) -> None:
        """End; nothing is delivered after this. Stopping twice, or before the start, is fine."""
        task, self._task = self._task, None
        if task is None:
            return
        if self._remove_listener is not None:
            self._remove_listener()
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        task.cancel()
        await asyncio.wait({task})
        await self._close()

    async def _open(self) -> None:
        """Subscribe and ask anew."""
        raise NotImplementedError

    async def _close(self) -> None:
        """Give back what is open; the last thing that happens."""
        self._alive = False
        await self._unsubscribe()

    def _on_break(self, reason: str) -> None:
        """Told each time that a delivery is given up, before the next one is opened."""

    def _expects_word(self) -> bool:
        """Whether the server has promised heartbeats just now."""
        return True

    async def _subscribe(self, callback: Callable[[FastMessage], None]) -> str:
        """A fresh inbox with `callback` on it, in the place of the one before."""
        await self._unsubscribe()
        inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe_fast(inbox, callback)
        return inbox

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._connection.unsubscribe_fast(subscription)

    def _break(self, reason: str) -> None:
        """What is open cannot be trusted any more: open anew, from where the last message left off."""
        if self._alive:
            self._alive = False
            log.info("bus.delivery_reopened", name=self._name, reason=reason)
            self._on_break(reason)
        self._broken.set()

    async def _heal(self) -> None:
        while True:
            await self._broken.wait()
            await asyncio.sleep(REOPEN_DELAY_S[min(self._failures, len(REOPEN_DELAY_S) - 1)])
            self._broken.clear()
            self._failures += 1
            if not self._connection.connected:
                continue  # the reconnect breaks it again
            try:
                await self._open()
            except DagNatsError as error:
                log.warning("bus.delivery_not_opened", name=self._name, error=error.message)
                self._broken.set()

    def _watch(self, heard_before: int, quiet: int) -> None:
        """Looks several times per `silence_s`; `quiet` counts the looks in a row that found no word."""
        waits = self._alive and self._connection.connected and self._expects_word()
        quiet = quiet + 1 if waits and self._heard == heard_before else 0
        if quiet == LOOKS:
            self._break(f"nothing heard for {self._silence_s:g} s")
            quiet = 0
        self._watch_timer = self._loop.call_later(self._silence_s / LOOKS, self._watch, self._heard, quiet)
