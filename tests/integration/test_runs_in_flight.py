"""Ten thousand runs in flight, `kill -9` of serve: every run ends, and the log says that each ended once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from dagnats import Client, Context, TimedOut, Unavailable, Worker, Workflow
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.subjects import Subjects, parse_run_subject
from dagnats_core.bus.topology import Topology
from tests.support.serve import FREE_PORTS, Program

RUNS = 10_000
END_S_MAX = 110


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_every_run_in_flight_ends_once(start_serve: Callable[..., Program]) -> None:
    wf = Workflow("flight")
    wf.step(
        "third",
        task="flight.echo",
        after=[wf.step("second", task="flight.echo", after=[wf.step("first", task="flight.echo")])],
    )
    first = start_serve()
    url = first.ready()["nats_url"]
    worker = Worker([wf], nats_url=url, max_concurrent=500)

    @worker.task("flight.echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    async with Client.connect(url, site="local") as client:
        await client.register(wf)
        started = await client.start_many(wf, [{"number": number} for number in range(RUNS)])
        assert len(started) == RUNS
        async with worker:
            await _completed(client, at_least=1)
            first.send(signal.SIGKILL)
            first.wait()
            port = url.rpartition(":")[2]
            start_serve(ports=("--nats-port", port, *FREE_PORTS[2:])).ready()
            await _completed(client, at_least=RUNS)
            assert await client.count(workflow="flight") == RUNS
        assert set((await _ends(client)).values()) == {1}


async def _completed(client: Client, at_least: int) -> None:
    """Wait until so many runs have completed, asking again while nobody answers."""
    async with asyncio.timeout(END_S_MAX):
        while True:
            with suppress(Unavailable, TimedOut):
                if await client.count(workflow="flight", status="completed") >= at_least:
                    return
            await asyncio.sleep(0.05)


async def _ends(client: Client) -> Counter[str]:
    """How often each run ended, as the run log tells."""
    ends: Counter[str] = Counter()

    def on_message(message: FastMessage, seq: int, time_ms: int) -> None:
        ends[parse_run_subject(message.subject).run_id] += 1

    stream = Topology(client.site).run_streams[0]
    subjects = [Subjects(client.site).all_ended()]
    reader = OrderedReader(client.micro.connection, stream, subjects, on_message, start=1, headers_only=True)
    await reader.start()
    await reader.caught_up.wait()
    await reader.stop()
    assert len(ends) == RUNS
    return ends
