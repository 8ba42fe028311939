"""The archive that the server feeds: every ended run once, through kills and cleaning of the run log."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.errors import PublishTimeout
from dagnats_core.bus.jetstream import api
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.publish import OutMessage, Publisher
from dagnats_core.bus.read import get_last
from dagnats_core.bus.schedule import purge_headers
from dagnats_core.bus.setup import SiteSettings, ensure
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import DagNatsError
from tests.support.bus import eventually, open_connection, restart
from tests.support.nats import NatsServer

SUBJECTS = Subjects("local")
TOPOLOGY = Topology("local")


class Archive:
    """Reads the archive; runs by how often they are in it."""

    def __init__(self, connection: Connection) -> None:
        self.runs: Counter[str] = Counter()
        self.partitions: set[str] = set()
        self.reader = OrderedReader(
            connection, TOPOLOGY.archive_stream, [SUBJECTS.archive("*")], self._on_message, start=1
        )

    def _on_message(self, message: FastMessage, seq: int, time_ms: int) -> None:
        origin = (message.header("Nats-Stream-Source") or "").split(" ")[4]
        self.runs[origin.split(".")[4]] += 1
        assert origin.split(".")[3] == message.subject.split(".")[3]
        self.partitions.add(message.subject)


def run_of(n: int) -> list[OutMessage]:
    partition, run = n % 4, f"r{n}"
    return [
        OutMessage(SUBJECTS.start(partition, run), b"s"),
        OutMessage(SUBJECTS.task(partition, run, "t", 1), b"t"),
        OutMessage(SUBJECTS.ended(partition, run), b"e" * 100, purge_headers(SUBJECTS.timer(partition, run))),
    ]


@pytest.mark.parametrize("durability", ["always", "os"])
async def test_every_ended_run_is_archived_once_through_kills_and_purges(
    nats_server: NatsServer, durability: str
) -> None:
    nats_server.stop()
    nats_server.durability = type(nats_server.durability)(durability)
    nats_server.start()
    connection = await open_connection(nats_server)
    await ensure(connection, TOPOLOGY, SiteSettings())
    publisher = Publisher(connection)
    await publisher.start()
    stored: set[str] = set()
    tried: set[str] = set()
    stop = asyncio.Event()

    async def work() -> None:
        n = 0
        while not stop.is_set():
            runs = range(n, n + 20)
            n += 20
            tried.update(f"r{r}" for r in runs)
            try:
                await publisher.publish_batch([message for r in runs for message in run_of(r)])
                stored.update(f"r{r}" for r in runs)
            except PublishTimeout:
                continue
            except DagNatsError:
                await asyncio.sleep(0.01)

    async def clean() -> None:
        """Purges what is well below the last archived run, as the cleaner does."""
        while not stop.is_set():
            await asyncio.sleep(0.02)
            try:
                last = await get_last(connection, TOPOLOGY.archive_stream, SUBJECTS.archive(1))
                source = (last.header("Nats-Stream-Source") or "0 0").split(" ") if last else ["", "0"]
                if int(source[1]) > 300:
                    body = {"seq": int(source[1]) - 300}
                    await api(connection, f"STREAM.PURGE.{TOPOLOGY.run_streams[0]}", body, dict, timeout_s=1)
            except DagNatsError:
                continue

    tasks = [asyncio.ensure_future(work()), asyncio.ensure_future(clean())]
    for _ in range(3):
        count = len(stored)
        await eventually(lambda count=count: len(stored) > count + 200, "runs end")  # type: ignore[misc]
        await restart(nats_server, connection)
    stop.set()
    await asyncio.gather(*tasks)
    archive = Archive(connection)
    await archive.reader.start()
    await eventually(lambda: stored <= set(archive.runs), "all that ended is archived", timeout_s=30)
    assert set(archive.runs) <= tried
    assert set(archive.runs.values()) == {1}, "no run twice"
    assert archive.partitions == {SUBJECTS.archive(partition) for partition in range(4)}
    await archive.reader.stop()
    await connection.close()
