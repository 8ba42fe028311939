"""Timers that the server keeps: they fire, can be replaced and removed, and outlive the server."""

from __future__ import annotations

import asyncio
import time

import pytest

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.message import FastMessage, header_block
from dagnats_core.bus.publish import OutMessage, Publisher
from dagnats_core.bus.read import get_last
from dagnats_core.bus.schedule import Schedule, purge_headers, schedule_headers, stored_schedule
from tests.support.bus import eventually, make_stream, open_connection
from tests.support.nats import NatsServer


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Fired:
    """What fired on `<stream>.in.>`, and how late in ms."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self.subjects: list[str] = []
        self.data: list[bytes] = []
        self.times_ms: list[int] = []
        self.reader = OrderedReader(connection, stream, [f"{stream}.in.>"], self._on_message, start=1)

    def _on_message(self, message: FastMessage, seq: int, time_ms: int) -> None:
        self.subjects.append(message.subject)
        self.data.append(message.data)
        self.times_ms.append(time_ms)


async def test_a_timer_fires_once_when_it_is_due(stream: str, publisher: Publisher, connection: Connection) -> None:
    fired = Fired(connection, stream)
    await fired.reader.start()
    due = now_ms() + 600
    headers = schedule_headers(due, f"{stream}.in.1") + header_block({"X": "kept"})
    await publisher.publish(f"{stream}.timer", b"body", headers)
    standing = await get_last(connection, stream, f"{stream}.timer", fresh=True)
    assert standing is not None
    assert stored_schedule(standing) == Schedule(due, f"{stream}.in.1")
    await eventually(lambda: fired.subjects, "it fires")
    assert (fired.subjects, fired.data) == ([f"{stream}.in.1"], [b"body"])
    assert 0 <= fired.times_ms[0] - due < 500
    assert await get_last(connection, stream, f"{stream}.timer", fresh=True) is None, "a fired timer is gone"
    await fired.reader.stop()


async def test_arming_again_replaces(stream: str, publisher: Publisher, connection: Connection) -> None:
    fired = Fired(connection, stream)
    await fired.reader.start()
    await publisher.publish(f"{stream}.timer", b"first", schedule_headers(now_ms() + 60_000, f"{stream}.in.1"))
    await publisher.publish(f"{stream}.timer", b"second", schedule_headers(now_ms() + 300, f"{stream}.in.2"))
    await eventually(lambda: fired.subjects, "the second fires")
    assert fired.data == [b"second"]
    await fired.reader.stop()


@pytest.mark.parametrize("in_batch", [True, False])
async def test_a_message_removes_a_timer_as_it_is_stored(
    stream: str, publisher: Publisher, connection: Connection, in_batch: bool
) -> None:
    fired = Fired(connection, stream)
    await fired.reader.start()
    await publisher.publish(f"{stream}.timer", b"", schedule_headers(now_ms() + 400, f"{stream}.in.1"))
    await publisher.publish(f"{stream}.other", b"", schedule_headers(now_ms() + 700, f"{stream}.in.2"))
    purge = purge_headers(f"{stream}.timer")
    if in_batch:
        await publisher.publish_batch([OutMessage(f"{stream}.x", b""), OutMessage(f"{stream}.ended", b"", purge)])
    else:
        await publisher.publish(f"{stream}.ended", b"", purge)
    assert await get_last(connection, stream, f"{stream}.timer", fresh=True) is None
    await eventually(lambda: fired.subjects, "the other one fires")
    assert fired.subjects == [f"{stream}.in.2"]
    ended = await publisher.publish(f"{stream}.ended2", b"", purge)
    assert ended.seq, "removing what is not there is fine"
    await fired.reader.stop()


async def test_timers_outlive_the_server(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    publisher = Publisher(connection)
    await publisher.start()
    await make_stream(connection, "S")
    due = now_ms() + 300
    await asyncio.gather(
        *(publisher.publish(f"S.timer.{n}", b"", schedule_headers(due, f"S.in.{n}")) for n in range(50))
    )
    nats_server.kill()
    await asyncio.sleep(0.35)  # they become due while the server is down
    nats_server.start()
    await eventually(lambda: connection.connected, "it reconnects")
    fired = Fired(connection, "S")
    await fired.reader.start()
    await eventually(lambda: len(fired.subjects) >= 50, "overdue timers fire after the restart")
    assert sorted(fired.subjects) == sorted(f"S.in.{n}" for n in range(50))
    await fired.reader.stop()
    await connection.close()
