"""The gateway put together: the ASGI application, and the HTTP server that runs it in the event loop of its
process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog
import uvicorn
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler, get
from litestar.types import ASGIApp

from dagnats_gateway import page
from dagnats_gateway.calls import Caller, Calls
from dagnats_gateway.edge import Edge
from dagnats_gateway.health import JETSTREAM_API, Health, NatsConnection, Probe
from dagnats_gateway.media import JSON
from dagnats_gateway.problems import hidden, of_status, render
from dagnats_gateway.routes import NO_STORE, Routes, allow, options
from dagnats_micro import Conflict, DagNatsError, Invalid, limits
from dagnats_micro.process import ServiceBase

GRACE_S = limits.HTTP_STOP_MS_MAX // 1000 - 1
"""What requests in flight get of the time to stop; the rest is for cutting them."""

log = structlog.get_logger(__name__)


def build_app(calls: Calls, health: Health, *, probes_only: bool = False) -> ASGIApp:
    """The ASGI application; `probes_only` for a process that has no API."""

    @get("/health")
    async def health_probe() -> Response[bytes]:
        return _probe_response(await health.health())

    @get("/ready", sync_to_thread=False)
    def ready_probe() -> Response[bytes]:
        return _probe_response(health.ready())

    handlers: list[HTTPRouteHandler] = [health_probe, ready_probe]
    if not probes_only:
        handlers += [*Routes(calls).handlers(), *page.handlers()]
    return Edge(
        Litestar(
            [*options(handlers), *handlers],
            exception_handlers={Exception: _problem_response},
            openapi_config=None,
            logging_config=None,
            request_max_body_size=None,
            debug=False,
        )
    )


def _probe_response(probe: Probe) -> Response[bytes]:
    status = 200 if probe.status == "ok" else 503
    return Response(msgspec.json.encode(probe), status_code=status, media_type=JSON, headers=NO_STORE)


def _problem_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException) and error.status_code < 500:
        headers = {name: allow(value.split(", ")) for name, value in (error.headers or {}).items() if name == "allow"}
        told = of_status(error.status_code, "")
    elif isinstance(error, DagNatsError):
        told = error
    else:
        incident = secrets.token_hex(6)
        log.error("http.internal", incident=incident, method=request.method, path=request.url.path, exc_info=error)
        told = hidden(incident)
    rendered = render(told)
    return Response(rendered.body, status_code=rendered.status, headers={**rendered.headers, **headers})


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers (the process has its own), telling when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class HttpService(ServiceBase):
    """The gateway as a service of its process: `start`, `set_ready(True)` once everything is up, `stop`.

    Port 0 takes a free one; `url` says which. `start` raises Conflict naming a port that is taken. `stop`
    ends event streams at once, waits for requests in flight, and is over within `HTTP_STOP_MS_MAX`.
    """

    def __init__(
        self,
        client: Caller,
        connection: NatsConnection,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        jetstream_api: str = JETSTREAM_API,
        probes_only: bool = False,
    ) -> None:
        super().__init__()
        self._host = host
        self._port = port
        self._calls = Calls(client)
        self._health = Health(connection, jetstream_api)
        self._probes_only = probes_only
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the gateway is reached from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def set_ready(self, ready: bool, reason: str = "stopping") -> None:
        """What `/ready` answers from now on; False when SIGTERM came, before anything is stopped."""
        self._health.set_ready(ready, reason)

    async def _start(self) -> None:
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._server = _Server(_server_config(build_app(self._calls, self._health, probes_only=self._probes_only)))
        self._serving = asyncio.create_task(self._server.serve([listener]), name="http")
        await self._server.listening.wait()

    async def _stop(self) -> None:
        self.set_ready(False)
        self._calls.stop()
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        try:
            await asyncio.wait_for(self._serving, limits.HTTP_STOP_MS_MAX / 1000)
        except TimeoutError:
            log.warning("http.connections_cut_off", count=len(self._server.server_state.connections))
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


def _server_config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.HTTP_KEEP_ALIVE_MS // 1000,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=limits.HTTP_HEAD_BYTES_MAX,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {port} on {host} is in use: stop what listens there or take another port") from error
        raise Invalid(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
