"""Threads for handlers that are not async.

They are daemons: a handler that hangs can keep no process from ending.

A future that is cancelled while its function runs abandons the thread: nobody waits for it any more, another
thread takes its place, and it is counted until it ends. Used from the event loop only.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger(__name__)


class _Job(NamedTuple, Generic[T]):
    call: Callable[[], T]
    future: asyncio.Future[T]
    context: contextvars.Context


class Threads(Generic[T]):
    """Runs functions that do not raise, each in a thread of its own.

    How many run at once is the caller's bound.
    """

    def __init__(self, name: str, abandoned_max: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._jobs: queue.SimpleQueue[_Job[T] | None] = queue.SimpleQueue()
        self._idle = 0
        self._count = 0
        self._abandoned_max = abandoned_max
        self._unabandoned: deque[Callable[[], None]] = deque()
        self.abandoned = 0
        """Threads that still run a function for which nobody waits."""

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Run `call` in a thread; the future of its result. Cancelling the future abandons the thread."""
        job = _Job(call, self._loop.create_future(), contextvars.copy_context())
        job.future.add_done_callback(self._noticed)
        if self._idle:
            self._idle -= 1
        else:
            self._count += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._count}", daemon=True).start()
        self._jobs.put(job)
        return job.future

    def when_few_abandoned(self, callback: Callable[[], None]) -> None:
        """Call `callback` now, or once no more than the allowed number of threads is abandoned."""
        if self.abandoned <= self._abandoned_max:
            callback()
        else:
            self._unabandoned.append(callback)

    def close(self) -> None:
        """End the threads that are idle, and each other one once its function has returned."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result = job.context.run(job.call)
            try:
                self._loop.call_soon_threadsafe(self._done, job.future, result)
            except RuntimeError:  # the loop is closed: the process ends
                return

    def _done(self, future: asyncio.Future[T], result: T) -> None:
        self._idle += 1
        if not future.done():
            future.set_result(result)
            return
        self.abandoned -= 1
        if self.abandoned <= self._abandoned_max and self._unabandoned:
            self._unabandoned.popleft()()

    def _noticed(self, future: asyncio.Future[T]) -> None:
        if future.cancelled():
            self.abandoned += 1
            log.warning("worker.thread_abandoned", abandoned=self.abandoned)
