"""One connection to NATS: connect, reconnect for ever, receive and send fast, ask and be answered.

nats-py stays the client (servers, authentication, TLS, reconnect, subscriptions); its slow paths are gone round:
`FrameParser` takes the place of its parser and calls fast subscriptions from the read loop; `publish_raw` puts bytes
into the client's own queue of pending commands, which leaves as one write per turn of the event loop; requests go
through one wildcard inbox. What may not live here: anything about JetStream or workflows.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.errors import Error as NatsError

from dagnats_core import limits
from dagnats_core.bus.errors import ConnectionLost, NoResponders, RequestTimeout
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.waiting import Waiting
from dagnats_core.bus.wire import FastCallback, FrameParser
from dagnats_core.errors import Busy, DagNatsError, Forbidden, Invalid, Problem, TooLarge, Unavailable

RECONNECT_WAIT_S = (0.1, 0.25)
"""Each connection draws its pause between attempts from this range, so that many do not knock at once."""
PING_INTERVAL_S = 10
ATTEMPT_TIMEOUT_S = 2
FLUSH_BYTES = 256 * limits.KIB
"""Pending bytes that leave at once instead of at the end of the event loop's turn."""

_DENIED_PUBLISH = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)

log = structlog.get_logger(__name__)


class ConnectOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom to connect. `connect_timeout_s` bounds the first connect; reconnects have no end."""

    urls: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    name: str = "dagnats"
    inbox_prefix: str = "_INBOX"
    connect_timeout_s: float = 5.0
    creds_file: str | None = None
    nkey_seed: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    tls: ssl.SSLContext | None = None
    domain: str | None = None
    """The JetStream domain to use; None is the one of the server connected to."""


class _ServerRefused(NatsError):
    """An -ERR of the server, in its own words."""


class _Client(Client):
    """nats-py's client with the fast parser, and with errors of the server answered by a reconnect, never by the end."""

    def __init__(self, callbacks: dict[str, FastCallback]) -> None:
        super().__init__()
        self._ps = cast(Any, FrameParser(self, callbacks))

    async def _process_err(self, err_msg: str) -> None:
        error = _ServerRefused(err_msg.strip("'"))
        await self._error_cb(error)
        if "permissions violation" not in err_msg.lower():
            await self._process_op_err(error)


