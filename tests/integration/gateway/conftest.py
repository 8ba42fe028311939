"""A gateway on a free port, in front of an API of canned answers, on a real nats-server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import httpx
import pytest
import pytest_asyncio

from dagnats_core.bus.connection import Connection, ConnectOptions, connect
from dagnats_gateway.app import HttpService
from dagnats_micro.client import MicroClient
from tests.support.fake_api import FakeApi
from tests.support.nats import NatsServer


class Gateway(NamedTuple):
    """`http` talks to `service`, which asks `api`."""

    http: httpx.AsyncClient
    api: FakeApi
    service: HttpService
    connection: Connection


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Return as soon as `condition()` holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running_gateway(nats_url: str) -> AsyncIterator[Gateway]:
    """A gateway and an API of a site of their own."""
    site = f"g{secrets.token_hex(6)}"
    async with AsyncExitStack() as stack:
        api_connection = await connect(ConnectOptions(urls=(nats_url,)))
        stack.push_async_callback(api_connection.close)
        connection = await connect(ConnectOptions(urls=(nats_url,)))
        stack.push_async_callback(connection.close)
        api = FakeApi(api_connection, site)
        await api.start()
        stack.push_async_callback(api.stop)
        service = HttpService(MicroClient(connection, site), connection, port=0)
        await service.start()
        stack.push_async_callback(service.stop)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=service.url, timeout=30))
        yield Gateway(http, api, service, connection)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_gateway(shared_nats: NatsServer) -> AsyncIterator[Gateway]:
    async with running_gateway(shared_nats.url) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    """The gateway of a module whose tests leave it as it is (mark: `asyncio(loop_scope="module")`)."""
    shared_gateway.api.answers.clear()
    shared_gateway.api.requests.clear()
    return shared_gateway


@pytest.fixture
async def own_gateway(shared_nats: NatsServer) -> AsyncIterator[Gateway]:
    """A gateway for one test alone."""
    async with running_gateway(shared_nats.url) as gateway:
        yield gateway
