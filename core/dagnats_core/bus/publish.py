"""Publishes into JetStream, pipelined: a call sends at once and returns the future of its acknowledgement.

What may not live here: when to batch, what to do about a refusal, any retry. Those are the caller's
decisions.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from secrets import token_hex

import msgspec
from nats.aio.subscription import Subscription

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import ApiErrorBody, NoStream, PublishTimeout, error_of
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.waiting import Waiting
from dagnats_core.errors import DagNatsError, TooLarge

TIMEOUT_S = limits.PUBLISH_TIMEOUT_MS / limits.SECOND_MS


class PubAck(msgspec.Struct, gc=False):
    """The server's word that a message, or a whole batch of `count`, is stored. `seq` is the last one's."""

    seq: int = 0
    duplicate: bool = False
    """The `Nats-Msg-Id` was known: nothing new was stored, `seq` is the first one's."""
    batch: str = ""
    count: int = 0
    stream: str = ""


class _Answer(PubAck, gc=False):
    error: ApiErrorBody | None = None


class OutMessage(msgspec.Struct, gc=False):
    """One message of a batch. `headers` is a header block (`message.header_block`)."""

    subject: str
    data: bytes
    headers: bytes = b""


_answer = msgspec.json.Decoder(_Answer)


class Publisher:
    """Publishes over one connection; `await start()` before the first publish.

    Every outcome is in the future: PubAck, or WrongSequence, BatchRefused, Duplicate, StoreFull, TooLarge,
    NoStream, ApiError (refused: nothing stored), Unavailable or Busy (not sent), PublishTimeout (unknown:
    it may be stored, or still be on its way).
    """

    def __init__(self, connection: Connection, *, timeout_s: float = TIMEOUT_S) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._waiting: Waiting[PubAck] = Waiting(self._loop, connection.new_inbox() + ".", _timed_out)
        self._batch_stem = token_hex(8)
        self._batch_ids = itertools.count(1)
        self._subscription: Subscription | None = None
        self._remove_listener: Callable[[], None] | None = None

    @property
    def in_flight(self) -> int:
        """Publishes and batches that have no answer yet."""
        return len(self._waiting)

    async def start(self) -> None:
        if self._subscription is None:
            self._remove_listener = self._connection.on_disconnect(lambda: self._waiting.fail_all(_lost))
            self._subscription = await self._connection.subscribe_fast(self._waiting.prefix + "*", self._on_ack)

    async def stop(self) -> None:
        """End; publishes in flight end with PublishTimeout. Stopping twice, or before the start, is fine."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and self._remove_listener is not None:
            self._remove_listener()
            self._waiting.fail_all(_lost)
            await self._connection.unsubscribe_fast(subscription)

    def publish(self, subject: str, data: bytes, headers: bytes = b"") -> asyncio.Future[PubAck]:
        """Send one message now (no await needed); the future of its outcome. Calls keep their order."""
        try:
            reply, future = self._waiting.add(subject, self._timeout_s)
        except DagNatsError as error:
            return self._failed(error)
        try:
            self._connection.publish_raw(subject, data, reply, headers)
        except DagNatsError as error:
            self._waiting.pop(reply)
            future.set_exception(error)
        return future

    def publish_batch(self, messages: Sequence[OutMessage]) -> asyncio.Future[PubAck]:
        """Send an atomic batch (ADR-50) to one stream: all of it is stored or nothing; at most 1,000
        messages.

        Only the first message that touches a subject may carry an expected sequence for it. A batch of one
        goes as a plain publish, whose duplicate is told by `PubAck.duplicate` and not by Duplicate. Raises
        ValueError if empty.
        """
        if not messages:
            raise ValueError("an empty batch")
        count = len(messages)
        if count == 1:
            return self.publish(messages[0].subject, messages[0].data, messages[0].headers)
        if count > limits.BATCH_MESSAGES_MAX:
            most = limits.BATCH_MESSAGES_MAX
            return self._failed(TooLarge(f"a batch of {count} messages: at most {most} (BATCH_MESSAGES_MAX)"))
        subject = messages[0].subject
        try:
            reply, future = self._waiting.add(subject, self._timeout_s)
        except DagNatsError as error:
            return self._failed(error)
        batch = f"Nats-Batch-Id: {self._batch_stem}-{next(self._batch_ids)}\r\nNats-Batch-Sequence: "
        out = [
            (message.subject, message.data, "", message.headers + f"{batch}{n}\r\n".encode())
            for n, message in enumerate(messages, 1)
        ]
        last = out[-1]
        out[-1] = (last[0], last[1], reply, last[3] + b"Nats-Batch-Commit: 1\r\n")
        try:
            self._connection.publish_all(out)
        except DagNatsError as error:
            self._waiting.pop(reply)
            future.set_exception(error)
        return future

    def _on_ack(self, message: FastMessage) -> None:
        waiting = self._waiting.pop(message.subject)
        if waiting is None:
            return
        future, subject = waiting
        if message.headers and not message.data and message.status == 503:
            future.set_exception(NoStream(f"no stream takes {subject}"))
            return
        answer = _answer.decode(message.data)
        if answer.error is None:
            future.set_result(answer)
        else:
            future.set_exception(error_of(answer.error, subject))

    def _failed(self, error: DagNatsError) -> asyncio.Future[PubAck]:
        future: asyncio.Future[PubAck] = self._loop.create_future()
        future.set_exception(error)
        return future


def _timed_out(subject: str) -> PublishTimeout:
    return PublishTimeout(f"{subject}: no acknowledgement in time; it may be stored")


def _lost(subject: str) -> PublishTimeout:
    return PublishTimeout(f"{subject}: the connection broke before the acknowledgement; it may be stored")
