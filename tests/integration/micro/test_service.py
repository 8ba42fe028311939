"""The service as callers and stock tools meet it: discovery, refusals, bounds, honest figures, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from dagnats_core import limits
from dagnats_core.bus.errors import NoResponders
from dagnats_core.bus.message import FastMessage
from dagnats_core.errors import Busy, DagNatsError, Invalid, NotFound, Unavailable
from dagnats_micro import errors
from dagnats_micro.client import MicroClient, discover, resolve_site
from dagnats_micro.runner import Bound, Pool, Runner
from dagnats_micro.schemas import run
from dagnats_micro.schemas.common import Empty
from dagnats_micro.schemas.system import Health
from dagnats_micro.table import ENDPOINTS, RUN_GET, RUN_LIST, RUN_OUTPUT, SYSTEM_HEALTH, SYSTEM_INFO
from tests.support.bus import eventually, open_connection, unique
from tests.support.micro import ApiSite, open_site
from tests.support.nats import NatsServer


async def ask(site: ApiSite, subject: str, body: bytes = b"") -> Any:
    reply = await site.client.connection.request(subject, body, 5)
    return msgspec.json.decode(reply.data)


def subject_of(site: ApiSite, endpoint: Any) -> str:
    return site.subjects.api(endpoint.noun, endpoint.verb)


# ---- discovery (ADR-32)


async def test_ping_info_and_stats_say_what_stock_tools_need(api_site: ApiSite) -> None:
    name_and_id = f"dagnats.{api_site.service.instance_id}"
    common = {"name", "id", "version", "metadata", "type"}
    ping = await ask(api_site, f"$SRV.PING.{name_and_id}")
    assert set(ping) == common
    assert ping["type"] == "io.nats.micro.v1.ping_response"
    assert ping["metadata"]["site_id"] == api_site.info.site_id
    info = await ask(api_site, f"$SRV.INFO.{name_and_id}")
    assert set(info) == common | {"description", "endpoints"}
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["description"]
    assert [endpoint["name"] for endpoint in info["endpoints"]] == [endpoint.name for endpoint in ENDPOINTS]
    for endpoint in info["endpoints"]:
        assert set(endpoint) == {"name", "subject", "queue_group", "metadata"}
        assert all(isinstance(value, str) for value in endpoint["metadata"].values())
    stats = await ask(api_site, f"$SRV.STATS.{name_and_id}")
    assert set(stats) == common | {"started", "endpoints"}
    assert stats["type"] == "io.nats.micro.v1.stats_response"
    figures = {"num_requests", "num_errors", "last_error", "processing_time", "average_processing_time"}
    assert set(stats["endpoints"][0]) == {"name", "subject", "queue_group"} | figures


@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
async def test_each_verb_is_answered_to_all_to_the_name_and_to_the_id(api_site: ApiSite, verb: str) -> None:
    for target in ("", ".dagnats", f".dagnats.{api_site.service.instance_id}"):
        found: list[str] = []

        def on_reply(message: FastMessage, found: list[str] = found) -> None:
            found.append(msgspec.json.decode(message.data)["id"])

        inbox, close = api_site.client.connection.collect(on_reply)
        api_site.client.connection.publish_raw(f"$SRV.{verb}{target}", b"", inbox)
        await eventually(partial(found.__contains__, api_site.service.instance_id), f"an answer to {verb}{target}")
        close()


async def test_the_requests_of_a_site_are_shared_by_its_replicas(api_site: ApiSite) -> None:
    replica = await api_site.replica()
    for _ in range(100):
        await api_site.client.call(SYSTEM_INFO, Empty())
    counts = [
        next(runner.stats.requests for runner in service.runners if runner.endpoint is SYSTEM_INFO)
        for service in (api_site.service, replica)
    ]
    await replica.stop()
    assert sum(counts) == 100
    assert min(counts) > 0


async def test_a_client_finds_the_site_of_its_server_s_domain(nats_server: NatsServer, tmp_path: Any) -> None:
    with NatsServer(tmp_path / "other", domain="here") as server:
        async with open_site(server, "here") as here, open_site(server, "there"):
            connection = here.client.connection
            assert [site.site for site in await discover(connection)] == ["here", "there"]
            assert await resolve_site(connection) == "here"
            assert await resolve_site(connection, "there") == "there"
            with pytest.raises(Invalid):
                await resolve_site(connection, "No Site")


async def test_a_client_takes_the_only_site_and_does_not_guess_among_several(nats_server: NatsServer) -> None:
    alone = await open_connection(nats_server)
    with pytest.raises(Unavailable):
        await resolve_site(alone)
    async with open_site(nats_server, "one"):
        assert await resolve_site(alone) == "one"
        async with open_site(nats_server, "two"):
            with pytest.raises(Invalid, match="one, two"):
                await resolve_site(alone)
    await alone.close()


# ---- refusals


GARBAGE = [
    b"\xff\xfe\x00",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"0",
    b'{"no_such_field":1}',
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"run_id":"' + b"x" * 100_000 + b'"}',
    b'{"limit":1e400}',
    b'{"limit":' + b"9" * 5000 + b"}",
    b'{"run_id":"\xff"}',
    b'{"run_id":"dagnats.*.>"}',
    b"x" * (limits.MESSAGE_BYTES_MAX - 1000),
]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_garbage_is_refused_with_problems_by_every_endpoint(api_site: ApiSite, endpoint: Any) -> None:
    for body in GARBAGE:
        reply = await api_site.client.connection.request(subject_of(api_site, endpoint), body, 5)
        error = errors.error_in(reply)
        assert error is not None, (body[:50], reply.data[:200])
        no_such_id = body.startswith(b'{"run_id":') and error.code == "not_found" and "run_id" in endpoint.naming
        assert no_such_id or (error.code == "invalid" and error.problems), (body[:50], error.message)
    runner = next(runner for runner in api_site.service.runners if runner.endpoint is endpoint)
    assert (runner.stats.requests, runner.stats.errors) == (len(GARBAGE), len(GARBAGE))
    assert runner.stats.last_error.startswith(("400:", "404:"))


async def test_an_empty_body_is_an_empty_request(api_site: ApiSite) -> None:
    assert (await ask(api_site, subject_of(api_site, RUN_LIST)))["items"] == []


async def test_an_unknown_endpoint_has_no_responders(api_site: ApiSite) -> None:
    with pytest.raises(NoResponders):
        await api_site.client.connection.request(api_site.subjects.api("run", "explode"), b"", 5)


# ---- the runner


class Desk:
    """A runner of `run.get` (its request has a field) with a handler of the test's own."""

    def __init__(self, runner: Runner, pool: Pool, client: MicroClient) -> None:
        self.runner = runner
        self.pool = pool
        self._client = client

    async def ask(self, timeout_s: float = 5) -> Any:
        reply = await self._client.connection.request(self.runner.subject, b'{"run_id":"%s"}' % (b"0" * 28), timeout_s)
        error = errors.error_in(reply)
        if error is not None:
            raise error
        return msgspec.json.decode(reply.data)


