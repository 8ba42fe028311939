"""Leases on a real server: who lives counts, and a key that outlived its engine does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dagnats_core.bus.kv import Bucket
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.setup import SiteSettings, ensure
from dagnats_core.bus.topology import Topology
from dagnats_core.engine import leases
from dagnats_core.engine.leases import Leases
from tests.support.bus import WAIT_S_MAX, open_connection, unique
from tests.support.nats import NatsServer


@pytest.fixture
async def bucket(shared_nats: NatsServer) -> AsyncIterator[Bucket]:
    connection = await open_connection(shared_nats)
    publisher = Publisher(connection)
    await publisher.start()
    topology = Topology(unique("leases"))
    await ensure(connection, topology, SiteSettings(durability="os", partitions=2))
    yield Bucket(connection, publisher, topology.leases_bucket)
    await publisher.stop()
    await connection.close()


async def test_a_key_that_outlived_its_engine_counts_for_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "TTL_S", 1)
    dead, alive = Leases(bucket, "dead"), Leases(bucket, "alive")
    await bucket.put("engine.dead", b"dead")  # no TTL: as a server that was killed may leave it
    assert await dead.claim(0, None)
    assert (await alive.read()).engines == {"dead"}
    assert not await alive.claim(0, (await alive.read()).partitions[0])
    async with asyncio.timeout(WAIT_S_MAX):
        while "dead" in (await alive.read()).engines:
            await alive.renew()
            await asyncio.sleep(0.02)
    assert (await alive.read()).engines == {"alive"}
    assert await alive.claim(0, (await alive.read()).partitions[0])
    await dead.renew()
    assert (await alive.read()).engines == {"dead", "alive"}
