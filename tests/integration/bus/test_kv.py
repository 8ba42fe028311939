"""Buckets: compare-and-set, expiry, one-request listings, and watches that miss nothing."""

from __future__ import annotations

import asyncio

import nats.js.errors
import pytest

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import WrongSequence
from dagnats_core.bus.jetstream import StreamInfo, api
from dagnats_core.bus.kv import Bucket, Entry
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.setup import _bucket
from tests.support.bus import eventually, unique


@pytest.fixture
async def bucket(connection: Connection, publisher: Publisher) -> Bucket:
    name = unique("B")
    await api(connection, f"STREAM.CREATE.KV_{name}", _bucket(name, 1, marker=True), StreamInfo)
    return Bucket(connection, publisher, name)


@pytest.mark.parametrize("fresh", [True, False])
async def test_put_get_delete(bucket: Bucket, fresh: bool) -> None:
    assert await bucket.get("a.b", fresh=fresh) is None
    revision = await bucket.put("a.b", b"1")
    entry = await bucket.get("a.b", fresh=fresh)
    assert entry is not None
    assert (entry.key, entry.value, entry.revision, entry.deleted) == ("a.b", b"1", revision, False)
    assert entry.time_ms > 1_700_000_000_000
    await bucket.delete("a.b")
    assert await bucket.get("a.b", fresh=fresh) is None
    assert await bucket.entries() == {}


async def test_create_only_once_and_again_after_a_delete(bucket: Bucket) -> None:
    first = await bucket.create("k", b"1")
    with pytest.raises(WrongSequence) as caught:
        await bucket.create("k", b"2")
    assert caught.value.stored_seq == first
    await bucket.delete("k")
    assert await bucket.create("k", b"3") > first


async def test_update_only_at_the_revision_that_stands(bucket: Bucket) -> None:
    first = await bucket.put("k", b"1")
    second = await bucket.update("k", b"2", first)
    with pytest.raises(WrongSequence):
        await bucket.update("k", b"3", first)
    with pytest.raises(WrongSequence):
        await bucket.delete("k", revision=first)
    await bucket.delete("k", revision=second)
    assert await bucket.get("k") is None


async def test_of_many_that_create_or_update_at_once_one_wins(bucket: Bucket) -> None:
    async def attempt(revision: int | None, n: int) -> bool:
        try:
            if revision is None:
                await bucket.create("k", str(n).encode())
            else:
                await bucket.update("k", str(n).encode(), revision)
        except WrongSequence:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(None, n) for n in range(20)))) == 1
    entry = await bucket.get("k", fresh=True)
    assert entry is not None
    assert sum(await asyncio.gather(*(attempt(entry.revision, n) for n in range(20)))) == 1


async def test_a_key_lives_as_long_as_its_last_write_says(bucket: Bucket) -> None:
    seen: list[Entry] = []
    watch = bucket.watch(">", seen.append)
    await watch.start()
    loop = asyncio.get_running_loop()
    started = loop.time()
    revision = await bucket.create("lease", b"1", ttl_s=1)
    await asyncio.sleep(0.6)
    renewed = loop.time()
    await bucket.update("lease", b"2", revision, ttl_s=1)
    await eventually(lambda: seen and seen[-1].deleted, "the watch is told that the key expired")
    assert loop.time() - renewed > 0.9
    assert loop.time() - started > 1.5
    assert [(entry.value, entry.deleted) for entry in seen] == [(b"1", False), (b"2", False), (b"", True)]
    assert await bucket.get("lease", fresh=True) is None
    assert await bucket.entries() == {}
    await bucket.create("lease", b"3")
    await watch.stop()


async def test_entries_match_whole_tokens(bucket: Bucket) -> None:
    for key in ("a.1", "a.2", "xa.1", "a", "a.b.c"):
        await bucket.put(key, key.encode())
    assert set(await bucket.entries()) == {"a.1", "a.2", "xa.1", "a", "a.b.c"}
    assert set(await bucket.entries("a.*")) == {"a.1", "a.2"}
    found = await bucket.entries("a.>")
    assert {key: entry.value for key, entry in found.items()} == {"a.1": b"a.1", "a.2": b"a.2", "a.b.c": b"a.b.c"}
    assert await bucket.entries("none.>") == {}


async def test_entries_beyond_one_request(bucket: Bucket, publisher: Publisher) -> None:
    for key in ("d.0", "d.1"):
        await bucket.put(key, b"old")
    await bucket.delete("d.1")
    for start in range(0, 2000, 1000):
        keys = range(start, start + 1000)
        await asyncio.gather(*(publisher.publish(f"$KV.{bucket.name}.m.{n}", str(n).encode()) for n in keys))
    entries = await bucket.entries()
    assert len(entries) == 2001
    assert entries["m.1999"].value == b"1999"
    assert "d.1" not in entries


async def test_a_watch_tells_what_stands_and_what_changes(bucket: Bucket) -> None:
    await bucket.put("w.a", b"1")
    await bucket.put("w.a", b"2")
    await bucket.put("other", b"x")
    seen: list[Entry] = []
    watch = bucket.watch("w.>", seen.append)
    await watch.start()
    await watch.caught_up.wait()
    assert [(entry.key, entry.value) for entry in seen] == [("w.a", b"2")]
    await bucket.put("w.b", b"3")
    await bucket.delete("w.a")
    await eventually(lambda: len(seen) == 3, "changes come")
    assert [(entry.key, entry.value, entry.deleted) for entry in seen[1:]] == [("w.b", b"3", False), ("w.a", b"", True)]
    await watch.stop()


async def test_other_clients_read_and_write_the_same_bucket(bucket: Bucket, connection: Connection) -> None:
    theirs = await connection.nats.jetstream().key_value(bucket.name)
    await bucket.put("k", b"ours")
    assert (await theirs.get("k")).value == b"ours"
    await theirs.put("k", b"theirs")
    entry = await bucket.get("k", fresh=True)
    assert entry is not None
    assert entry.value == b"theirs"
    await theirs.delete("k")
    assert await bucket.get("k", fresh=True) is None
    await bucket.create("k", b"again")
    await bucket.delete("k")
    with pytest.raises(nats.js.errors.KeyNotFoundError):
        await theirs.get("k")