async def desk_of(site: ApiSite, handle: Any) -> Desk:
    pool = Pool()
    subject = unique("desk.")
    runner = Runner(site.connection, Bound(RUN_GET, handle), subject, "q", pool)
    await runner.start()
    await site.connection.flush()
    return Desk(runner, pool, site.client)


@contextmanager
def patched(name: str, value: object) -> Iterator[None]:
    before = getattr(limits, name)
    setattr(limits, name, value)
    try:
        yield
    finally:
        setattr(limits, name, before)


async def test_requests_run_side_by_side(api_site: ApiSite) -> None:
    together = asyncio.Barrier(20)

    async def handle(_: run.RunRequest) -> Empty:
        await together.wait()
        return Empty()

    desk = await desk_of(api_site, handle)
    await asyncio.gather(*(desk.ask() for _ in range(20)))
    await desk.runner.stop()


async def test_the_request_above_the_bound_is_told_busy_at_once_and_waiting_ones_do_not_count(
    api_site: ApiSite,
) -> None:
    gate = asyncio.Event()
    entered = 0

    async def handle(_: run.RunRequest) -> Empty:
        nonlocal entered
        entered += 1
        if entered <= 5:
            await desk.pool.wait(asyncio.get_running_loop().create_future(), 60)
        else:
            await gate.wait()
        return Empty()

    desk = await desk_of(api_site, handle)
    with patched("REQUESTS_IN_FLIGHT_MAX", 3):
        waiting: list[asyncio.Task[Any]] = []
        for _ in range(8):
            waiting.append(asyncio.create_task(desk.ask()))
            await eventually(lambda: entered == len(waiting), "one more request at work")
        with pytest.raises(Busy):
            await desk.ask()
        gate.set()
        await desk.pool.drain(5)
        await asyncio.gather(*waiting)
    await desk.runner.stop()
    assert (desk.runner.stats.requests, desk.runner.stats.errors) == (9, 1)


