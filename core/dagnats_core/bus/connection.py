"""One connection to NATS: connect, reconnect for ever, receive and send fast, ask and be answered.

`FastClient` does the sending and receiving; this is what everybody else holds: options, listeners, requests
through one wildcard inbox, and the log of what happens to the connection. What may not live here:
JetStream, workflows.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from dagnats_core import limits
from dagnats_core.bus.client import FastClient
from dagnats_core.bus.errors import ConnectionLost, NoResponders, RequestTimeout
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.waiting import Waiting
from dagnats_core.bus.wire import FastCallback
from dagnats_core.errors import DagNatsError, Forbidden, Invalid, Problem, Unavailable

RECONNECT_WAIT_S = (0.1, 0.25)
"""Each connection draws its pause between attempts from this range, so that many do not knock at once."""
PING_INTERVAL_S = 5
"""The third ping without an answer ends a connection: a dead peer is noticed after 15 s."""
ATTEMPT_TIMEOUT_S = 2
CLOSE_TIMEOUT_S = 2.0
FLUSH_TIMEOUT_S = 2.0

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


class Connection:
    """A connection that heals itself. Make it with `connect`; use it from its event loop only."""

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self._loop = asyncio.get_running_loop()
        self._client = FastClient()
        self.publish_raw = self._client.publish_raw
        self.publish_all = self._client.publish_all
        self._reconnect_listeners: list[Callable[[], None]] = []
        self._disconnect_listeners: list[Callable[[], None]] = []
        self._collectors: dict[str, FastCallback] = {}
        self._collector_ids = itertools.count(1)
        self._requests: Waiting[FastMessage] = Waiting(self._loop, self.new_inbox() + ".", _request_timed_out)
        self.refused: asyncio.Future[str] = self._loop.create_future()
        """Done when the server turned down the credentials before the first connect, with its words."""
        self.last_failure = ""
        """Why the latest attempt to connect failed."""

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
        """Send what is pending and end the connection; every wait ends with ConnectionLost. Closing twice
        is fine."""
        self._reconnect_listeners.clear()
        self._broken()
        self._disconnect_listeners.clear()
        if self._client._flush_queue is None:
            return
        try:
            await asyncio.wait_for(self._client.close(), CLOSE_TIMEOUT_S)
        except TimeoutError:
            self._client.abort()

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

        An exception that it raises is logged. The subscription outlives reconnects; end it with
        `unsubscribe_fast`.
        """
        # nats-py takes the next id before its first await, so no message can come before its callback stands.
        self._client.callbacks[str(self._client._sid + 1)] = callback
        return await self._client.subscribe(subject, queue=queue)

    async def unsubscribe_fast(self, subscription: Subscription) -> None:
        """End a fast subscription; nothing is delivered to its callback any more. Tolerates a closed
        connection."""
        self._client.callbacks.pop(str(subscription._id), None)
        if not (self._client.is_closed or subscription._closed):
            await subscription.unsubscribe()

    async def drain_fast(self, subscription: Subscription) -> None:
        """End a fast subscription once all that the server has sent on it already has been delivered."""
        if self.connected:
            with suppress(DagNatsError):
                await self._client._send_unsubscribe(subscription._id)
                await self.flush()
        await self.unsubscribe_fast(subscription)

    # -- send (`publish_raw` and `publish_all` are FastClient's)

    async def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Wait until the server has read all that was sent so far. Raises Unavailable or RequestTimeout."""
        self._client.check_open()
        self._client.write_pending()
        try:
            await self._client.flush(cast(int, timeout_s))
        except NatsError as error:
            raise RequestTimeout(f"flush to {self.url}: {error}") from error

    # -- ask

    def request_cb(
        self, subject: str, data: bytes, timeout_s: float, headers: bytes = b""
    ) -> asyncio.Future[FastMessage]:
        """Send a request; the future of its reply. It fails with NoResponders, RequestTimeout or
        ConnectionLost.

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
            self.last_failure = text
            if "authorization violation" in text.lower() and not self.refused.done():
                self.refused.set_result(text)

    async def _on_disconnected(self) -> None:
        if not self._client.is_closed:
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
        why = f": {connection.last_failure}" if connection.last_failure else ""
        raise Unavailable(f"no NATS server answers at {urls} within {options.connect_timeout_s:g} s{why}")
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
