"""A client on a leaf that uses the JetStream of a hub: every path of the bus crosses the link."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dagnats_core.bus.connection import Connection, ConnectOptions, connect
from dagnats_core.bus.consume import OrderedReader, PullConsumer, TaskMessage
from dagnats_core.bus.kv import Bucket
from dagnats_core.bus.objects import Objects
from dagnats_core.bus.publish import OutMessage, Publisher
from dagnats_core.bus.read import get_last, last_by_subjects
from dagnats_core.bus.setup import SiteSettings, ensure, ensure_task_consumer
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import Unavailable
from dagnats_core.server.binary import find_binary
from dagnats_core.server.process import free_port
from tests.support.bus import WAIT_S_MAX, eventually

SUBJECTS, TOPOLOGY = Subjects("hubbed"), Topology("hubbed")

HUB = """
server_name: hub
listen: "127.0.0.1:{hub}"
leafnodes {{ listen: "127.0.0.1:{link}" }}
jetstream {{ store_dir: "{dir}/hub", domain: H }}
"""
LEAF = """
server_name: leaf
listen: "127.0.0.1:{leaf}"
leafnodes {{ remotes: [ {{ url: "nats://127.0.0.1:{link}" }} ] }}
jetstream {{ store_dir: "{dir}/leaf", domain: L }}
"""


@pytest.fixture
def leaf_url(tmp_path: Path) -> Iterator[str]:
    ports = {"hub": free_port(), "link": free_port(), "leaf": free_port()}
    processes = []
    for name, text in (("hub", HUB), ("leaf", LEAF)):
        config = tmp_path / f"{name}.conf"
        config.write_text(text.format(dir=tmp_path, **ports))
        processes.append(subprocess.Popen([find_binary(), "-c", str(config)], stderr=subprocess.DEVNULL))
    yield f"nats://127.0.0.1:{ports['leaf']}"
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
async def on_leaf(leaf_url: str) -> AsyncIterator[Connection]:
    options = ConnectOptions(urls=(leaf_url,), domain="H", connect_timeout_s=WAIT_S_MAX)
    connection = await connect(options)
    yield connection
    await connection.close()


async def test_everything_works_across_the_link(on_leaf: Connection) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_S_MAX
    while True:
        try:
            site = await ensure(on_leaf, TOPOLOGY, SiteSettings())
            break
        except Unavailable:  # the link is not up yet
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
    assert site.domain == "H"
    publisher = Publisher(on_leaf)
    await publisher.start()
    await publisher.publish_batch([OutMessage(SUBJECTS.task(1, "r", "t", n), b"x" * 500) for n in range(900)])

    seqs: list[int] = []
    stream = TOPOLOGY.run_streams[0]
    reader = OrderedReader(on_leaf, stream, [SUBJECTS.tasks_of("t")], lambda m, seq, ms: seqs.append(seq), start=1)
    await reader.start()
    await asyncio.wait_for(reader.caught_up.wait(), WAIT_S_MAX)
    assert seqs == list(range(1, 901))

    (consumer,) = await ensure_task_consumer(on_leaf, TOPOLOGY, "t")
    done: list[int] = []

    def on_task(message: TaskMessage) -> None:
        done.append(message.stream_seq)
        puller.ack(message.reply)
        puller.refill()

    puller = PullConsumer(on_leaf, consumer.stream_name, consumer.name, on_task, lambda: 50, domain="H")
    await puller.start()
    await eventually(lambda: len(done) == 900, "all tasks are taken")
    assert sorted(done) == seqs

    bucket = Bucket(on_leaf, publisher, TOPOLOGY.leases_bucket)
    revision = await bucket.create("k", b"1", ttl_s=60)
    await bucket.update("k", b"2", revision)
    assert [entry.value for entry in (await bucket.entries()).values()] == [b"2"]
    await bucket.delete("k")
    assert await bucket.get("k", fresh=True) is None

    objects = Objects(on_leaf, publisher, TOPOLOGY)
    seal = await objects.put("o", b"z" * 1_000_000)
    assert await objects.get_all("o", seal) == b"z" * 1_000_000

    assert len(await last_by_subjects(on_leaf, stream, [SUBJECTS.run_all(1, "r")])) == 900
    last = await get_last(on_leaf, stream, SUBJECTS.task(1, "r", "t", 7), fresh=True)
    assert last is not None
    assert last.seq == 8
    await puller.stop()
    await reader.stop()
