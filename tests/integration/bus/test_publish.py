"""Publishes: what is stored is acknowledged, what is refused says why, what is unknown says that."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import (
    ApiError,
    BatchRefused,
    Duplicate,
    NoStream,
    PublishTimeout,
    StoreFull,
    WrongSequence,
)
from dagnats_core.bus.message import header_block
from dagnats_core.bus.publish import OutMessage, PubAck, Publisher
from dagnats_core.bus.read import get_last, last_by_subjects
from dagnats_core.bus.schedule import schedule_headers
from dagnats_core.errors import TooLarge, Unavailable
from tests.support.bus import eventually, make_stream, open_connection, unique
from tests.support.nats import NatsServer

NEW = header_block({"Nats-Expected-Last-Subject-Sequence": "0"})


def fence(stamp: str, seq: int) -> bytes:
    return header_block(
        {
            "Nats-Expected-Last-Subject-Sequence": str(seq),
            "Nats-Expected-Last-Subject-Sequence-Subject": stamp,
        }
    )


async def outcome(future: asyncio.Future[PubAck]) -> PubAck | BaseException:
    await asyncio.wait({future})
    return future.exception() or future.result()


async def test_pipelined_publishes_are_stored_in_the_order_of_the_calls(stream: str, publisher: Publisher) -> None:
    futures = [publisher.publish(f"{stream}.{n}", str(n).encode()) for n in range(2000)]
    assert publisher.in_flight == 2000
    acks = await asyncio.gather(*futures)
    assert [ack.seq for ack in acks] == list(range(1, 2001))
    assert acks[0].stream == stream
    assert publisher.in_flight == 0


async def test_expect_nothing_there(stream: str, publisher: Publisher) -> None:
    first = publisher.publish(f"{stream}.a", b"1", NEW)
    again = publisher.publish(f"{stream}.a", b"2", NEW)
    assert (await first).seq == 1
    error = await outcome(again)
    assert isinstance(error, WrongSequence)
    assert error.stored_seq == 1


async def test_a_stamp_fences_everything_that_is_published_under_it(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    old = fence(f"{stream}.own.1", (await publisher.publish(f"{stream}.own.1", b"first owner")).seq)
    assert (await asyncio.gather(*(publisher.publish(f"{stream}.run.{n}", b"", old) for n in range(50))))[-1].seq == 51
    stamp = await publisher.publish(f"{stream}.own.1", b"second owner", old)
    stale = await asyncio.gather(*(outcome(publisher.publish(f"{stream}.late.{n}", b"", old)) for n in range(5)))
    assert all(isinstance(error, WrongSequence) for error in stale)
    batch = [OutMessage(f"{stream}.late.{n}", b"", old if n == 0 else b"") for n in range(5)]
    assert isinstance(await outcome(publisher.publish_batch(batch)), WrongSequence)
    assert await last_by_subjects(connection, stream, [f"{stream}.late.*"]) == []
    new = fence(f"{stream}.own.1", stamp.seq)
    batch = [OutMessage(f"{stream}.now.{n}", b"", new if n == 0 else b"") for n in range(5)]
    assert (await publisher.publish_batch(batch)).count == 5


async def test_a_batch_is_stored_whole_and_answers_with_its_last_sequence(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    await publisher.publish(f"{stream}.before", b"")
    ack = await publisher.publish_batch([OutMessage(f"{stream}.{n}", str(n).encode()) for n in range(1000)])
    assert (ack.seq, ack.count) == (1001, 1000)
    last = await get_last(connection, stream, f"{stream}.999", fresh=True)
    assert last is not None
    assert (last.seq, last.data) == (1001, b"999")


async def test_a_batch_of_one_is_a_plain_publish(stream: str, publisher: Publisher, connection: Connection) -> None:
    ack = await publisher.publish_batch([OutMessage(f"{stream}.a", b"1", NEW)])
    assert (ack.seq, ack.batch) == (1, "")
    with pytest.raises(ValueError, match="empty"):
        publisher.publish_batch([])


async def test_one_check_that_fails_refuses_the_whole_batch(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    await publisher.publish(f"{stream}.b", b"there")
    batch = [OutMessage(f"{stream}.{name}", b"", NEW) for name in ("a", "b", "c")]
    error = await outcome(publisher.publish_batch(batch))
    assert isinstance(error, WrongSequence)
    stored = await last_by_subjects(connection, stream, [f"{stream}.>"])
    assert [message.subject for message in stored] == [f"{stream}.b"]


async def test_a_known_message_id_is_told_apart_in_a_publish_and_refused_in_a_batch(
    stream: str, publisher: Publisher
) -> None:
    block = header_block({"Nats-Msg-Id": "one"})
    first = await publisher.publish(f"{stream}.a", b"", block)
    again = await publisher.publish(f"{stream}.a", b"", block)
    assert (first.duplicate, again.duplicate, again.seq) == (False, True, first.seq)
    batch = [OutMessage(f"{stream}.x", b""), OutMessage(f"{stream}.y", b"", block)]
    assert isinstance(await outcome(publisher.publish_batch(batch)), Duplicate)


async def test_what_no_stream_takes_is_told_at_once(publisher: Publisher) -> None:
    assert isinstance(await outcome(publisher.publish(unique("nowhere"), b"")), NoStream)


async def test_what_does_not_fit_is_never_sent(
    stream: str, publisher: Publisher, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = b"x" * (connection.max_payload + 1)
    assert isinstance(await outcome(publisher.publish(f"{stream}.a", large)), TooLarge)
    batch = [OutMessage(f"{stream}.a", b""), OutMessage(f"{stream}.b", large)]
    assert isinstance(await outcome(publisher.publish_batch(batch)), TooLarge)
    many = [OutMessage(f"{stream}.{n}", b"") for n in range(limits.BATCH_MESSAGES_MAX + 1)]
    error = await outcome(publisher.publish_batch(many))
    assert isinstance(error, TooLarge)
    assert "BATCH_MESSAGES_MAX" in error.message
    monkeypatch.setattr(limits, "BATCH_MESSAGES_MAX", 2000)
    refused = await outcome(publisher.publish_batch(many))
    assert isinstance(refused, BatchRefused)
    assert refused.err_code == 10199
    assert await last_by_subjects(connection, stream, [f"{stream}.>"]) == []
    assert publisher.in_flight == 0


async def test_a_full_stream_and_other_refusals_have_their_own_errors(
    publisher: Publisher, connection: Connection
) -> None:
    name = unique("F")
    await make_stream(connection, name, max_msgs=1, discard="new", allow_msg_schedules=False, max_msgs_per_subject=-1)
    await publisher.publish(f"{name}.a", b"")
    assert isinstance(await outcome(publisher.publish(f"{name}.b", b"")), StoreFull)
    assert isinstance(await outcome(publisher.publish(f"{name}.t", b"", schedule_headers(0, f"{name}.x"))), ApiError)


async def test_silence_means_unknown_and_is_told_in_time(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    publisher = Publisher(connection, timeout_s=0.3)
    await publisher.start()
    await make_stream(connection, "S")
    nats_server.pause()
    futures = [publisher.publish(f"S.{n}", b"") for n in range(3)]
    futures.append(publisher.publish_batch([OutMessage(f"S.b{n}", b"") for n in range(3)]))
    errors = [await outcome(future) for future in futures]
    assert all(isinstance(error, PublishTimeout) for error in errors)
    nats_server.resume()
    assert (await publisher.publish("S.after", b"")).seq == 7, "what was unknown had been on its way"
    await connection.close()


async def test_a_broken_connection_means_unknown_at_once_and_nothing_is_sent_late(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    publisher = Publisher(connection, timeout_s=60)
    await publisher.start()
    await make_stream(connection, "S")
    nats_server.pause()
    future = publisher.publish("S.a", b"")
    await asyncio.sleep(0)
    nats_server.kill()
    assert isinstance(await outcome(future), PublishTimeout)
    assert isinstance(await outcome(publisher.publish("S.b", b"")), Unavailable)
    assert isinstance(await outcome(publisher.publish_batch([OutMessage("S.c", b"")] * 2)), Unavailable)
    nats_server.start()
    await eventually(lambda: connection.connected, "it reconnects")
    await publisher.publish("S.z", b"")
    stored = await last_by_subjects(connection, "S", ["S.>"])
    assert [message.subject for message in stored if message.subject in ("S.b", "S.c")] == []
    await publisher.stop()
    await publisher.stop()
    await connection.close()


async def test_stopping_leaves_nothing_waiting(stream: str, connection: Connection) -> None:
    publisher = Publisher(connection)
    await publisher.stop()
    await publisher.start()
    future = publisher.publish(f"{stream}.a", b"")
    await publisher.stop()
    assert isinstance(await outcome(future), PublishTimeout)
