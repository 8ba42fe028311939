"""The gateway as a service: probes, ports, and what is left after a stop."""

from __future__ import annotations

import asyncio
import re
import time

import httpx
import pytest

from dagnats_core import limits
from dagnats_core.bus.connection import ConnectOptions, connect
from dagnats_core.errors import Conflict, Invalid
from dagnats_gateway.app import HttpService
from dagnats_gateway.page import MEDIA_TYPES
from dagnats_micro.client import MicroClient
from dagnats_micro.schemas.common import Count
from tests.integration.gateway.conftest import Gateway, running_gateway, until
from tests.integration.gateway.test_routes import problem_of
from tests.support.nats import NatsServer


async def test_ready_is_what_was_said_last(own_gateway: Gateway) -> None:
    response = await own_gateway.http.get("/ready")
    assert (response.status_code, response.json()) == (503, {"status": "failing", "reason": "starting"})
    own_gateway.service.set_ready(True)
    response = await own_gateway.http.get("/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "reason": None})
    own_gateway.service.set_ready(False)
    response = await own_gateway.http.get("/ready")
    assert (response.status_code, response.json()["reason"]) == (503, "stopping")


async def test_health_follows_nats(nats_server: NatsServer) -> None:
    async with running_gateway(nats_server.url) as gateway:
        response = await gateway.http.get("/health")
        assert (response.status_code, response.json()) == (200, {"status": "ok", "reason": None})
        assert (await gateway.http.head("/health")).status_code == 200

        nats_server.pause()
        started = time.monotonic()
        response = await gateway.http.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "failing")
        assert "JetStream did" in response.json()["reason"]
        assert time.monotonic() - started < 2
        nats_server.resume()

        nats_server.stop()
        await until(lambda: not gateway.connection.connected)
        response = await gateway.http.get("/health")
        assert response.json() == {"status": "failing", "reason": "not connected to NATS"}
        problem_of(await gateway.http.get("/runs/count"), 503, "unavailable")

        nats_server.start()
        await until(lambda: gateway.connection.connected)
        assert (await gateway.http.get("/health")).status_code == 200


class _NoJetStream:
    connected = True

    def __init__(self, answer: bytes) -> None:
        self.data = answer

    async def request(self, subject: str, data: bytes, timeout_s: float) -> _NoJetStream:
        return self


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'{"error":{"code":503,"description":"JetStream not enabled"}}', "JetStream refuses: JetStream not enabled"),
        (b"<html>", "JetStream's answer cannot be read"),
    ],
)
async def test_health_reads_what_jetstream_answers(own_gateway: Gateway, answer: bytes, reason: str) -> None:
    client = MicroClient(own_gateway.connection, "x")
    service = HttpService(client, _NoJetStream(answer), port=0)
    await service.start()
    async with httpx.AsyncClient(base_url=service.url) as http:
        response = await http.get("/health")
    await service.stop()
    assert (response.status_code, response.json()["reason"]) == (503, reason)


async def test_a_taken_port_is_named(own_gateway: Gateway) -> None:
    port = httpx.URL(own_gateway.service.url).port
    assert port is not None
    second = HttpService(MicroClient(own_gateway.connection, "x"), own_gateway.connection, port=port)
    with pytest.raises(Conflict, match=rf"port {port} on 127\.0\.0\.1 is in use"):
        await second.start()
    await second.stop()
    nowhere = HttpService(MicroClient(own_gateway.connection, "x"), own_gateway.connection, "203.0.113.1", port=0)
    with pytest.raises(Invalid, match=r"cannot listen on 203\.0\.113\.1:0"):
        await nowhere.start()


async def test_a_stop_waits_for_requests_and_leaves_nothing(shared_nats: NatsServer) -> None:
    connection = await connect(ConnectOptions(urls=(shared_nats.url,)))
    tasks_before = asyncio.all_tasks()
    async with running_gateway(shared_nats.url) as gateway:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_: object) -> Count:
            asked.set()
            await go_on.wait()
            return Count(count=1)

        gateway.api.answers["run-count"] = slow
        asking = asyncio.create_task(gateway.http.get("/runs/count"))
        await asked.wait()
        stopping = asyncio.create_task(gateway.service.stop())
        await asyncio.sleep(0)
        go_on.set()
        assert (await asking).json() == {"count": 1}
        await stopping
        await gateway.service.stop()
        with pytest.raises(httpx.ConnectError):
            await gateway.http.get("/ready")
        port = httpx.URL(gateway.service.url).port
        assert port is not None
        again = HttpService(MicroClient(connection, "x"), connection, port=port)
        await again.start()
        await again.stop()
    await connection.close()
    await until(lambda: asyncio.all_tasks() <= tasks_before)


async def test_a_stop_cuts_what_takes_too_long(shared_nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagnats_gateway.app.GRACE_S", 0.2)
    async with running_gateway(shared_nats.url) as gateway:
        asked = asyncio.Event()

        async def never(_: object) -> Count:
            asked.set()
            await asyncio.Event().wait()
            return Count(count=1)

        gateway.api.answers["run-count"] = never
        asking = asyncio.create_task(gateway.http.get("/runs/count"))
        await asked.wait()
        started = time.monotonic()
        await gateway.service.stop()
        assert time.monotonic() - started < limits.HTTP_STOP_MS_MAX / 1000
        problem_of(await asking, 503, "unavailable")


async def test_the_page_needs_nothing_from_elsewhere(own_gateway: Gateway) -> None:
    response = await own_gateway.http.get("/")
    assert (response.status_code, response.headers["location"]) == (302, "/docs")
    page = await own_gateway.http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    found = set(re.findall(r'"/docs/([\w.]+)"', page.text))
    for name, media in MEDIA_TYPES.items():
        response = await own_gateway.http.get(f"/docs/{name}")
        assert response.headers["content-type"].partition(";")[0] == media
        assert "://" not in response.text.replace("http://www.w3.org/2000/svg", "")
        found |= set(re.findall(r'from "\./([\w.]+)"', response.text))
    assert found == set(MEDIA_TYPES)
    assert "://" not in page.text
    assert (await own_gateway.http.get("/openapi.json")).json()["openapi"] == "3.1.0"


async def test_the_site_of_the_client_is_asked(shared_nats: NatsServer) -> None:
    async with running_gateway(shared_nats.url) as one, running_gateway(shared_nats.url) as other:
        one.api.answers["run-count"] = lambda _: Count(count=1)
        other.api.answers["run-count"] = lambda _: Count(count=2)
        assert (await one.http.get("/runs/count")).json() == {"count": 1}
        assert (await other.http.get("/runs/count")).json() == {"count": 2}
