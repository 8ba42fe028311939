"""Reading a stream as it grows: `OrderedReader` sees every message once and in order, `PullConsumer` takes
work.

Both call back synchronously from the read loop and heal by themselves (`healing`). What may not live here:
what a message means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Literal

import msgspec

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.healing import Healing
from dagnats_core.bus.jetstream import ConsumerInfo, StreamInfo, api, api_prefix, delivery_of
from dagnats_core.bus.message import FastMessage, find_header
from dagnats_core.errors import Busy, DagNatsError, Unavailable

NS = 1_000_000_000
READER_HEARTBEAT_S = 1
READER_SILENCE_S = 3.0
READER_INACTIVE_S = 10
"""After this long without anybody listening the server drops a reader's consumer."""
READER_OPEN_TIMEOUT_S = 2.0
"""Short, because a stream between two leaders answers nothing, and the next attempt may meet the new one."""
PULL_EXPIRES_S = 20
PULL_HEARTBEAT_S = 2
PULL_SILENCE_S = 5.0
ACK_TIMEOUT_S = 2.0

OnMessage = Callable[[FastMessage, int, int], None]
"""Message, its sequence in the stream, the time it was stored (ms)."""


class OrderedReader(Healing):
    """Delivers each message of a stream that matches a filter once, in order, without acknowledgements.

    `start`: a sequence; `new` (what is stored after `start()` was called); or `last_per_subject` (the last
    message of each subject, then what comes). After a gap, silence or a reconnect it goes on behind the
    last message seen; `on_gap(reason)` is told, and again with the reason if the stream itself went back
    behind that (it lost messages).
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str],
        on_message: OnMessage,
        *,
        start: int | Literal["new", "last_per_subject"],
        on_gap: Callable[[str], None] | None = None,
        headers_only: bool = False,
    ) -> None:
        super().__init__(connection, f"reader of {stream}", READER_SILENCE_S)
        self._stream = stream
        self._filters = list(filters)
        self._on_message = on_message
        self._on_gap = on_gap
        self._headers_only = headers_only
        self._start = start
        self._consumer = ""
        self._consumer_seq = 0
        self.last_seq: int | None = max(start, 1) - 1 if isinstance(start, int) else None
        """Sequence of the last message delivered, or the one before the start; None while that is not
        known."""
        self.pending = 0
        """Messages that match and were stored but not delivered yet, as of the last delivery."""
        self.caught_up = asyncio.Event()
        """Set when all that was stored at the start, or later at one moment, has been delivered."""
        self.went_back = False
        """True once the stream has lost messages that were delivered here."""
        self._moved = asyncio.Event()

    async def catch_up(self) -> None:
        """Return when all that was stored before this call has been delivered. Bound it: it may take for
        ever.

        Raises what a request to JetStream raises.
        """
        while True:
            consumer = self._consumer
            info = await api(self._connection, f"CONSUMER.INFO.{self._stream}.{consumer}", None, ConsumerInfo)
            wanted = info.delivered.consumer_seq + info.num_pending
            while consumer == self._consumer:
                if self._consumer_seq >= wanted:
                    return
                self._moved.clear()
                await self._moved.wait()

    async def _open(self) -> None:
        if self._start != "last_per_subject" or self.last_seq is not None:
            await self._look_at_the_end()
        inbox = await self._subscribe(self._on_delivery)
        self._consumer = f"reader-{token_hex(8)}"
        self._consumer_seq = 0
        self._moved.set()
        self._alive = True
        config: dict[str, object] = {
            "name": self._consumer,
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject" if self.last_seq is None else "by_start_sequence",
            "ack_policy": "none",
            "max_deliver": 1,
            "filter_subjects": self._filters,
            "flow_control": True,
            "idle_heartbeat": READER_HEARTBEAT_S * NS,
            "inactive_threshold": READER_INACTIVE_S * NS,
            "mem_storage": True,
            "num_replicas": 1,
            "headers_only": self._headers_only,
        }
        if self.last_seq is not None:
            config["opt_start_seq"] = self.last_seq + 1
        call = f"CONSUMER.CREATE.{self._stream}.{self._consumer}"
        body = {"stream_name": self._stream, "config": config, "action": "create"}
        info = await api(self._connection, call, body, ConsumerInfo, timeout_s=READER_OPEN_TIMEOUT_S)
        if self._consumer_seq == 0:
            self.pending = info.num_pending
            if self.pending == 0:
                self.caught_up.set()

    async def _close(self) -> None:
        await super()._close()
        if self._connection.connected:
            with suppress(DagNatsError):
                await api(self._connection, f"CONSUMER.DELETE.{self._stream}.{self._consumer}", None, dict)

    async def _look_at_the_end(self) -> None:
        """The server would wait for a start that lies in the future: a stream that lost messages would look silent."""
        call = f"STREAM.INFO.{self._stream}"
        stream = await api(self._connection, call, None, StreamInfo, timeout_s=READER_OPEN_TIMEOUT_S)
        end, before = stream.state.last_seq, self.last_seq
        if before is None:
            self.last_seq = end
        elif end < before:
            self.last_seq = end
            self.went_back = True
            if self._on_gap is not None:
                self._on_gap(f"{self._stream} lost messages: it ended at {before} and now ends at {end}")

    def _on_break(self, reason: str) -> None:
        if self._on_gap is not None:
            self._on_gap(reason)

    def _on_delivery(self, message: FastMessage) -> None:
        if not self._alive:
            return
        self._heard += 1
        if message.headers[8:9] == b" ":
            self._on_status(message)
            return
        delivery = delivery_of(message.reply)
        if delivery.consumer_seq != self._consumer_seq + 1:
            self._break(f"delivery {delivery.consumer_seq} came after {self._consumer_seq}")
            return
        self._consumer_seq = delivery.consumer_seq
        self._failures = 0
        self.last_seq = delivery.stream_seq
        self.pending = delivery.pending
        try:
            self._on_message(message, delivery.stream_seq, delivery.time_ms)
        finally:
            self._moved.set()
            if delivery.pending == 0 and not self.caught_up.is_set():
                self.caught_up.set()

    def _on_status(self, message: FastMessage) -> None:
        if message.status != 100:
            self._break(f"{message.status} {message.description}")
            return
        self._failures = 0
        answer_to = message.reply or message.header("Nats-Consumer-Stalled")
        if answer_to:
            _tell(self._connection, answer_to, b"")
        last = message.header("Nats-Last-Consumer")
        if last is not None and int(last) != self._consumer_seq:
            self._break(f"delivery {last} went out, {self._consumer_seq} came in")


class TaskMessage(msgspec.Struct, gc=False):
    """One delivery of a piece of work. `reply` is what acknowledges it; `deliveries` counts from 1."""

    subject: str
    data: bytes
    headers: bytes
    reply: str
    deliveries: int
    stream_seq: int
    time_ms: int
    """When it was stored."""
    pending: int
    """How many more wait for the consumer's workers."""

    def header(self, name: str | bytes) -> str | None:
        return find_header(self.headers, name)


