"""A run's events as server-sent events, and what becomes of open streams when the gateway stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from dagnats_core import limits
from dagnats_core.errors import NotFound, Unavailable
from dagnats_micro.schemas import run
from tests.integration.gateway.conftest import Gateway, running_gateway, until
from tests.integration.gateway.samples import RUN_ID, event, events
from tests.integration.gateway.test_routes import problem_of
from tests.support.nats import NatsServer

PATH = f"/runs/{RUN_ID}/events"
SSE = {"accept": "text/event-stream"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Log:
    """A run whose events a test adds; asked by long polls."""

    def __init__(self, gateway: Gateway, *items: run.RunEvent) -> None:
        self.items = list(items)
        self.ended = False
        self.changed = asyncio.Event()
        gateway.api.answers["run-events"] = self.answer

    def add(self, *items: run.RunEvent, ended: bool = False) -> None:
        self.items += items
        self.ended = ended
        self.changed.set()

    async def answer(self, request: run.EventsRequest) -> run.EventList:
        found = [item for item in self.items if item.seq > request.after]
        if not found and not self.ended and request.wait_ms:
            self.changed.clear()
            try:
                async with asyncio.timeout(request.wait_ms / 1000):
                    await self.changed.wait()
            except TimeoutError:
                pass
            return await self.answer(msgspec.structs.replace(request, wait_ms=0))
        return events(*found, after=found[-1].seq if found else request.after, ended=self.ended)


async def pieces_of(response: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The pieces of an event stream, each as its fields; a comment has the field ''."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


async def test_a_stream_tells_what_was_and_what_comes_and_ends(gateway: Gateway) -> None:
    log = Log(gateway, event(3, "run_created"), event(4))
    async with asyncio.timeout(10), gateway.http.stream("GET", PATH, headers=SSE) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        pieces = pieces_of(response)
        assert await anext(pieces) == {"retry": "1000"}
        first = await anext(pieces)
        assert first["id"] == "3"
        assert msgspec.json.decode(first["data"], type=run.RunEvent) == event(3, "run_created")
        assert (await anext(pieces))["id"] == "4"
        log.add(event(9), event(9, "step_started"), ended=True)
        assert "id" not in await anext(pieces)
        assert (await anext(pieces))["id"] == "9"
        end = await anext(pieces)
        assert end == {"event": "end", "data": f'{{"run_id":"{RUN_ID}","status":"completed"}}'}
        assert [piece async for piece in pieces] == []


async def test_a_stream_goes_on_where_its_reader_was(gateway: Gateway) -> None:
    log = Log(gateway, event(3), event(4), event(5))
    log.ended = True
    headers = {**SSE, "last-event-id": "4"}
    response = await gateway.http.get(PATH, params={"after": 3}, headers=headers)
    assert [line for line in response.text.splitlines() if line.startswith("id")] == ["id: 5"]
    response = await gateway.http.get(PATH, headers={**SSE, "last-event-id": "5"})
    assert "id:" not in response.text
    assert "event: end" in response.text


async def test_a_quiet_stream_says_that_it_lives(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_HEARTBEAT_MS", 20)
    Log(gateway, event(1))
    async with asyncio.timeout(10), gateway.http.stream("GET", PATH, headers=SSE) as response:
        pieces = pieces_of(response)
        for _ in range(2):
            await anext(pieces)
        assert await anext(pieces) == {"": "still here"}
        assert await anext(pieces) == {"": "still here"}


async def test_errors_before_and_within_a_stream(gateway: Gateway) -> None:
    def refuse(_: object) -> run.EventList:
        raise NotFound("no such run")

    gateway.api.answers["run-events"] = refuse
    problem_of(await gateway.http.get(PATH, headers=SSE), 404, "not_found")
    problem_of(await gateway.http.get("/runs/nope/events", headers=SSE), 404, "not_found")
    headers = {**SSE, "last-event-id": "x"}
    assert problem_of(await gateway.http.get(PATH, headers=headers), 400, "invalid") == [("Last-Event-ID", "type")]

    def break_off(request: run.EventsRequest) -> run.EventList:
        if request.wait_ms:
            raise Unavailable("gone")
        return events(event(1), after=1)

    gateway.api.answers["run-events"] = break_off
    async with asyncio.timeout(10), gateway.http.stream("GET", PATH, headers=SSE) as response:
        last = [piece async for piece in pieces_of(response)][-1]
    assert last["event"] == "problem"
    assert msgspec.json.decode(last["data"])["code"] == "unavailable"


async def test_without_the_accept_header_events_are_a_page(gateway: Gateway) -> None:
    log = Log(gateway)
    asking = asyncio.create_task(gateway.http.get(PATH, params={"wait_ms": 20_000, "after": 1}))
    await until(lambda: bool(gateway.api.requests))
    log.add(event(2))
    response = await asking
    assert [item["seq"] for item in response.json()["items"]] == [2]


async def test_streams_are_bounded_and_those_that_ended_do_not_count(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_STREAMS_MAX", 1)
    Log(gateway, event(1))
    async with asyncio.timeout(10):
        async with gateway.http.stream("GET", PATH, headers=SSE) as response:
            await anext(pieces_of(response))
            problem_of(await gateway.http.get(PATH, headers=SSE), 429, "busy")
        while True:  # until the server has noticed that its reader is gone
            async with gateway.http.stream("GET", PATH, headers=SSE) as response:
                if response.status_code == 200:
                    break


async def test_head_of_a_stream_ends(gateway: Gateway) -> None:
    Log(gateway, event(1))
    async with asyncio.timeout(10):
        response = await gateway.http.head(PATH, headers=SSE)
    assert (response.status_code, response.content) == (200, b"")


async def test_a_stop_ends_streams_and_long_polls_at_once(shared_nats: NatsServer) -> None:
    async with asyncio.timeout(20), running_gateway(shared_nats.url) as gateway:
        Log(gateway, event(1))
        async with gateway.http.stream("GET", PATH, headers=SSE) as response:
            pieces = pieces_of(response)
            await anext(pieces)
            await anext(pieces)
            polling = asyncio.create_task(gateway.http.get(PATH, params={"wait_ms": 30_000, "after": 1}))
            await until(lambda: len(gateway.api.requests) == 3)
            started = time.monotonic()
            await gateway.service.stop()
            assert time.monotonic() - started < 2
            assert [piece async for piece in pieces] == []
            problem_of(await polling, 503, "unavailable")
