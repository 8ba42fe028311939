"""Reads of what a stream holds: consistent, complete, bounded, and honest about what is not there."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import ConnectionLost, NoResponders, TooManySubjects
from dagnats_core.bus.message import header_block
from dagnats_core.bus.publish import OutMessage, Publisher
from dagnats_core.bus.read import get_by_seq, get_last, last_by_subjects, read_from
from dagnats_core.errors import Unavailable
from tests.support.bus import make_stream, open_connection
from tests.support.nats import NatsServer


async def test_last_of_each_subject_ascending(stream: str, publisher: Publisher, connection: Connection) -> None:
    for name in ("b", "a", "b", "c.d"):
        await publisher.publish(f"{stream}.{name}", name.encode(), header_block({"X": name}))
    stored = await last_by_subjects(connection, stream, [f"{stream}.>"])
    assert [(m.subject, m.seq, m.data, m.header("X")) for m in stored] == [
        (f"{stream}.a", 2, b"a", "a"),
        (f"{stream}.b", 3, b"b", "b"),
        (f"{stream}.c.d", 4, b"c.d", "c.d"),
    ]
    assert all(m.time_ms > 1_700_000_000_000 for m in stored)
    some = await last_by_subjects(connection, stream, [f"{stream}.a", f"{stream}.c.*"])
    assert [m.seq for m in some] == [2, 4]
    assert await last_by_subjects(connection, stream, [f"{stream}.nothing"]) == []


async def test_a_cut_at_a_sequence(connection: Connection, publisher: Publisher) -> None:
    await make_stream(connection, "CUT", max_msgs_per_subject=-1)
    for n in range(4):
        await publisher.publish(f"CUT.{n % 2}", str(n).encode())
    stored = await last_by_subjects(connection, "CUT", ["CUT.>"], up_to_seq=3)
    assert [(m.subject, m.data) for m in stored] == [("CUT.1", b"1"), ("CUT.0", b"2")]


async def test_1024_subjects_are_read_and_1025_are_refused(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    await publisher.publish_batch([OutMessage(f"{stream}.{n}", b"") for n in range(1000)])
    await publisher.publish_batch([OutMessage(f"{stream}.{n}", b"") for n in range(1000, 1024)])
    assert len(await last_by_subjects(connection, stream, [f"{stream}.>"])) == 1024
    await publisher.publish(f"{stream}.1024", b"")
    with pytest.raises(TooManySubjects, match="1024"):
        await last_by_subjects(connection, stream, [f"{stream}.>"])


async def test_an_answer_that_the_server_cuts_by_bytes_is_read_to_its_end(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    body = b"x" * 900_000
    for n in range(90):  # 81 MB: the server ends an answer at its max_pending of 64 MB
        await publisher.publish(f"{stream}.{n}", body)
    stored = await last_by_subjects(connection, stream, [f"{stream}.>"])
    assert [m.seq for m in stored] == list(range(1, 91))
    assert all(len(m.data) == len(body) for m in stored)


async def test_reading_on_from_a_sequence_in_pages(stream: str, publisher: Publisher, connection: Connection) -> None:
    for n in range(7):
        await publisher.publish(f"{stream}.{'even' if n % 2 == 0 else 'odd'}.{n}", b"")
    page, more = await read_from(connection, stream, f"{stream}.even.*", 1, 3)
    assert ([m.seq for m in page], more) == ([1, 3, 5], True)
    page, more = await read_from(connection, stream, f"{stream}.even.*", 6, 3)
    assert ([m.seq for m in page], more) == ([7], False)
    page, more = await read_from(connection, stream, f"{stream}.even.*", 8, 3)
    assert (page, more) == ([], False)


@pytest.mark.parametrize("fresh", [True, False])
async def test_one_message_by_subject_and_by_sequence(
    stream: str, publisher: Publisher, connection: Connection, fresh: bool
) -> None:
    block = header_block({"X": "1"})
    await publisher.publish(f"{stream}.a", b"body", block)
    await publisher.publish(f"{stream}.empty", b"")
    for message in (
        await get_last(connection, stream, f"{stream}.a", fresh=fresh),
        await get_by_seq(connection, stream, 1, fresh=fresh),
    ):
        assert message is not None
        assert (message.subject, message.seq, message.data, message.header("X")) == (f"{stream}.a", 1, b"body", "1")
    empty = await get_last(connection, stream, f"{stream}.empty", fresh=fresh)
    assert empty is not None
    assert empty.data == b""
    assert await get_last(connection, stream, f"{stream}.no", fresh=fresh) is None
    assert await get_by_seq(connection, stream, 99, fresh=fresh) is None


async def test_a_stream_that_is_not_there(connection: Connection) -> None:
    with pytest.raises(NoResponders):
        await last_by_subjects(connection, "NOSUCH", ["a"])
    with pytest.raises(NoResponders):
        await get_last(connection, "NOSUCH", "a")
    assert await get_last(connection, "NOSUCH", "a", fresh=True) is None


async def test_a_read_ends_when_the_connection_does(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    await make_stream(connection, "S")
    nats_server.pause()
    reads = [
        asyncio.ensure_future(last_by_subjects(connection, "S", ["S.>"])),
        asyncio.ensure_future(get_last(connection, "S", "S.a")),
    ]
    await asyncio.sleep(0.01)
    nats_server.kill()
    for read in reads:
        with pytest.raises(ConnectionLost):
            await read
    with pytest.raises(Unavailable):
        await last_by_subjects(connection, "S", ["S.>"])
    await connection.close()