class PullConsumer(Healing):
    """Takes messages from a durable consumer, never more than there are free slots.

    `slots()` says how many more messages could be started now; what is asked for and has not come yet stays
    at or below it. Call `refill()` when slots became free. `expires_s()` says how long the next request
    shall stand at the server. `on_lost(reason)` is told when the consumer is gone or refuses (then it is
    tried again, with pauses).
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        on_message: Callable[[TaskMessage], None],
        slots: Callable[[], int],
        *,
        domain: str | None = None,
        on_lost: Callable[[str], None] | None = None,
        expires_s: Callable[[], float] = lambda: PULL_EXPIRES_S,
    ) -> None:
        super().__init__(connection, f"puller of {stream}.{consumer}", PULL_SILENCE_S)
        self._next = f"{api_prefix(connection, domain)}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._expires_s = expires_s
        self._on_message = on_message
        self._slots = slots
        self._on_lost = on_lost
        self._inbox = ""
        self._refill_due = False
        self._stopping = False
        self.outstanding = 0
        """Messages asked for that have not come yet."""

    def refill(self) -> None:
        """Ask for as many more as there are free slots, at the end of this turn of the event loop."""
        if not self._refill_due:
            self._refill_due = True
            self._loop.call_soon(self._refill)

    def ack(self, reply: str) -> None:
        """Say that the work is done. Best effort: an acknowledgement that is lost means another delivery."""
        _tell(self._connection, reply, b"+ACK")

    def in_progress(self, reply: str) -> None:
        """Start the consumer's ack_wait anew. Best effort."""
        _tell(self._connection, reply, b"+WPI")

    def nak(self, reply: str, delay_s: float = 0.0) -> None:
        """Give the work back, to be delivered again after `delay_s`. Best effort."""
        _tell(self._connection, reply, b'-NAK {"delay": %d}' % int(delay_s * NS) if delay_s > 0 else b"-NAK")

    async def ack_sync(self, reply: str) -> None:
        """Acknowledge and wait until the server has it. Raises as `Connection.request` does."""
        await self._connection.request(reply, b"+ACK", ACK_TIMEOUT_S)

    async def _open(self) -> None:
        self.outstanding = 0
        self._inbox = await self._subscribe(self._on_delivery)
        self._alive = True
        self._stopping = False
        self._refill()

    async def _close(self) -> None:
        """What is still on its way is given back at once, so that it need not wait for its ack_wait."""
        self._stopping = True
        if self._subscription is not None:
            await self._connection.drain_fast(self._subscription)
        await super()._close()

    def _expects_word(self) -> bool:
        return self.outstanding > 0

    def _refill(self) -> None:
        self._refill_due = False
        if not self._alive or self._stopping:
            return
        slots = self._slots()
        wanted = slots - self.outstanding
        if wanted <= 0 or (self.outstanding > 0 and wanted < slots // 2):
            return
        expires_s = self._expires_s()
        # The server takes heartbeats only where at least two fit.
        heartbeat_s = PULL_HEARTBEAT_S if expires_s >= 2 * PULL_HEARTBEAT_S else 0
        request = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (
            wanted,
            expires_s * NS,
            heartbeat_s * NS,
        )
        try:
            self._connection.publish_raw(self._next, request, self._inbox)
        except (Unavailable, Busy) as error:
            self._break(error.message)
            return
        self.outstanding += wanted

    def _on_delivery(self, message: FastMessage) -> None:
        self._heard += 1
        if message.headers[8:9] == b" ":
            self._on_status(message)
            return
        delivery = delivery_of(message.reply)
        if self._stopping or not self._alive:
            self.nak(message.reply)
            return
        self._failures = 0
        self.outstanding = max(0, self.outstanding - 1)
        if self.outstanding == 0:
            self.refill()
        self._on_message(
            TaskMessage(
                message.subject,
                message.data,
                message.headers,
                message.reply,
                delivery.deliveries,
                delivery.stream_seq,
                delivery.time_ms,
                delivery.pending,
            )
        )

    def _on_status(self, message: FastMessage) -> None:
        status = message.status
        if status == 100:
            self._failures = 0
        elif status == 408:
            self._failures = 0
            self.outstanding = max(0, self.outstanding - int(message.header("Nats-Pending-Messages") or 0))
            self.refill()
        elif self._alive and not self._stopping:
            reason = f"{status} {message.description}".strip()
            if self._on_lost is not None:
                self._on_lost(reason)
            self._break(reason)


def _tell(connection: Connection, subject: str, data: bytes) -> None:
    try:  # noqa: SIM105 - `suppress` costs as much as the send itself
        connection.publish_raw(subject, data)
    except (Unavailable, Busy):
        pass
