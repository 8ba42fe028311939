"""The client side of the NATS protocol, read fast: finds whole MSG and HMSG frames and hands them on. No
IO, no clock.

nats-py's parser runs up to seven regular expressions and shifts its buffer for every message. This one
takes its place (`Client._ps`): it walks over each chunk once, calls the callbacks of fast subscriptions
straight from there, and gives everything else to nats-py's own methods, so that the client's state stays
nats-py's affair.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from nats.errors import ProtocolError

from dagnats_core.bus.message import FastMessage

CONTROL_LINE_BYTES_MAX = 1024 * 1024
"""An INFO of a large cluster is some KiB; a line without end is not NATS."""

log = structlog.get_logger(__name__)

FastCallback = Callable[[FastMessage], None]


class Dispatcher(Protocol):
    """What the parser calls: the methods of nats-py's client that handle a frame."""

    def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> Awaitable[None]: ...

    def _process_ping(self) -> Awaitable[None]: ...

    def _process_pong(self) -> Awaitable[None]: ...

    def _process_info(self, info: dict[str, Any]) -> Awaitable[None]: ...

    def _process_err(self, err_msg: str) -> Awaitable[None]: ...


class FrameParser:
    """Drop-in for `nats.protocol.parser.Parser`. `callbacks`: subscription id (text) -> callback of a fast
    one."""

    def __init__(self, client: Dispatcher, callbacks: dict[str, FastCallback]) -> None:
        self._client = client
        self._callbacks = callbacks
        self.reset()

    def reset(self) -> None:
        """Forget what is half read: a new connection begins."""
        self._epoch = object()
        self._chunks: list[bytes] = []
        self._size = 0
        self._needed = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take one chunk off the socket and handle every frame that it completes."""
        if self._chunks:
            self._chunks.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return
            data = b"".join(self._chunks)
            self._chunks = []
        epoch = self._epoch
        try:
            consumed = await self._frames(data)
        except (ValueError, IndexError) as error:
            raise ProtocolError("nats: malformed frame") from error
        if consumed < len(data) and epoch is self._epoch:
            self._chunks = [data[consumed:]]
            self._size = len(data) - consumed

    async def _frames(self, buf: bytes) -> int:
        """Handle the whole frames at the start of `buf`; how many bytes they took. Sets `_needed` for the
        next."""
        callbacks = self._callbacks
        pos, end = 0, len(buf)
        while pos < end:
            eol = buf.find(b"\r\n", pos)
            if eol < 0:
                if end - pos > CONTROL_LINE_BYTES_MAX:
                    raise ProtocolError("nats: control line without end")
                self._needed = 0
                return pos
            first = buf[pos]
            if first == 77:  # MSG subject sid [reply] size
                header_size = 0
                words = buf[pos + 4 : eol].decode("utf-8", "replace").split(" ")
            elif first == 72:  # HMSG subject sid [reply] header_size size
                words = buf[pos + 5 : eol].decode("utf-8", "replace").split(" ")
                header_size = int(words.pop(-2))
            else:
                await self._control(buf[pos:eol])
                pos = eol + 2
                continue
            body = eol + 2
            stop = body + int(words[-1])
            if stop + 2 > end:
                self._needed = stop + 2 - pos
                return pos
            pos = stop + 2
            sid, reply = words[1], words[2] if len(words) == 4 else ""
            headers = buf[body : body + header_size] if header_size else b""
            callback = callbacks.get(sid)
            if callback is None:
                await self._client._process_msg(
                    int(sid), words[0].encode(), reply.encode(), buf[body + header_size : stop], headers
                )
                continue
            try:
                callback(FastMessage(words[0], reply, buf[body + header_size : stop], headers))
            except Exception:
                log.exception("bus.callback_failed", subject=words[0])
        self._needed = 0
        return pos

    async def _control(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            await self._client._process_ping()
        elif line.startswith(b"PONG"):
            await self._client._process_pong()
        elif line.startswith(b"INFO "):
            await self._client._process_info(json.loads(line[5:]))
        elif line.startswith(b"-ERR"):
            await self._client._process_err(line[4:].strip().decode("utf-8", "replace"))
        elif not line.startswith(b"+OK"):
            raise ProtocolError("nats: unknown protocol")
