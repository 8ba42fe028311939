"""A site is made once, whoever comes first; checked by everybody else; refused when it is somebody else's."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.jetstream import StreamInfo, api
from dagnats_core.bus.message import header_block
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.read import last_by_subjects
from dagnats_core.bus.schedule import schedule_headers
from dagnats_core.bus.setup import FORMAT, SiteSettings, ensure, ensure_task_consumer
from dagnats_core.bus.subjects import Subjects, task_token
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import Conflict, Unavailable
from tests.support.bus import open_connection, unique
from tests.support.nats import NatsServer


@pytest.fixture
def topology() -> Topology:
    return Topology(unique("site"))


async def config(connection: Connection, stream: str) -> dict[str, object]:
    return (await api(connection, f"STREAM.INFO.{stream}", None, StreamInfo)).config


async def streams_of(connection: Connection, topology: Topology) -> dict[str, StreamInfo]:
    names = [*topology.run_streams, topology.archive_stream, topology.payloads_bucket]
    names += [
        f"KV_{bucket}"
        for bucket in (
            topology.definitions_bucket,
            topology.leases_bucket,
            topology.workers_bucket,
            topology.requests_bucket,
        )
    ]
    infos = await asyncio.gather(*(api(connection, f"STREAM.INFO.{name}", None, StreamInfo) for name in names))
    return dict(zip(names, infos, strict=True))


async def test_a_new_site_is_complete_and_says_what_it_is(connection: Connection, topology: Topology) -> None:
    site = await ensure(connection, topology, SiteSettings(durability="os", retention_ms=limits.DAY_MS))
    assert (site.site, site.format, site.partitions, site.shards, site.replicas) == (
        topology.site,
        FORMAT,
        limits.PARTITIONS,
        1,
        1,
    )
    assert len(site.site_id) == 16
    assert not site.synced
    assert site.server_version.startswith("2.")
    assert site.api_level >= 4
    made = await streams_of(connection, topology)
    assert made[topology.archive_stream].config["max_age"] == limits.DAY_MS * 1_000_000
    run = made[topology.run_streams[0]].config
    assert run["metadata"]["dagnats.site_id"] == site.site_id
    assert (run["max_msgs_per_subject"], run["retention"], run["max_age"]) == (1, "limits", 0)


async def test_many_starters_at_once_make_one_site(shared_nats: NatsServer, topology: Topology) -> None:
    connections = await asyncio.gather(*(open_connection(shared_nats) for _ in range(8)))
    sites = await asyncio.gather(*(ensure(connection, topology, SiteSettings()) for connection in connections))
    assert len(set(sites)) == 1
    await streams_of(connections[0], topology)
    for connection in connections:
        await connection.close()


async def test_a_site_keeps_what_it_was_made_with_and_takes_a_new_retention(
    connection: Connection, topology: Topology
) -> None:
    first = await ensure(connection, topology, SiteSettings(partitions=4))
    publisher = Publisher(connection)
    await publisher.start()
    await publisher.publish(Subjects(topology.site).start(1, "r"), b"kept")
    again = await ensure(connection, topology, SiteSettings(partitions=32, retention_ms=2 * limits.DAY_MS))
    assert (again.site_id, again.partitions) == (first.site_id, 4)
    assert (await config(connection, topology.archive_stream))["max_age"] == 2 * limits.DAY_MS * 1_000_000
    assert (await streams_of(connection, topology))[topology.run_streams[0]].state.messages == 1


async def test_a_lost_stream_is_made_again(connection: Connection, topology: Topology) -> None:
    await ensure(connection, topology, SiteSettings())
    await api(connection, f"STREAM.DELETE.KV_{topology.leases_bucket}", None, dict)
    await ensure(connection, topology, SiteSettings())
    await streams_of(connection, topology)


async def test_shards_share_the_partitions(connection: Connection) -> None:
    topology = Topology(unique("site"), shards=2)
    site = await ensure(connection, topology, SiteSettings(partitions=4))
    assert site.shards == 2
    publisher = Publisher(connection)
    await publisher.start()
    subjects = Subjects(topology.site)
    acks = [await publisher.publish(subjects.start(partition, "r"), b"") for partition in range(4)]
    assert [ack.stream for ack in acks] == [topology.run_stream(partition) for partition in range(4)]
    other = await ensure(connection, Topology(topology.site), SiteSettings())
    assert other.shards == 2, "the site knows better than who asks"
    consumers = await ensure_task_consumer(connection, topology, "t")
    assert [consumer.stream_name for consumer in consumers] == list(topology.run_streams)


async def test_another_site_of_the_same_name_names_both_ids(connection: Connection, topology: Topology) -> None:
    site = await ensure(connection, topology, SiteSettings(site_id="mine"))
    assert site.site_id == "mine"
    with pytest.raises(Conflict, match=r"theirs.*mine"):
        await ensure(connection, topology, SiteSettings(site_id="theirs"))


async def test_who_owns_the_store_takes_the_site_that_stands_on_it(connection: Connection, topology: Topology) -> None:
    first = await ensure(connection, topology, SiteSettings())
    owner = await ensure(connection, topology, SiteSettings(site_id="mine", adopt=True))
    assert owner.site_id == first.site_id != "mine"


async def test_a_site_of_a_newer_format_is_refused(connection: Connection, topology: Topology) -> None:
    await ensure(connection, topology, SiteSettings())
    run = await config(connection, topology.run_streams[0])
    metadata = {**dict(run["metadata"]), "dagnats.format": str(FORMAT + 1)}  # type: ignore[call-overload]
    await api(connection, f"STREAM.UPDATE.{topology.run_streams[0]}", {**run, "metadata": metadata}, StreamInfo)
    with pytest.raises(Conflict, match=f"format {FORMAT + 1}"):
        await ensure(connection, topology, SiteSettings())


async def test_a_stream_that_is_not_ours_is_refused(connection: Connection, topology: Topology) -> None:
    name = topology.run_streams[0]
    await api(connection, f"STREAM.CREATE.{name}", {"name": name, "subjects": [unique("x")]}, StreamInfo)
    with pytest.raises(Conflict, match="metadata"):
        await ensure(connection, topology, SiteSettings())


async def test_an_old_server_is_refused_with_its_version(
    connection: Connection, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagnats_core.bus.setup.API_LEVEL_MIN", 99)
    with pytest.raises(Unavailable, match=r"nats-server 2\.\d+\.\d+ .* level \d+.*99"):
        await ensure(connection, topology, SiteSettings())


async def test_replicas_that_the_server_cannot_give(connection: Connection, topology: Topology) -> None:
    with pytest.raises(Unavailable, match="replicas"):
        await ensure(connection, topology, SiteSettings(replicas=3))
    await ensure(connection, topology, SiteSettings())
    with pytest.raises(Conflict, match="replicas: 1, not 3"):
        await ensure(connection, topology, SiteSettings(replicas=3))


async def test_a_task_consumer_hands_out_its_own_tasks(connection: Connection, topology: Topology) -> None:
    await ensure(connection, topology, SiteSettings())
    publisher = Publisher(connection)
    await publisher.start()
    subjects = Subjects(topology.site)
    token, other = task_token("text.count", "gpu"), task_token("text.count")
    for n, each in enumerate((token, other, token)):
        await publisher.publish(subjects.task(n, "r", each, n), b"")
    (consumer,) = await ensure_task_consumer(connection, topology, token, ack_wait_ms=1500)
    assert consumer.num_pending == 2
    assert consumer.config["ack_wait"] == 1_500_000_000
    (again,) = await ensure_task_consumer(connection, topology, token, max_ack_pending=7)
    assert again.config["max_ack_pending"] == 7
    assert again.config["ack_wait"] == limits.ACK_WAIT_MS * 1_000_000


async def test_only_the_last_stamp_floor_and_timer_are_kept(connection: Connection, topology: Topology) -> None:
    await ensure(connection, topology, SiteSettings())
    publisher = Publisher(connection)
    await publisher.start()
    subjects = Subjects(topology.site)
    far = schedule_headers(4_000_000_000_000, subjects.timer_input(1, "r", "1"))
    for n in range(5):
        await publisher.publish(subjects.own(1), str(n).encode())
        await publisher.publish(subjects.floor(1), str(n).encode())
        await publisher.publish(subjects.timer(1, "r"), str(n).encode(), far)
        await publisher.publish(subjects.events(1, "r", n), b"", header_block({"X": "1"}))
    info = await api(connection, f"STREAM.INFO.{topology.run_streams[0]}", None, StreamInfo)
    assert info.state.messages == 3 + 5
    stored = await last_by_subjects(connection, topology.run_streams[0], [f"{subjects.prefix}.*.1"])
    assert [message.data for message in stored] == [b"4", b"4"]