class Connection:
    """A connection that heals itself. Make it with `connect`; use it from its event loop only."""

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self._loop = asyncio.get_running_loop()
        self._callbacks: dict[str, FastCallback] = {}
        self._client = _Client(self._callbacks)
        self._flush_due = False
        self._choked = False
        self._reconnect_listeners: list[Callable[[], None]] = []
        self._disconnect_listeners: list[Callable[[], None]] = []
        self._collectors: dict[str, FastCallback] = {}
        self._collector_ids = itertools.count(1)
        self._requests: Waiting[FastMessage] = Waiting(self._loop, self.new_inbox() + ".", _request_timed_out)
        self.refused: asyncio.Future[str] = self._loop.create_future()
        """Done when the server turned down the credentials before the first connect, with its words."""

    # -- life

    async def open(self) -> None:
        """The first connect, tried without end; `connect` is what sets a limit."""
        options = self.options
        await self._client.connect(
            servers=list(options.urls),
            name=options.name,
            inbox_prefix=options.inbox_prefix,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            lame_duck_mode_cb=self._on_lame_duck,
            connect_timeout=ATTEMPT_TIMEOUT_S,
            reconnect_time_wait=cast(int, random.uniform(*RECONNECT_WAIT_S)),
            max_reconnect_attempts=-1,
            ping_interval=PING_INTERVAL_S,
            pending_size=limits.SEND_BUFFER_BYTES_MAX,
            skip_subject_validation=True,
            user=options.user,
            password=options.password,
            token=options.token,
            tls=options.tls,
            user_credentials=options.creds_file,
            nkeys_seed_str=options.nkey_seed,
        )
        await self.subscribe_fast(self._requests.prefix + "*", self._on_reply)

    async def close(self) -> None:
        """Send what is pending and end the connection; every wait ends with ConnectionLost. Closing twice is fine."""
        self._reconnect_listeners.clear()
        self._broken()
        self._disconnect_listeners.clear()
        if self._client._flush_queue is not None:
            await self._client.close()

    @property
    def nats(self) -> Client:
        """The nats-py client underneath, for what has no fast path."""
        return self._client

    @property
    def connected(self) -> bool:
        return self._client.is_connected

    @property
    def url(self) -> str:
        """The server connected to, or the ones that were asked for; without credentials."""
        url = self._client.connected_url
        return f"{url.scheme}://{url.hostname}:{url.port}" if url else _without_secrets(self.options.urls)

    @property
    def max_payload(self) -> int:
        """The server's bound of headers + payload, in bytes."""
        return self._client.max_payload

    @property
    def server_info(self) -> dict[str, Any]:
        """The server's INFO: version, domain, cluster, jetstream …"""
        return self._client._server_info

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each reconnect, subscriptions in place. Returns what takes it off again."""
        return _register(self._reconnect_listeners, callback)

    def on_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the connection breaks or is closed. Returns what takes it off again."""
        return _register(self._disconnect_listeners, callback)

    # -- receive

    def new_inbox(self) -> str:
        """A fresh inbox subject under this connection's prefix."""
        return f"{self.options.inbox_prefix}.{token_hex(11)}"

    async def subscribe_fast(self, subject: str, callback: FastCallback, queue: str = "") -> Subscription:
        """Call `callback` with each message, from the read loop itself: it must be short and must not block.

        An exception that it raises is logged. The subscription outlives reconnects; end it with `unsubscribe_fast`.
        """
        # nats-py takes the next id before its first await, so no message can come before its callback stands.
        self._callbacks[str(self._client._sid + 1)] = callback
        return await self._client.subscribe(subject, queue=queue)

    async def unsubscribe_fast(self, subscription: Subscription) -> None:
        """End a fast subscription; nothing is delivered to its callback any more. Tolerates a closed connection."""
        self._callbacks.pop(str(subscription._id), None)
        if not (self._client.is_closed or subscription._closed):
            await subscription.unsubscribe()

    async def drain_fast(self, subscription: Subscription) -> None:
        """End a fast subscription once all that the server has sent on it already has been delivered."""
        if self.connected:
            with suppress(DagNatsError):
                await self._client._send_unsubscribe(subscription._id)
                await self.flush()
        await self.unsubscribe_fast(subscription)

    # -- send

    def publish_raw(self, subject: str, data: bytes, reply: str = "", header_block: bytes = b"") -> None:
        """Send one message; it leaves with the others of this turn of the event loop, in the order of the calls.

        Subjects are not checked here: they are built from checked names. Raises Unavailable while disconnected
        (nothing is kept for later: who needs it sent asks again), Busy while the socket is choked by more than
        `limits.SEND_BUFFER_BYTES_MAX`, TooLarge above the server's max_payload.
        """
        if self._client._status != Client.CONNECTED or self._choked:
            self._check_open()
        self._enqueue(subject, data, reply, header_block)

    def publish_all(self, messages: Sequence[tuple[str, bytes, str, bytes]]) -> None:
        """`publish_raw` for many (subject, data, reply, header block): all are sent, or none and it raises."""
        self._check_open()
        room = self._client._max_payload - 12
        for subject, data, _, header_block in messages:
            if len(data) + len(header_block) > room:
                raise self._too_large(subject, len(data) + len(header_block) + 12)
        for message in messages:
            self._enqueue(*message)

    def _enqueue(self, subject: str, data: bytes, reply: str, header_block: bytes) -> None:
        client = self._client
        size = len(data)
        parts: tuple[bytes, ...]
        if header_block:
            header_size = len(header_block) + 12
            size += header_size
            head = f"HPUB {subject} {reply} {header_size} {size}\r\nNATS/1.0\r\n".encode()
            parts = (head, header_block, b"\r\n", data, b"\r\n")
        else:
            parts = (f"PUB {subject} {reply} {size}\r\n".encode(), data, b"\r\n")
        if size > client._max_payload:
            raise self._too_large(subject, size)
        client._pending += parts
        client._pending_data_size += size + len(parts[0])
        if client._pending_data_size > FLUSH_BYTES:
            self._flush()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush_soon)

    def _too_large(self, subject: str, size: int) -> TooLarge:
        return TooLarge(f"{subject}: {size} bytes exceed the server's max_payload of {self.max_payload}")

    def _flush_soon(self) -> None:
        self._flush_due = False
        self._flush()

    def _flush(self) -> None:
        client = self._client
        pending = client._pending
        transport = cast(TcpTransport, client._transport)
        if not pending or client._status != Client.CONNECTED or transport is None or transport._io_writer is None:
            return
        client._pending = []
        client._pending_data_size = 0
        socket = transport._io_writer.transport
        socket.writelines(pending)
        self._choked = socket.get_write_buffer_size() > limits.SEND_BUFFER_BYTES_MAX

    def _check_open(self) -> None:
        client = self._client
        if client._status != Client.CONNECTED:
            raise Unavailable(f"not connected to {self.url}")
        transport = cast(TcpTransport, client._transport)
        if transport._io_writer is not None:
            size = transport._io_writer.transport.get_write_buffer_size()
            self._choked = size > limits.SEND_BUFFER_BYTES_MAX
        if self._choked:
            raise Busy(f"more than {limits.SEND_BUFFER_BYTES_MAX} bytes wait to be sent to {self.url}")

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until the server has read all that was sent so far. Raises Unavailable or RequestTimeout."""
        self._check_open()
        self._flush()
        try:
            await self._client.flush(cast(int, timeout_s))
        except NatsError as error:
            raise RequestTimeout(f"flush to {self.url}: {error}") from error

    # -- ask

    def request_cb(
        self, subject: str, data: bytes, timeout_s: float, headers: bytes = b""
    ) -> asyncio.Future[FastMessage]:
        """Send a request; the future of its reply. It fails with NoResponders, RequestTimeout or ConnectionLost.

        Raises what `publish_raw` raises, and Busy above `limits.REPLIES_AWAITED_MAX` in flight.
        """
        reply, future = self._requests.add(subject, timeout_s)
        try:
            self.publish_raw(subject, data, reply, headers)
        except DagNatsError:
            self._requests.pop(reply)
            raise
        return future

    async def request(self, subject: str, data: bytes, timeout_s: float, headers: bytes = b"") -> FastMessage:
        """Send a request and wait for its reply; raises as `request_cb` says."""
        return await self.request_cb(subject, data, timeout_s, headers)

    def collect(self, callback: FastCallback) -> tuple[str, Callable[[], None]]:
        """A reply subject on which any number of replies reach `callback`, and what closes it."""
        subject = f"{self._requests.prefix}m{next(self._collector_ids)}"
        self._collectors[subject] = callback
        return subject, lambda: self._collectors.pop(subject, None) and None

    def _on_reply(self, message: FastMessage) -> None:
        waiting = self._requests.pop(message.subject)
        if waiting is None:
            collector = self._collectors.get(message.subject)
            if collector is not None:
                collector(message)
            return
        future, about = waiting
        if message.headers and not message.data and message.status == 503:
            future.set_exception(NoResponders(f"nobody answers on {about}"))
        else:
            future.set_result(message)

    # -- nats-py's callbacks

    def _broken(self) -> None:
        self._choked = False
        self._requests.fail_all(lambda about: ConnectionLost(f"the connection broke before {about} was answered"))
        for listener in tuple(self._disconnect_listeners):
            listener()

    async def _on_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        denied = _DENIED_PUBLISH.search(text)
        if denied:
            subject = denied.group(1)
            self._requests.fail(subject, Forbidden(f"these credentials may not publish to {subject}"))
        if "permissions violation" in text.lower():
            log.error("bus.permission_violation", error=text)
        elif self._client.is_connected:
            log.warning("bus.error", error=text)
        else:
            log.debug("bus.connect_failed", error=text)
            if "authorization violation" in text.lower() and not self.refused.done():
                self.refused.set_result(text)

    async def _on_disconnected(self) -> None:
        log.warning("bus.disconnected", url=self.url)
        self._broken()

    async def _on_reconnected(self) -> None:
        log.info("bus.reconnected", url=self.url)
        for listener in tuple(self._reconnect_listeners):
            listener()

    async def _on_lame_duck(self) -> None:
        log.warning("bus.server_in_lame_duck_mode", url=self.url)


async def connect(options: ConnectOptions) -> Connection:
    """Connect, trying again until `options.connect_timeout_s` is over.

    Raises Unavailable naming the URL, DagNatsError `unauthorized` when the server refuses the credentials,
    Invalid for a URL that is none.
    """
    urls = _without_secrets(options.urls)
    for url in options.urls:
        if url.partition("://")[0] in ("ws", "wss"):
            problem = Problem("nats_url", "scheme", "websocket URLs are not supported: use nats:// or tls://")
            raise Invalid(f"cannot connect to {urls}", [problem])
    connection = Connection(options)
    opening = asyncio.ensure_future(connection.open())
    either: list[asyncio.Future[Any]] = [opening, connection.refused]
    try:
        await asyncio.wait(either, timeout=options.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            return connection
        if connection.refused.done():
            raise DagNatsError(f"{urls} refuses these credentials: {connection.refused.result()}", code="unauthorized")
        raise Unavailable(f"no NATS server answers at {urls} within {options.connect_timeout_s:g} s")
    except (NatsError, ValueError, OSError) as error:
        raise Invalid(f"cannot connect to {urls}: {error}", [Problem("nats_url", "connect", str(error))]) from error
    finally:
        if not (opening.done() and opening.exception() is None):
            opening.cancel()
            await asyncio.wait({opening})
            await connection.close()


def _request_timed_out(about: str) -> Exception:
    return RequestTimeout(f"no reply on {about} in time")


def _register(listeners: list[Callable[[], None]], callback: Callable[[], None]) -> Callable[[], None]:
    listeners.append(callback)

    def remove() -> None:
        if callback in listeners:
            listeners.remove(callback)

    return remove


def _without_secrets(urls: tuple[str, ...]) -> str:
    return ", ".join(urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl() for url in urls)
