"""Connections, streams and waiting for tests of what stands on NATS."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from dagnats_core.bus.connection import Connection, ConnectOptions, connect
from dagnats_core.bus.jetstream import StreamInfo, api
from dagnats_core.bus.publish import Publisher
from tests.support.nats import NatsServer

WAIT_S_MAX = 15.0
_numbers = itertools.count(1)


def unique(stem: str) -> str:
    """A name that no other test of this session has: for sites and streams on the shared server."""
    return f"{stem}{next(_numbers)}"


async def eventually(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S_MAX) -> None:
    """Return as soon as `condition()` is true; fail with `what` when the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.002)


async def open_connection(server: NatsServer) -> Connection:
    return await connect(ConnectOptions(urls=(server.url,), connect_timeout_s=WAIT_S_MAX))


async def restart(server: NatsServer, connection: Connection, *, kill: bool = True) -> None:
    """Restart the server and return when `connection` has found it again."""
    back = asyncio.Event()
    remove = connection.on_reconnect(back.set)
    server.restart(kill=kill)
    await asyncio.wait_for(back.wait(), WAIT_S_MAX)
    remove()


async def make_stream(connection: Connection, name: str, **config: object) -> StreamInfo:
    """A stream on `<name>.>` with everything on that the run log uses."""
    defaults: dict[str, object] = {
        "name": name,
        "subjects": [f"{name}.>"],
        "storage": "file",
        "allow_direct": True,
        "allow_atomic": True,
        "allow_msg_ttl": True,
        "allow_msg_schedules": True,
        "max_msgs_per_subject": 1,
    }
    return await api(connection, f"STREAM.CREATE.{name}", {**defaults, **config}, StreamInfo)


@pytest.fixture
async def connection(shared_nats: NatsServer) -> AsyncIterator[Connection]:
    """A connection to the shared server."""
    connection = await open_connection(shared_nats)
    yield connection
    await connection.close()


@pytest.fixture
async def publisher(connection: Connection) -> AsyncIterator[Publisher]:
    """A started publisher on `connection`."""
    publisher = Publisher(connection)
    await publisher.start()
    yield publisher
    await publisher.stop()


@pytest.fixture
async def stream(connection: Connection) -> str:
    """The name of a fresh stream that takes `<name>.>`."""
    name = unique("T")
    await make_stream(connection, name)
    return name
