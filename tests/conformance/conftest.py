"""The two sides of each port: on a real nats-server, and in the simulation. A test is a coroutine that both run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from dagnats_core.bus.connection import ConnectOptions, connect
from dagnats_core.bus.kv import Bucket
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.setup import SiteSettings, ensure
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.leases import Leases
from dagnats_core.engine.log import RunLog
from dagnats_core.engine.payloads import Payloads
from dagnats_core.engine.ports import LeasesPort, LogPort, PayloadsPort
from tests.fault.clockwork import Process, World
from tests.fault.leases import LeaseTable, SimLeases
from tests.fault.network import SITE, Network, Rates
from tests.fault.stream import Watcher
from tests.fault.wiring import SimLog, SimPayloads
from tests.support.nats import NatsServer


@dataclass
class Ports:
    """What a test works with: the ports of one engine, and leases of others by their names."""

    log: LogPort
    subjects: Subjects
    payloads: PayloadsPort
    leases: Callable[[str], LeasesPort]
    now_ms: Callable[[], int]


Run = Callable[[Callable[[Ports], Awaitable[None]]], None]


async def _on_nats(url: str, test: Callable[[Ports], Awaitable[None]]) -> None:
    topology = Topology(f"conformance-{uuid4().hex[:12]}")
    connection = await connect(ConnectOptions(urls=(url,)))
    publisher = Publisher(connection)
    try:
        await ensure(connection, topology, SiteSettings(durability="os", partitions=2))
        await publisher.start()
        bucket = Bucket(connection, publisher, topology.leases_bucket)
        await test(
            Ports(
                RunLog(connection, publisher, topology),
                Subjects(topology.site),
                Payloads(connection, publisher, topology),
                lambda engine: Leases(bucket, engine),
                lambda: time.time_ns() // 1_000_000,
            )
        )
    finally:
        await publisher.stop()
        await connection.close()


def _in_simulation(test: Callable[[Ports], Awaitable[None]]) -> None:
    world = World(0)
    network = Network(world, Rates(), Watcher())
    process = Process(world, "engine")
    table = LeaseTable(world)
    ports = Ports(
        SimLog(network, process),
        Subjects(SITE),
        SimPayloads(network),
        lambda engine: SimLeases(network, process, table, engine),
        world.now_ms,
    )
    task = process.create_task(_as_coroutine(test(ports)))
    try:
        world.run(600.0, task.done)
        assert task.done(), "the test did not end in 600 s of virtual time"
        task.result()
    finally:
        world.close()


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


@pytest.fixture(params=["nats", "simulation"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test's coroutine on one side."""
    if request.param == "simulation":
        yield _in_simulation
        return
    server: NatsServer = request.getfixturevalue("shared_nats")
    yield lambda test: asyncio.run(_on_nats(server.url, test))
