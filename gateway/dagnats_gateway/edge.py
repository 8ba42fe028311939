"""What holds for every exchange, whichever route it takes: HEAD, the bound of requests in flight, requests of
foreign web pages, bodies that nobody read, the log line. It knows HTTP and nothing of endpoints."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from dagnats_gateway.body import declared_bytes
from dagnats_gateway.problems import Rendered, render
from dagnats_micro import Busy, DagNatsError, Forbidden, Unavailable, limits

PROBES = ("/health", "/ready")
"""Answered however much is in flight: a busy gateway is not a dead one."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

log = structlog.get_logger(__name__)


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == ScopeType.HTTP, "the server speaks neither websockets nor lifespan"
        started = time.perf_counter()
        exchange = _Exchange(scope, receive, send)
        self._in_flight += 1
        try:
            refusal = self._refusal(scope, exchange)
            if refusal is not None:
                await exchange.answer(render(refusal))
            else:
                await self._app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            # Only the server's stop cancels an exchange, and nothing waits for this task's result.
            if not exchange.status:
                await exchange.answer(render(Unavailable("the gateway is stopping; whether this was done is unknown")))
        finally:
            self._in_flight -= 1
            log.debug(
                "http.request",
                method=scope["method"],
                path=scope["path"],
                status=exchange.status,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )

    def _refusal(self, scope: HTTPScope, exchange: _Exchange) -> DagNatsError | None:
        if scope["path"] in PROBES:
            return None
        if self._in_flight > limits.HTTP_REQUESTS_IN_FLIGHT_MAX:
            most = limits.HTTP_REQUESTS_IN_FLIGHT_MAX
            return Busy(f"more than {most} requests are in flight (HTTP_REQUESTS_IN_FLIGHT_MAX)")
        if scope["method"] not in _SAFE_METHODS and is_foreign(exchange.headers):
            return Forbidden("a web page of another origin may not change anything here")
        return None


def is_foreign(headers: dict[str, str]) -> bool:
    """A browser sends this for a page of another origin. What is no browser sends neither header."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")


class _Exchange:
    """One request and its answer. A body that was not read to its end is read and thrown away once the answer
    is out: closing at once would reset the connection, and the sender could lose the answer."""

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.status = 0
        self.scope = scope
        self._head = scope["method"] == "HEAD"
        if self._head:
            self.scope = scope.copy()
            self.scope["method"] = "GET"
        self._receive = receive
        self._send = send
        self._unread = declared_bytes(self.headers) != 0
        self._linger = False

    async def receive(self) -> Any:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            if self._unread:
                headers.append((b"connection", b"close"))
                self._linger = "expect" not in self.headers
            await self._send({**message, "headers": headers})
        elif message["type"] == "http.response.body":
            if self._head:
                message = {**message, "body": b"", "more_body": False}
            if self._linger and not message.get("more_body", False):
                await self._send({**message, "more_body": True})
                await self._throw_body_away()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await self._send(message)

    async def answer(self, rendered: Rendered) -> None:
        headers = {**rendered.headers, "content-length": str(len(rendered.body))}
        raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": rendered.status, "headers": raw_headers})
        await self.send({"type": "http.response.body", "body": rendered.body, "more_body": False})

    async def _throw_body_away(self) -> None:
        self._linger = False
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.HTTP_LINGER_MS_MAX / 1000):
                while self._unread:
                    await self.receive()
