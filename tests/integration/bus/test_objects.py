"""Objects: written once, read in parts, whole or refused."""

from __future__ import annotations

import hashlib
import random

import pytest

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.jetstream import StreamInfo, api
from dagnats_core.bus.objects import CHUNK_BYTES, Objects, Seal
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.setup import payloads_stream
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import Conflict, DagNatsError, Invalid, NotFound, TooLarge
from tests.support.bus import unique


@pytest.fixture
async def topology(connection: Connection) -> Topology:
    topology = Topology(unique("objects"))
    await api(connection, f"STREAM.CREATE.{topology.payloads_bucket}", payloads_stream(topology, 1), StreamInfo)
    return topology


@pytest.fixture
def objects(connection: Connection, publisher: Publisher, topology: Topology) -> Objects:
    return Objects(connection, publisher, topology)


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * limits.MIB])
async def test_what_is_put_is_got(objects: Objects, size: int) -> None:
    data = some_bytes(size)
    seal = await objects.put("o", data)
    assert seal == Seal(size, hashlib.sha256(data).hexdigest())
    assert await objects.sealed("o") == seal
    assert await objects.get_all("o", seal) == data
    assert await objects.put("o", data) == seal, "the same again is fine"


async def test_parts_are_read_without_the_rest(objects: Objects) -> None:
    data = some_bytes(3 * CHUNK_BYTES + 100)
    await objects.put("o", data)
    for offset, length in (
        (0, 10),
        (CHUNK_BYTES - 3, 6),
        (CHUNK_BYTES, CHUNK_BYTES),
        (len(data) - 5, 50),
        (0, 1 << 30),
    ):
        assert await objects.get("o", offset, length) == data[offset : offset + length]
    assert await objects.get("o", len(data), 10) == b""
    assert await objects.chunk("o", 3) == data[3 * CHUNK_BYTES :]
    with pytest.raises(NotFound):
        await objects.chunk("o", 4)
    with pytest.raises(NotFound):
        await objects.get("none", 0, 1)


async def test_nothing_is_written_over(objects: Objects) -> None:
    await objects.put("o", b"one")
    with pytest.raises(Conflict, match="written once"):
        await objects.put("o", b"two")
    assert await objects.get("o", 0, 10) == b"one"


async def test_chunks_come_in_any_order_and_again_and_are_sealed_at_the_end(objects: Objects) -> None:
    data = some_bytes(2 * CHUNK_BYTES + 5)
    digest = hashlib.sha256(data).hexdigest()
    await objects.put_chunk("o", 2, data[2 * CHUNK_BYTES :])
    await objects.put_chunk("o", 0, data[:CHUNK_BYTES])
    await objects.put_chunk("o", 0, data[:CHUNK_BYTES])
    assert await objects.sealed("o") is None
    with pytest.raises(Invalid, match="3 chunks, but 2"):
        await objects.seal("o", len(data), digest)
    await objects.put_chunk("o", 1, data[CHUNK_BYTES : 2 * CHUNK_BYTES])
    with pytest.raises(Invalid, match="does not end"):
        await objects.seal("o", len(data) - 1, digest)
    seal = await objects.seal("o", len(data), digest)
    assert await objects.seal("o", len(data), digest) == seal
    assert await objects.get_all("o", seal) == data
    with pytest.raises(Conflict):
        await objects.seal("o", len(data), "0" * 64)


async def test_bounds(objects: Objects) -> None:
    with pytest.raises(TooLarge, match="PAYLOAD_CHUNK_BYTES_MAX"):
        await objects.put_chunk("o", 0, b"x" * (CHUNK_BYTES + 1))
    with pytest.raises(TooLarge, match="PAYLOAD_BYTES_MAX"):
        await objects.put_chunk("o", limits.PAYLOAD_BYTES_MAX // CHUNK_BYTES, b"x")
    with pytest.raises(Invalid, match="empty"):
        await objects.put_chunk("o", 0, b"")


async def test_damage_is_noticed(objects: Objects) -> None:
    seal = await objects.put("o", b"right")
    with pytest.raises(DagNatsError, match="damaged"):
        await objects.get_all("o", Seal(seal.size, "0" * 64))


async def test_a_deleted_object_is_gone_and_others_stay(objects: Objects) -> None:
    await objects.put("one", b"1")
    await objects.put("two", b"2")
    await objects.delete("one")
    await objects.delete("one")
    assert await objects.sealed("one") is None
    with pytest.raises(NotFound):
        await objects.chunk("one", 0)
    assert await objects.get("two", 0, 1) == b"2"
