"""The pull loop: never more than there is room for, nothing forgotten, and on again after every kind of trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import PullConsumer, TaskMessage
from dagnats_core.bus.jetstream import ConsumerInfo, api
from dagnats_core.bus.publish import OutMessage, Publisher
from tests.support.bus import eventually, make_stream, open_connection, restart
from tests.support.nats import NatsServer

NS = 1_000_000_000


async def make_consumer(connection: Connection, stream: str, **config: object) -> None:
    body = {"name": "c", "durable_name": "c", "ack_policy": "explicit", "max_ack_pending": 10_000, **config}
    await api(connection, f"CONSUMER.CREATE.{stream}.c", {"stream_name": stream, "config": body}, ConsumerInfo)


async def info(connection: Connection, stream: str) -> ConsumerInfo:
    return await api(connection, f"CONSUMER.INFO.{stream}.c", None, ConsumerInfo)


async def fill(publisher: Publisher, stream: str, count: int, first: int = 0) -> None:
    await publisher.publish_batch([OutMessage(f"{stream}.{n}", b"") for n in range(first, first + count)])


class Worker:
    """Takes what the consumer delivers and holds it until it is told to finish."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        room: int,
        on_lost: Callable[[str], None] | None = None,
        expires_s: Callable[[], float] = lambda: 20.0,
    ) -> None:
        self.room = room
        self.held: list[TaskMessage] = []
        self.seen: list[TaskMessage] = []
        self.most = 0
        self.consumer = PullConsumer(
            connection, stream, "c", self.on_message, self.slots, on_lost=on_lost, expires_s=expires_s
        )

    def slots(self) -> int:
        return self.room - len(self.held)

    def on_message(self, message: TaskMessage) -> None:
        self.held.append(message)
        self.seen.append(message)
        self.most = max(self.most, len(self.held) + self.consumer.outstanding)

    def finish(self, count: int = 1_000_000) -> None:
        for message in self.held[:count]:
            self.consumer.ack(message.reply)
        del self.held[:count]
        self.consumer.refill()


