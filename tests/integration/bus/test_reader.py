"""The ordered reader: each message once and in order, whatever happens to its consumer, connection or server."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.jetstream import api
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.publish import OutMessage, Publisher
from dagnats_core.errors import NotFound
from tests.support.bus import eventually, make_stream, open_connection, restart, unique
from tests.support.nats import NatsServer


class Seen:
    """What a reader delivered."""

    def __init__(self) -> None:
        self.messages: list[FastMessage] = []
        self.seqs: list[int] = []
        self.times_ms: list[int] = []
        self.gaps: list[str] = []

    def on_message(self, message: FastMessage, seq: int, time_ms: int) -> None:
        self.messages.append(message)
        self.seqs.append(seq)
        self.times_ms.append(time_ms)


async def fill(publisher: Publisher, stream: str, first: int, count: int, size: int = 0) -> None:
    for start in range(first, first + count, 500):
        end = min(start + 500, first + count)
        await publisher.publish_batch([OutMessage(f"{stream}.{n}", b"x" * size) for n in range(start, end)])


async def test_it_delivers_what_is_stored_and_what_comes(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    await fill(publisher, stream, 1, 5000, size=300)
    seen = Seen()
    reader = OrderedReader(connection, stream, [f"{stream}.>"], seen.on_message, start=1)
    await reader.start()
    assert not reader.caught_up.is_set()
    await reader.caught_up.wait()
    assert seen.seqs == list(range(1, 5001))
    assert (reader.pending, reader.last_seq) == (0, 5000)
    await fill(publisher, stream, 5001, 20000, size=300)
    await eventually(lambda: len(seen.seqs) >= 25000, "flow control lets everything through")
    assert seen.seqs == list(range(1, 25001))
    assert seen.messages[-1].subject == f"{stream}.25000"
    assert seen.times_ms[-1] > 1_700_000_000_000
    assert seen.gaps == []
    await reader.stop()
    consumers = await api(connection, f"CONSUMER.NAMES.{stream}", None, dict)
    assert not consumers["consumers"], "a stopped reader leaves no consumer"


@pytest.mark.parametrize(("start", "expected"), [(0, [1, 2, 3, 4]), (3, [3, 4]), (5, []), (9, [])])
async def test_it_starts_where_it_is_told(
    stream: str, publisher: Publisher, connection: Connection, start: int, expected: list[int]
) -> None:
    await fill(publisher, stream, 1, 4)
    seen = Seen()
    reader = OrderedReader(connection, stream, [f"{stream}.*"], seen.on_message, start=start)
    await reader.start()
    await reader.caught_up.wait()
    assert seen.seqs == expected
    await fill(publisher, stream, 5, 6)
    await eventually(lambda: seen.seqs[-1:] == [10], "it goes on")
    assert seen.seqs == [*expected, 5, 6, 7, 8, 9, 10]
    await reader.stop()


async def test_new_means_after_the_start(stream: str, publisher: Publisher, connection: Connection) -> None:
    await fill(publisher, stream, 1, 4)
    seen = Seen()
    reader = OrderedReader(connection, stream, [f"{stream}.*"], seen.on_message, start="new")
    await reader.start()
    assert reader.caught_up.is_set()
    await fill(publisher, stream, 5, 2)
    await eventually(lambda: len(seen.seqs) == 2, "new messages come")
    assert seen.seqs == [5, 6]
    await reader.stop()


async def test_last_per_subject_filters_and_headers_only(connection: Connection, publisher: Publisher) -> None:
    name = unique("L")
    await make_stream(connection, name, max_msgs_per_subject=-1)
    for n in range(6):
        await publisher.publish(f"{name}.{'abc'[n % 3]}", b"body")
    seen = Seen()
    reader = OrderedReader(
        connection,
        name,
        [f"{name}.a", f"{name}.c"],
        seen.on_message,
        start="last_per_subject",
        headers_only=True,
    )
    await reader.start()
    await reader.caught_up.wait()
    assert [(m.subject, m.data) for m in seen.messages] == [(f"{name}.a", b""), (f"{name}.c", b"")]
    assert seen.seqs == [4, 6]
    await reader.stop()


async def test_a_stream_that_is_not_there_is_told_at_the_start(connection: Connection) -> None:
    reader = OrderedReader(connection, "NOSUCH", ["a"], Seen().on_message, start=1)
    with pytest.raises(NotFound):
        await reader.start()
    await reader.stop()


async def test_it_goes_on_behind_the_last_message_when_its_consumer_is_gone(
    stream: str, publisher: Publisher, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagnats_core.bus.consume.READER_SILENCE_S", 1.2)
    await fill(publisher, stream, 1, 3)
    seen = Seen()
    reader = OrderedReader(connection, stream, [f"{stream}.*"], seen.on_message, start=1, on_gap=seen.gaps.append)
    await reader.start()
    await reader.caught_up.wait()
    names = (await api(connection, f"CONSUMER.NAMES.{stream}", None, dict))["consumers"]
    await api(connection, f"CONSUMER.DELETE.{stream}.{names[0]}", None, dict)
    await fill(publisher, stream, 4, 3)
    await eventually(lambda: len(seen.seqs) == 6, "silence makes a new consumer")
    assert seen.seqs == [1, 2, 3, 4, 5, 6]
    assert "nothing heard" in seen.gaps[0]
    await reader.stop()


async def test_a_delivery_that_went_missing_is_fetched_again(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    seen = Seen()
    reader = OrderedReader(connection, stream, [f"{stream}.*"], seen.on_message, start=1, on_gap=seen.gaps.append)
    await reader.start()
    await fill(publisher, stream, 1, 2)
    await eventually(lambda: len(seen.seqs) == 2, "the first come")
    assert reader._subscription is not None
    callbacks = connection._client.callbacks
    key = str(reader._subscription._id)
    deliver, dropped = callbacks[key], []
    callbacks[key] = dropped.append
    await fill(publisher, stream, 3, 1)
    await eventually(lambda: dropped, "one is lost on the way")
    callbacks[key] = deliver
    await fill(publisher, stream, 4, 2)
    await eventually(lambda: len(seen.seqs) == 5, "the gap is seen and filled")
    assert seen.seqs == [1, 2, 3, 4, 5]
    assert len(seen.gaps) == 1
    await reader.stop()


async def test_a_callback_that_fails_does_not_stop_it(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    seqs: list[int] = []

    def on_message(message: FastMessage, seq: int, time_ms: int) -> None:
        seqs.append(seq)
        if seq == 2:
            raise RuntimeError("planned")

    await fill(publisher, stream, 1, 3)
    reader = OrderedReader(connection, stream, [f"{stream}.*"], on_message, start=1)
    await reader.start()
    await reader.caught_up.wait()
    assert seqs == [1, 2, 3]
    await reader.stop()


async def test_no_gap_and_no_duplicate_over_kills_of_the_server(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    publisher = Publisher(connection)
    await publisher.start()
    await make_stream(connection, "S")
    seen = Seen()
    reader = OrderedReader(connection, "S", ["S.*"], seen.on_message, start=1, on_gap=seen.gaps.append)
    await reader.start()
    stored: set[str] = set()
    stop = asyncio.Event()

    async def publish() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            future = publisher.publish(f"S.{n}", b"x" * 100)
            future.add_done_callback(lambda f, n=n: stored.add(f"S.{n}") if not f.exception() else None)  # type: ignore[misc]
            if n % 20 == 0:
                await asyncio.sleep(0.001)

    publishing = asyncio.ensure_future(publish())
    for _ in range(3):
        count = len(seen.seqs)
        await eventually(lambda count=count: len(seen.seqs) > count + 200, "messages flow")  # type: ignore[misc]
        await restart(nats_server, connection)
    count = len(seen.seqs)
    await eventually(lambda: len(seen.seqs) > count + 200, "messages flow again")
    stop.set()
    await publishing
    await eventually(lambda: stored <= {m.subject for m in seen.messages}, "all that was acknowledged is delivered")
    assert seen.seqs == list(range(1, len(seen.seqs) + 1)), "no gap, no duplicate, in order"
    assert seen.gaps
    await reader.stop()
    await reader.stop()
    await connection.close()


async def test_it_says_so_when_the_stream_went_back(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    publisher = Publisher(connection)
    await publisher.start()
    await make_stream(connection, "S")
    await fill(publisher, "S", 1, 10)
    seen = Seen()
    reader = OrderedReader(connection, "S", ["S.*"], seen.on_message, start=1, on_gap=seen.gaps.append)
    await reader.start()
    await reader.caught_up.wait()
    await api(connection, "STREAM.DELETE.S", None, dict)
    await make_stream(connection, "S")
    await fill(publisher, "S", 1, 4)
    await restart(nats_server, connection, kill=False)
    await eventually(lambda: any("lost messages" in gap for gap in seen.gaps), "it notices")
    await publisher.publish("S.next", b"")
    await eventually(lambda: seen.seqs[-1] == 5, "it goes on from where the stream now ends")
    assert seen.seqs == [*range(1, 11), 5]
    await reader.stop()
    await connection.close()


async def test_catch_up_waits_for_what_was_stored_before_the_call(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    seen = Seen()
    reader = OrderedReader(connection, stream, [f"{stream}.odd.*"], seen.on_message, start=1)
    await reader.start()
    for n in range(30):
        await publisher.publish(f"{stream}.{'odd' if n % 2 else 'even'}.{n}", b"")
    await asyncio.wait_for(reader.catch_up(), 10)
    assert len(seen.seqs) == 15
    await reader.stop()
