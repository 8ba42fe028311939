"""The cleaner on a real server: what has ended, is archived and has cooled goes; nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from dagnats_core import ids
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.jetstream import StreamInfo, api
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.read import last_by_subjects
from dagnats_core.bus.setup import SiteSettings, ensure
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.cleaner import Cleaner
from tests.support.bus import WAIT_S_MAX, open_connection, unique
from tests.support.nats import NatsServer

PARTITIONS = 2


class Site(NamedTuple):
    connection: Connection
    publisher: Publisher
    topology: Topology
    subjects: Subjects

    async def publish(self, subject: str) -> int:
        return (await self.publisher.publish(subject, b'{"v":1}')).seq

    async def stamp(self) -> None:
        """Owners write stamp and floor anew, as they do from time to time."""
        for partition in range(PARTITIONS):
            await self.publish(self.subjects.own(partition))
            await self.publish(self.subjects.floor(partition))

    async def run(self, number: int, *, ended: bool) -> str:
        run_id = ids.new_run_id(number, number, PARTITIONS)
        partition = ids.partition_of(run_id)
        await self.publish(self.subjects.start(partition, run_id))
        await self.publish(self.subjects.task(partition, run_id, "t", 1))
        if ended:
            await self.end(run_id)
        return run_id

    async def end(self, run_id: str) -> None:
        await self.publish(self.subjects.ended(ids.partition_of(run_id), run_id))

    async def archived(self, runs: int) -> None:
        """Wait until the server has copied so many ended runs into the archive."""
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                info = await api(self.connection, f"STREAM.INFO.{self.topology.archive_stream}", None, StreamInfo)
                if info.state.messages >= runs:
                    return
                await asyncio.sleep(0.005)

    async def messages_of(self, run_id: str) -> int:
        stream = self.topology.run_stream(0)
        subject = self.subjects.run_all(ids.partition_of(run_id), run_id)
        return len(await last_by_subjects(self.connection, stream, [subject]))

    def cleaner(self, hot_ms: int) -> Cleaner:
        return Cleaner(self.connection, self.topology, PARTITIONS, lambda: True, hot_ms=hot_ms)


@pytest.fixture
async def site(shared_nats: NatsServer) -> AsyncIterator[Site]:
    connection = await open_connection(shared_nats)
    publisher = Publisher(connection)
    await publisher.start()
    topology = Topology(unique("clean"))
    await ensure(connection, topology, SiteSettings(durability="os", partitions=PARTITIONS))
    yield Site(connection, publisher, topology, Subjects(topology.site))
    await publisher.stop()
    await connection.close()


async def test_what_ended_below_the_oldest_live_run_goes_in_one_purge(site: Site) -> None:
    old = await site.run(1, ended=True)
    live = await site.run(2, ended=False)
    await site.stamp()
    await site.archived(1)
    assert await site.cleaner(hot_ms=-1000).round() == 1
    assert await site.messages_of(old) == 0
    assert await site.messages_of(live) == 2


async def test_what_is_stranded_behind_a_live_run_is_deleted_by_itself(site: Site) -> None:
    live = await site.run(1, ended=False)
    stranded = await site.run(2, ended=True)
    await site.stamp()
    await site.archived(1)
    assert await site.cleaner(hot_ms=-1000).round() == 1
    assert await site.messages_of(stranded) == 0
    assert await site.messages_of(live) == 2


async def test_what_has_just_ended_stays(site: Site) -> None:
    warm = await site.run(1, ended=True)
    await site.stamp()
    await site.archived(1)
    assert await site.cleaner(hot_ms=60_000).round() == 0
    assert await site.messages_of(warm) == 3


async def test_a_stamp_or_floor_is_never_purged(site: Site) -> None:
    await site.stamp()
    old = await site.run(1, ended=True)
    await site.archived(1)
    assert await site.cleaner(hot_ms=-1000).round() == 1
    assert await site.messages_of(old) == 0
    stream = site.topology.run_stream(0)
    for partition in range(PARTITIONS):
        marks = [site.subjects.own(partition), site.subjects.floor(partition)]
        assert len(await last_by_subjects(site.connection, stream, marks)) == 2


async def test_a_run_that_ends_between_two_rounds_goes_in_the_second(site: Site) -> None:
    run_id = await site.run(1, ended=False)
    cleaner = site.cleaner(hot_ms=-1000)
    assert await cleaner.round() == 0
    await site.end(run_id)
    await site.stamp()
    await site.archived(1)
    assert await cleaner.round() == 1
    assert await site.messages_of(run_id) == 0