async def test_it_takes_no_more_than_it_has_room_for_and_then_everything(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    await make_consumer(connection, stream)
    await fill(publisher, stream, 100)
    worker = Worker(connection, stream, room=7)
    await worker.consumer.start()
    await eventually(lambda: len(worker.held) == 7, "its room is filled")
    assert worker.consumer.outstanding == 0
    while len(worker.seen) < 100:
        count = len(worker.seen)
        worker.finish(3)
        await eventually(lambda count=count: len(worker.seen) > count, "freed room is filled")  # type: ignore[misc]
    worker.finish()
    await connection.flush()
    assert worker.most <= 7
    assert [m.stream_seq for m in worker.seen] == list(range(1, 101))
    assert {m.deliveries for m in worker.seen} == {1}
    assert worker.seen[0].pending == 99
    assert worker.seen[0].time_ms > 1_700_000_000_000
    state = await info(connection, stream)
    assert (state.num_pending, state.num_ack_pending) == (0, 0)
    await worker.consumer.stop()


async def test_requests_that_expire_are_made_again(stream: str, publisher: Publisher, connection: Connection) -> None:
    await make_consumer(connection, stream)
    worker = Worker(connection, stream, room=5, expires_s=lambda: 0.2)
    await worker.consumer.start()
    await asyncio.sleep(0.5)  # two requests expire
    assert worker.consumer.outstanding == 5
    await fill(publisher, stream, 3)
    await eventually(lambda: len(worker.held) == 3, "a later request gets the messages")
    await asyncio.sleep(0.5)
    assert worker.consumer.outstanding == 2
    assert (await info(connection, stream)).num_waiting <= 2
    await worker.consumer.stop()


async def test_what_is_given_back_comes_again_and_what_is_in_progress_does_not(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    await make_consumer(connection, stream, ack_wait=int(0.6 * NS))
    await fill(publisher, stream, 3)
    worker = Worker(connection, stream, room=10)
    await worker.consumer.start()
    await eventually(lambda: len(worker.held) == 3, "all come")
    first, second, third = worker.held
    worker.consumer.nak(first.reply)
    await eventually(lambda: len(worker.seen) == 4, "given back, it comes at once")
    again = worker.seen[3]
    assert (again.stream_seq, again.deliveries) == (first.stream_seq, 2)
    await worker.consumer.ack_sync(again.reply)
    loop = asyncio.get_running_loop()
    started = loop.time()
    worker.consumer.nak(second.reply, delay_s=0.4)
    for _ in range(8):
        worker.consumer.in_progress(third.reply)
        await asyncio.sleep(0.15)  # 1.2 s: twice the ack_wait
    assert [m.stream_seq for m in worker.seen[4:5]] == [second.stream_seq]
    assert loop.time() - started > 0.4
    assert third.stream_seq not in [m.stream_seq for m in worker.seen[4:]]
    worker.consumer.ack(third.reply)
    await worker.consumer.stop()


async def test_a_stop_gives_back_what_is_on_its_way(stream: str, publisher: Publisher, connection: Connection) -> None:
    await make_consumer(connection, stream, ack_wait=60 * NS)
    first = Worker(connection, stream, room=500)
    await first.consumer.start()
    await connection.flush()
    await fill(publisher, stream, 500)
    await first.consumer.stop()
    taken = {m.stream_seq for m in first.held}
    second = Worker(connection, stream, room=500)
    await second.consumer.start()
    await eventually(lambda: len(second.held) == 500 - len(taken), "another worker gets the rest at once")
    assert taken.isdisjoint(m.stream_seq for m in second.held)
    await second.consumer.stop()
    await second.consumer.stop()


async def test_a_consumer_that_is_gone_is_told_and_found_again(
    stream: str, publisher: Publisher, connection: Connection
) -> None:
    lost: list[str] = []
    worker = Worker(connection, stream, room=5, on_lost=lost.append)
    await worker.consumer.start()
    await eventually(lambda: lost, "no consumer: told")
    assert lost[0].startswith("503")
    await make_consumer(connection, stream)
    await fill(publisher, stream, 2)
    await eventually(lambda: len(worker.held) == 2, "made later, it is found")
    lost.clear()
    await api(connection, f"CONSUMER.DELETE.{stream}.c", None, dict)
    await eventually(lambda: lost, "deleted: told")
    assert "Consumer Deleted" in lost[0]
    await make_consumer(connection, stream)
    await fill(publisher, stream, 2, first=2)
    await eventually(lambda: len(worker.seen) >= 5, "made again, it is found again")
    assert worker.most <= 5
    await worker.consumer.stop()


async def test_a_server_that_falls_silent_is_noticed(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagnats_core.bus.consume.PULL_SILENCE_S", 0.5)
    monkeypatch.setattr("dagnats_core.bus.consume.PULL_HEARTBEAT_S", 0.2)
    connection = await open_connection(nats_server)
    publisher = Publisher(connection)
    await publisher.start()
    await make_stream(connection, "S")
    await make_consumer(connection, "S")
    worker = Worker(connection, "S", room=5)
    await worker.consumer.start()
    await connection.flush()
    inbox = worker.consumer._inbox
    nats_server.pause()
    await eventually(lambda: worker.consumer._inbox != inbox, "silence ends the request")
    nats_server.resume()
    await fill(publisher, "S", 5)
    await eventually(lambda: len(worker.held) == 5, "the new request is served")
    assert worker.most <= 5
    await worker.consumer.stop()
    await connection.close()


async def test_it_goes_on_after_kill_and_restart(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    publisher = Publisher(connection)
    await publisher.start()
    await make_stream(connection, "S")
    await make_consumer(connection, "S")
    worker = Worker(connection, "S", room=50)
    await worker.consumer.start()
    done: set[str] = set()
    for life in range(3):
        await fill(publisher, "S", 100, first=life * 100)
        while len(done) < (life + 1) * 100:
            await eventually(lambda: worker.held, "work comes")
            done |= {m.subject for m in worker.held}
            assert len(worker.held) <= 50
            worker.finish()
        await restart(nats_server, connection)
    assert worker.most <= 50
    assert done == {f"S.{n}" for n in range(300)}
    await worker.consumer.stop()
    await connection.close()