async def test_internals_stay_inside(api_site: ApiSite, capsys: pytest.CaptureFixture[str]) -> None:
    async def handle(_: run.RunRequest) -> Empty:
        raise RuntimeError("the password is swordfish")

    desk = await desk_of(api_site, handle)
    with pytest.raises(DagNatsError) as caught:
        await desk.ask()
    await desk.runner.stop()
    assert caught.value.code == "internal"
    assert "swordfish" not in caught.value.message
    incident = caught.value.message.split()[-1]
    logged = capsys.readouterr()
    assert incident in logged.out + logged.err
    assert "swordfish" in logged.out + logged.err
    assert "swordfish" not in desk.runner.stats.last_error


async def test_an_answer_that_cannot_be_sent_is_an_error_and_not_silence(api_site: ApiSite) -> None:
    answers: Any = iter(["x" * limits.MESSAGE_BYTES_MAX, object(), 2.0])

    def handle(_: run.RunRequest) -> Any:
        return next(answers)

    desk = await desk_of(api_site, handle)
    with pytest.raises(DagNatsError) as caught:
        await desk.ask()
    assert caught.value.code == "too_large"
    with pytest.raises(DagNatsError) as caught:
        await desk.ask()
    assert caught.value.code == "internal"
    assert await desk.ask() == 2.0
    await desk.runner.stop()


async def test_figures_are_honest(api_site: ApiSite) -> None:
    async def handle(_: run.RunRequest) -> Empty:
        await asyncio.sleep(0.02)
        if desk.runner.stats.requests % 2:
            raise NotFound("nothing\nhere")
        return Empty()

    desk = await desk_of(api_site, handle)
    for _ in range(6):
        try:
            await desk.ask()
        except NotFound:
            continue
    await desk.runner.stop()
    stats = desk.runner.stats
    assert (stats.requests, stats.errors) == (6, 3)
    assert stats.last_error == "404:nothing\nhere"
    assert stats.processing_ns >= 6 * 0.02e9


async def test_a_stopping_service_answers_what_it_has_and_takes_no_more(shared_nats: NatsServer) -> None:
    async with open_site(shared_nats, unique("api-")) as site:
        await site.register()
        run_id = await site.start()
        request = run.OutputRequest(run_id=run_id, wait_ms=30_000)
        waiting = [asyncio.create_task(site.client.call(RUN_OUTPUT, request)) for _ in range(20)]
        pool = site.service._api.pool  # type: ignore[union-attr]
        await eventually(lambda: pool._waiting == 20, "twenty requests that wait")
        began = asyncio.get_running_loop().time()
        await site.service.stop()
        assert asyncio.get_running_loop().time() - began < 3
        assert {reply.status for reply in await asyncio.gather(*waiting)} == {"pending"}
        with pytest.raises(Unavailable):
            await site.client.call(SYSTEM_INFO, Empty())
        assert site.info.site not in {found.site for found in await discover(site.client.connection, 0.2)}


async def test_a_request_that_outlives_the_drain_is_told_so() -> None:
    pool = Pool()
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cut off")

    pool.run(work())
    await asyncio.sleep(0)
    await pool.drain(0.01)
    assert told == ["cut off"]
    assert pool.in_flight == 0


async def test_a_service_can_be_started_again_after_a_stop(api_site: ApiSite) -> None:
    await api_site.service.stop()
    await api_site.service.stop()
    await api_site.service.start()
    assert (await api_site.client.call(SYSTEM_INFO, Empty())).site == api_site.info.site


# ---- system


async def test_health_names_what_is_wrong(api_site: ApiSite) -> None:
    health: Health = await api_site.client.call(SYSTEM_HEALTH, Empty())
    states = {component.name: component.status for component in health.components}
    assert states == {"jetstream": "ok", "run-log": "ok", "archive": "ok", "engine": "failing", "index": "ok"}
    assert health.status == "failing"
    causes = [component.cause for component in health.components if component.name == "engine"]
    assert causes == ["no engine lives: runs are accepted and stand still"]


async def test_info_says_what_may_be_lost(api_site: ApiSite) -> None:
    info = await api_site.client.call(SYSTEM_INFO, Empty())
    assert (info.site_id, info.durability, info.http_url) == (api_site.info.site_id, "os", None)
    assert "power" in info.may_lose
    api_site.service.set_http_url("http://127.0.0.1:1")
    assert (await api_site.client.call(SYSTEM_INFO, Empty())).http_url == "http://127.0.0.1:1"
