"""Runs one endpoint: takes requests off its subject, hands each to a bounded pool, answers, and counts honestly.

    message -> pool full? 429 -> decode -> handler (sync: answered at once; async: a task of its own) -> reply or error

Nothing here knows what an endpoint does. A handler raises DagNatsError for what the caller shall know; anything else is
answered as `internal` with an incident id, under which the traceback stands in the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, NamedTuple

import msgspec
import structlog
from nats.aio.subscription import Subscription

from dagnats_core import ids, limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.message import FastMessage
from dagnats_core.errors import Busy, DagNatsError, TooLarge, Unavailable
from dagnats_micro import errors
from dagnats_micro.endpoint import Endpoint, Rep, Req

log = structlog.get_logger("dagnats.api")

_DECODER_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.Encoder().encode


class Bound(NamedTuple, Generic[Req, Rep]):
    """An endpoint and what answers it. `request`: a subclass of the row's request to decode into (undecoded parts)."""

    endpoint: Endpoint[Req, Rep]
    handle: Callable[[Req], Rep] | Callable[[Req], Coroutine[Any, Any, Rep]]
    request: type[Req] | None = None


class Pool:
    """The requests that one API process works on, all endpoints together. Bounded; drained when the process stops."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._stopping: asyncio.Future[None] = self._loop.create_future()

    @property
    def in_flight(self) -> int:
        """Requests that are being worked on; those that wait for something to happen do not count."""
        return len(self._tasks) - self._waiting

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self, happened: asyncio.Future[Any], timeout_s: float) -> None:
        """For a handler: return when `happened` is done, after `timeout_s`, or when the service stops.

        Raises Busy if more than `limits.REQUESTS_WAITING_MAX` requests wait.
        """
        if self._waiting >= limits.REQUESTS_WAITING_MAX:
            most = limits.REQUESTS_WAITING_MAX
            raise Busy(f"more than {most} requests wait for something to happen (REQUESTS_WAITING_MAX)")
        self._waiting += 1
        try:
            ends = (happened, self._stopping)
            await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting -= 1

    async def drain(self, timeout_s: float) -> None:
        """Wait until what is in flight has been answered; what takes longer is cancelled (and answers 503)."""
        if not self._stopping.done():
            self._stopping.set_result(None)
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            log.warning("requests cut off", count=len(late))
            await asyncio.wait(late)


class Stats:
    """What one endpoint has done since it was started: the figures of `$SRV.STATS` (ADR-32)."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.processing_ns = 0


class Runner:
    """One endpoint of the service, listening between `start` and `stop`."""

    def __init__(self, connection: Connection, bound: Bound[Any, Any], subject: str, queue: str, pool: Pool) -> None:
        self.endpoint: Endpoint[Any, Any] = bound.endpoint
        self.subject = subject
        self.queue = queue
        self.stats = Stats()
        self._connection = connection
        self._handle: Callable[[Any], Any] = bound.handle
        self._asynchronous = asyncio.iscoroutinefunction(bound.handle)
        self._decode = msgspec.json.Decoder(bound.request or bound.endpoint.request).decode
        self._naming = bound.endpoint.naming
        self._pool = pool
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        self._subscription = await self._connection.subscribe_fast(self.subject, self._on_message, self.queue)

    async def stop(self) -> None:
        """Take no more requests; what the server has sent already is still answered."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._connection.drain_fast(subscription)

    def _on_message(self, message: FastMessage) -> None:
        started = time.perf_counter_ns()
        most = limits.REQUESTS_IN_FLIGHT_MAX
        if self._pool.in_flight >= most:
            self._refuse(
                message.reply,
                Busy(f"more than {most} requests are in flight (REQUESTS_IN_FLIGHT_MAX)"),
                started,
            )
            return
        try:
            request = self._decode(message.data or b"{}")
        except _DECODER_ERRORS as error:
            self._refuse(message.reply, errors.missing_or(errors.refusal_of(error), self._naming), started)
            return
        if self._asynchronous:
            self._pool.run(self._answer_later(message.reply, request, started))
            return
        try:
            reply = self._handle(request)
        except Exception as error:
            self._refuse(message.reply, self._told(error), started)
        else:
            self._answer(message.reply, reply, started)

    async def _answer_later(self, to: str, request: Any, started: int) -> None:
        try:
            reply = await self._handle(request)
        except asyncio.CancelledError:
            self._refuse(to, Unavailable("the service is stopping; whether this was done is unknown"), started)
        except Exception as error:
            self._refuse(to, self._told(error), started)
        else:
            self._answer(to, reply, started)

    def _answer(self, to: str, reply: Any, started: int) -> None:
        try:
            body = _encode(reply)
            if len(body) > limits.MESSAGE_BYTES_MAX:
                most = limits.MESSAGE_BYTES_MAX
                raise TooLarge(f"the answer of {len(body)} bytes exceeds {most} (MESSAGE_BYTES_MAX)")
        except Exception as error:
            self._refuse(to, self._told(error), started)
            return
        self._count(started)
        self._send(to, body, b"")

    def _refuse(self, to: str, error: DagNatsError, started: int) -> None:
        self._count(started)
        self.stats.errors += 1
        self.stats.last_error = f"{error.error_class.http_status}:{error.message[: errors.HEADER_CHARS_MAX]}"
        headers, body = errors.encode_error(error)
        self._send(to, body, headers)

    def _count(self, started: int) -> None:
        self.stats.requests += 1
        self.stats.processing_ns += time.perf_counter_ns() - started

    def _send(self, to: str, body: bytes, headers: bytes) -> None:
        if not to:
            return
        try:
            self._connection.publish_raw(to, body, "", headers)
        except DagNatsError as error:
            log.warning("answer not sent", endpoint=self.endpoint.name, error=error.message)

    def _told(self, error: Exception) -> DagNatsError:
        """The error that the caller is told: its own kind, or `internal` with nothing but an incident id."""
        if isinstance(error, DagNatsError) and error.code != "internal":
            return error
        incident = ids.base32(time.time_ns(), 13)
        log.error("internal error", endpoint=self.endpoint.name, incident=incident, exc_info=error)
        return DagNatsError(f"the server made a mistake; its log has the details under incident {incident}")
