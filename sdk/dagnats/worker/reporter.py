"""Says what there is to say of attempts until the engine has answered: identical bytes, again and again.

A report that got no answer may have been stored or not; the engine answers the same report the same way, so
sending it again is always right. What the answer means is the execution's affair.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import msgspec
import structlog

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.message import FastMessage
from dagnats_core.errors import DagNatsError
from dagnats_core.run.messages import ReportAnswer

TRIES_BEFORE_WARNING = 5

log = structlog.get_logger(__name__)
_decode = msgspec.json.Decoder(ReportAnswer).decode


class Sending:
    """One report on its way. It ends when it is answered, or when its sender drops it."""

    __slots__ = ("_body", "_done", "_reporter", "_subject", "_tries", "dropped")

    def __init__(self, reporter: Reporter, subject: str, body: bytes, done: Callable[[ReportAnswer], None]) -> None:
        self._reporter = reporter
        self._subject = subject
        self._body = body
        self._done = done
        self._tries = 0
        self.dropped = False

    @property
    def size(self) -> int:
        return len(self._body)

    def drop(self) -> None:
        """Send it no more: what it says has been overtaken."""
        if not self.dropped:
            self.dropped = True
            self._reporter.ended(self)

    def attempt(self) -> None:
        """Send it once, and again later if no answer comes."""
        if self.dropped:
            return
        try:
            future = self._reporter.connection.request_cb(self._subject, self._body, limits.REPORT_TIMEOUT_MS / 1000)
        except DagNatsError as error:
            self._again(error)
            return
        future.add_done_callback(self._answered)

    def _answered(self, future: asyncio.Future[FastMessage]) -> None:
        try:
            answer = _decode(future.result().data)
        except (DagNatsError, msgspec.MsgspecError) as error:
            self._again(error)
            return
        if not self.dropped:
            self.drop()
            self._reporter.out_of_trouble()
            self._done(answer)

    def _again(self, error: Exception) -> None:
        if self.dropped:
            return
        self._tries += 1
        if self._tries == TRIES_BEFORE_WARNING:
            self._reporter.in_trouble(error)
        delay_ms = min(limits.REPORT_BACKOFF_MS_MAX, limits.REPORT_BACKOFF_MS << min(self._tries - 1, 16))
        self._reporter.later(self, delay_ms / 1000 * random.uniform(0.5, 1.0))

    def hurry(self) -> None:
        """Send it now: what it waited for is over."""
        self._tries = 0
        self.attempt()


class Reporter:
    """Sends reports over one connection, and counts what is not answered yet."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.loop = asyncio.get_running_loop()
        self.unanswered = 0
        self.unanswered_bytes = 0
        self._troubled = False
        self._pausing: dict[Sending, asyncio.TimerHandle] = {}
        connection.on_reconnect(self._on_reconnect)

    def send(self, subject: str, body: bytes, done: Callable[[ReportAnswer], None]) -> Sending:
        """Send `body` until it is answered, then call `done` with the answer, once.

        `drop` ends it without.
        """
        sending = Sending(self, subject, body, done)
        self.unanswered += 1
        self.unanswered_bytes += len(body)
        sending.attempt()
        return sending

    def later(self, sending: Sending, delay_s: float) -> None:
        """Let a sending try again after a pause, or once the connection is back."""
        self._pausing[sending] = self.loop.call_later(delay_s, self._resume, sending)

    def ended(self, sending: Sending) -> None:
        """Called by a sending that is over."""
        pause = self._pausing.pop(sending, None)
        if pause is not None:
            pause.cancel()
        self.unanswered -= 1
        self.unanswered_bytes -= sending.size

    def in_trouble(self, error: Exception) -> None:
        """Called when a report was sent in vain several times: said once, until one is answered again."""
        if not self._troubled:
            self._troubled = True
            log.warning("worker.reports_unanswered", error=str(error), unanswered=self.unanswered)

    def out_of_trouble(self) -> None:
        """Called when a report was answered."""
        if self._troubled:
            self._troubled = False
            log.info("worker.reports_answered_again", unanswered=self.unanswered)

    def _resume(self, sending: Sending) -> None:
        del self._pausing[sending]
        sending.attempt()

    def _on_reconnect(self) -> None:
        pausing, self._pausing = self._pausing, {}
        for sending, pause in pausing.items():
            pause.cancel()
            sending.hurry()

    @property
    def full(self) -> bool:
        """Whether so much is unanswered that the worker must take no more tasks."""
        return (
            self.unanswered >= limits.REPORTS_UNANSWERED_MAX
            or self.unanswered_bytes >= limits.REPORTS_UNANSWERED_BYTES_MAX
        )
