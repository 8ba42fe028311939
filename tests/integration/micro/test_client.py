"""The client: asks again only where that changes nothing, and says plainly what went wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.errors import Busy, DagNatsError, NotFound, TooLarge, Unavailable
from dagnats_micro.client import MicroClient
from dagnats_micro.schemas import run, system, wf
from dagnats_micro.schemas.common import Empty, PayloadRef
from dagnats_micro.table import RUN_EVENTS, SYSTEM_HEALTH, SYSTEM_INFO, WF_REGISTER, WF_START
from tests.support.bus import open_connection, unique
from tests.support.fake_api import FakeApi
from tests.support.micro import ApiSite
from tests.support.nats import NatsServer

HEALTH = system.Health(status="ok", components=[])
STARTED = wf.StartReply(run_id="0" * 28, workflow="w", version=1, status="pending", created=True, created_at="")


@pytest.fixture
async def fake(connection: Connection) -> Any:
    site = unique("client-")
    api = FakeApi(connection, site)
    await api.start()
    yield api, MicroClient(connection, site)
    await api.stop()


async def test_a_service_that_is_away_for_a_moment_is_waited_for(connection: Connection) -> None:
    site = unique("client-")
    client = MicroClient(connection, site)
    asking = asyncio.create_task(client.call(SYSTEM_HEALTH, Empty()))
    await asyncio.sleep(0)
    api = FakeApi(connection, site)
    api.answers["system-health"] = lambda _: HEALTH
    await api.start()
    assert await asking == HEALTH
    await api.stop()


async def test_a_site_that_is_not_there_is_named(connection: Connection) -> None:
    with pytest.raises(Unavailable, match="no API service of site 'nowhere'"):
        await MicroClient(connection, "nowhere").call(SYSTEM_HEALTH, Empty())


async def test_a_start_without_a_request_id_is_sent_once(nats_server: NatsServer) -> None:
    """The connection breaks while the answer is out: only what may arrive twice is sent again."""
    api_connection, connection = await open_connection(nats_server), await open_connection(nats_server)
    api = FakeApi(api_connection, "one")
    arrived = asyncio.Event()

    async def answer(request: wf.StartRequest) -> wf.StartReply:
        if not arrived.is_set():
            arrived.set()
            await asyncio.Event().wait()
        return STARTED

    api.answers["wf-start"] = answer
    await api.start()
    await api_connection.flush()
    client = MicroClient(connection, "one")
    for request_id, times in ((None, 1), ("r", 2)):
        api.requests.clear()
        arrived.clear()
        asking = asyncio.create_task(client.call(WF_START, wf.StartRequest(workflow="w", request_id=request_id)))
        await arrived.wait()
        connection.nats._transport._io_writer.transport.abort()  # type: ignore[union-attr]
        if request_id is None:
            with pytest.raises(Unavailable):
                await asking
        else:
            assert await asking == STARTED
        assert len(api.requests) == times
    await api.stop()
    await connection.close()
    await api_connection.close()


async def test_busy_and_internal_errors_reach_the_caller_as_they_are(fake: tuple[FakeApi, MicroClient]) -> None:
    api, client = fake
    for error in (Busy("full"), DagNatsError("incident 1")):

        def refuse(_: Any, error: DagNatsError = error) -> system.Health:
            raise error

        api.answers["system-health"] = refuse
        with pytest.raises(DagNatsError) as caught:
            await client.call(SYSTEM_HEALTH, Empty())
        assert (caught.value.code, caught.value.message) == (error.code, error.message)


async def test_a_wait_has_its_time_on_top(fake: tuple[FakeApi, MicroClient], monkeypatch: pytest.MonkeyPatch) -> None:
    api, client = fake
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_MS", 50)
    reply = run.EventList(items=[], next_cursor=None, after=0, ended=False, status="running")

    async def slowly(_: Any) -> run.EventList:
        await asyncio.sleep(0.3)
        return reply

    api.answers["run-events"] = slowly
    assert await client.call(RUN_EVENTS, run.EventsRequest(run_id="0" * 28, wait_ms=5000)) == reply
    with pytest.raises(DagNatsError) as caught:
        await client.call(RUN_EVENTS, run.EventsRequest(run_id="0" * 28))
    assert caught.value.code == "timeout"


async def test_what_fits_no_message_is_refused_before_it_is_sent(fake: tuple[FakeApi, MicroClient]) -> None:
    _, client = fake
    with pytest.raises(TooLarge):
        await client.call(WF_REGISTER, wf.RegisterRequest(definition="x" * limits.MESSAGE_BYTES_MAX))
    with pytest.raises(TooLarge):
        await client.put_payload(bytes(limits.PAYLOAD_BYTES_MAX + 1))


async def test_a_damaged_or_missing_payload_is_not_found(api_site: ApiSite) -> None:
    ref = await api_site.client.put_payload(b"hello")
    with pytest.raises(NotFound):
        await api_site.client.get_payload(PayloadRef(id=ref.id, size=5, sha256="0" * 64))
    with pytest.raises(NotFound):
        await api_site.client.get_payload(PayloadRef(id="0" * 26, size=5, sha256=ref.sha256))


async def test_the_largest_payload_goes_and_comes(api_site: ApiSite) -> None:
    data = bytes(range(251)) * (limits.PAYLOAD_BYTES_MAX // 251)
    ref = await api_site.client.put_payload(data)
    assert await api_site.client.get_payload(ref) == data


async def test_ten_thousand_calls_at_once_are_no_trouble(api_site: ApiSite) -> None:
    replies = await asyncio.gather(*(api_site.client.call(SYSTEM_INFO, Empty()) for _ in range(10_000)))
    assert {reply.site for reply in replies} == {api_site.info.site}
