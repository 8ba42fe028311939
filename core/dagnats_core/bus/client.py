"""nats-py's client, sent to and received from without its slow paths.

Received frames go through `FrameParser`, which calls fast subscriptions from the read loop. Sent messages
go as bytes into the client's own queue of pending commands, so that their order with nats-py's commands
stands, and leave as one write per turn of the event loop. Everything else is nats-py's: servers,
authentication, TLS, reconnect, subscriptions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.errors import Error as NatsError

from dagnats_core import limits
from dagnats_core.bus.wire import FastCallback, FrameParser
from dagnats_core.errors import Busy, TooLarge, Unavailable

FLUSH_BYTES = 256 * limits.KIB
"""Pending bytes that leave at once instead of at the end of the event loop's turn."""
VERSION_LINE_BYTES = 12
"""What stands around a header block: `NATS/1.0`, and the empty line that ends it."""


class ServerRefused(NatsError):
    """An -ERR of the server, in its own words."""


class FastClient(Client):
    """`callbacks`: subscription id (text) -> callback of a fast subscription."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: dict[str, FastCallback] = {}
        self._ps = cast(Any, FrameParser(self, self.callbacks))
        self._loop = asyncio.get_running_loop()
        self._flush_due = False
        self._choked = False

    def publish_raw(self, subject: str, data: bytes, reply: str = "", header_block: bytes = b"") -> None:
        """Send one message; it leaves with the others of this turn of the event loop, in the order of the
        calls.

        Subjects are not checked here: they are built from checked names. Raises Unavailable while
        disconnected (nothing is kept for later: who needs it sent asks again), Busy while the socket is
        choked by more than `limits.SEND_BUFFER_BYTES_MAX`, TooLarge above the server's max_payload.
        """
        if self._status != Client.CONNECTED or self._choked:
            self.check_open()
        size = len(data)
        parts: tuple[bytes, ...]
        if header_block:
            header_size = len(header_block) + VERSION_LINE_BYTES
            size += header_size
            head = f"HPUB {subject} {reply} {header_size} {size}\r\nNATS/1.0\r\n".encode()
            parts = (head, header_block, b"\r\n", data, b"\r\n")
        else:
            parts = (f"PUB {subject} {reply} {size}\r\n".encode(), data, b"\r\n")
        if size > self._max_payload:
            raise self._too_large(subject, size)
        self._pending += parts
        self._pending_data_size += size
        if self._pending_data_size > FLUSH_BYTES:
            self.write_pending()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._write_soon)

    def publish_all(self, messages: Sequence[tuple[str, bytes, str, bytes]]) -> None:
        """`publish_raw` for many (subject, data, reply, header block): all are sent, or none and it
        raises."""
        self.check_open()
        room = self._max_payload - VERSION_LINE_BYTES
        for subject, data, _, header_block in messages:
            size = len(data) + len(header_block)
            if size > room:
                raise self._too_large(subject, size + VERSION_LINE_BYTES)
        for message in messages:
            self._choked = False  # by this very batch: its rest goes with it
            self.publish_raw(*message)

    def check_open(self) -> None:
        """Raises Unavailable or Busy if nothing can be sent now."""
        if self._status != Client.CONNECTED:
            raise Unavailable("not connected to NATS")
        writer = self._writer()
        self._choked = writer is not None and writer.transport.get_write_buffer_size() > limits.SEND_BUFFER_BYTES_MAX
        if self._choked:
            raise Busy(f"more than {limits.SEND_BUFFER_BYTES_MAX} bytes wait to be sent (SEND_BUFFER_BYTES_MAX)")

    def write_pending(self) -> None:
        """Hand everything pending to the socket."""
        writer = self._writer()
        pending = self._pending
        if not pending or writer is None or self._status != Client.CONNECTED:
            return
        self._pending = []
        self._pending_data_size = 0
        if writer.transport.is_closing():
            return  # the read loop is about to see that it broke: nothing is kept for later
        writer.transport.writelines(pending)
        self._choked = writer.transport.get_write_buffer_size() > limits.SEND_BUFFER_BYTES_MAX

    def _write_soon(self) -> None:
        self._flush_due = False
        self.write_pending()

    def _writer(self) -> asyncio.StreamWriter | None:
        transport = cast(TcpTransport | None, self._transport)
        return None if transport is None else transport._io_writer

    def _too_large(self, subject: str, size: int) -> TooLarge:
        return TooLarge(f"{subject}: {size} bytes exceed the server's max_payload of {self._max_payload}")

    def abort(self) -> None:
        """Give up the socket with whatever it still holds. nats-py would wait until a dead peer has read that."""
        writer = self._writer()
        if writer is not None:
            writer.transport.abort()

    async def _process_op_err(self, e: Exception) -> None:
        if not self.is_closed and not self.is_reconnecting:
            self.abort()
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        """An error of the server ends in a reconnect; nats-py would close the client for good."""
        error = ServerRefused(err_msg.strip("'"))
        await self._error_cb(error)
        if "permissions violation" not in err_msg.lower():
            await self._process_op_err(error)
