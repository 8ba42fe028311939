"""What engines rely on of the run log, held against nats-server and against the simulation's stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from dagnats_core import limits
from dagnats_core.bus.errors import BatchRefused, WrongSequence
from dagnats_core.bus.publish import OutMessage
from dagnats_core.bus.schedule import purge_headers, schedule_headers
from dagnats_core.engine.ports import LogPort
from dagnats_core.errors import TooLarge
from dagnats_core.run import messages as m
from tests.conformance.conftest import Ports, Run

RUN = "01hf7yat2kmap2qvrzde0b6srm00"
OTHER = "01hf7yat2kmap2qvrzde0b6srn00"
NEW = b"Nats-Expected-Last-Subject-Sequence: 0\r\n"


def fence(subject: str, seq: int) -> bytes:
    check = "Nats-Expected-Last-Subject-Sequence"
    return f"{check}: {seq}\r\n{check}-Subject: {subject}\r\n".encode()


async def stamp(ports: Ports, body: bytes = b"{}", expected: int = 0) -> bytes:
    """Stamp partition 0; the fence of what is published under it."""
    own = ports.subjects.own(0)
    headers = b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % expected
    return fence(own, (await ports.log.publish(own, body, headers)).seq)


async def stored(log: LogPort, run_id: str = RUN) -> list[tuple[str, bytes]]:
    return [(message.kind, message.data) for message in (await log.read_run(0, run_id)).log]


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for what others do. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def test_an_expected_sequence_that_does_not_hold_refuses(run: Run) -> None:
    async def test(ports: Ports) -> None:
        subject = ports.subjects.start(0, RUN)
        first = await ports.log.publish(subject, b"{}", NEW)
        with pytest.raises(WrongSequence) as refused:
            await ports.log.publish(subject, b"[]", NEW)
        assert refused.value.stored_seq == first.seq
        mark = await ports.log.last(0, subject)
        assert (mark.seq, mark.data) == (first.seq, b"{}")
        assert await ports.log.last(0, ports.subjects.own(1)) == (0, b"")

    run(test)


def test_a_fence_holds_until_the_next_stamp(run: Run) -> None:
    async def test(ports: Ports) -> None:
        first = await stamp(ports)
        seqs = [(await ports.log.publish(ports.subjects.events(0, RUN, n), b'{"n":%d}' % n, first)).seq for n in (1, 2)]
        assert seqs[0] < seqs[1]
        mark = await ports.log.last(0, ports.subjects.own(0))
        second = await stamp(ports, b"[]", mark.seq)
        with pytest.raises(WrongSequence):
            await ports.log.publish(ports.subjects.events(0, RUN, 3), b'{"n":3}', first)
        await ports.log.publish(ports.subjects.events(0, RUN, 4), b'{"n":4}', second)
        assert await stored(ports.log) == [("out.events", b'{"n":%d}' % n) for n in (1, 2, 4)]

    run(test)


def test_pipelined_publishes_under_one_fence_are_stored_in_order(run: Run) -> None:
    async def test(ports: Ports) -> None:
        held = await stamp(ports)
        futures = [ports.log.publish(ports.subjects.events(0, RUN, n), b"%d" % n, held) for n in range(1, 51)]
        acks = await asyncio.gather(*futures)
        assert [ack.seq for ack in acks] == sorted(ack.seq for ack in acks)
        assert [data for _, data in await stored(ports.log)] == [b"%d" % n for n in range(1, 51)]

    run(test)


def test_a_batch_is_stored_whole_or_not_at_all(run: Run) -> None:
    async def test(ports: Ports) -> None:
        held = await stamp(ports)
        units = [OutMessage(ports.subjects.events(0, RUN, n), b"%d" % n, held) for n in (1, 2, 3)]
        ack = await ports.log.publish_batch(units)
        assert await stored(ports.log) == [("out.events", b"%d" % n) for n in (1, 2, 3)]
        assert (await ports.log.last(0, ports.subjects.events(0, RUN, 3))).seq == ack.seq
        mark = await ports.log.last(0, ports.subjects.own(0))
        await stamp(ports, b"[]", mark.seq)
        late = [OutMessage(ports.subjects.events(0, RUN, n), b"%d" % n, held) for n in (4, 5)]
        with pytest.raises((WrongSequence, BatchRefused)):
            await ports.log.publish_batch(late)
        assert len(await stored(ports.log)) == 3

    run(test)


def test_one_failed_check_refuses_the_units_beside_it(run: Run) -> None:
    async def test(ports: Ports) -> None:
        await ports.log.publish(ports.subjects.start(0, RUN), b"{}", NEW)
        both = [OutMessage(ports.subjects.start(0, run_id), b"[]", NEW) for run_id in (OTHER, RUN)]
        with pytest.raises((WrongSequence, BatchRefused)):
            await ports.log.publish_batch(both)
        assert await stored(ports.log, OTHER) == []
        assert await stored(ports.log) == [("in.start", b"{}")]

    run(test)


def test_a_batch_has_its_bound(run: Run) -> None:
    async def test(ports: Ports) -> None:
        held = await stamp(ports)
        count = limits.BATCH_MESSAGES_MAX
        units = [OutMessage(ports.subjects.events(0, RUN, n), b"{}", held) for n in range(count + 1)]
        with pytest.raises((TooLarge, BatchRefused)):
            await ports.log.publish_batch(units)
        await ports.log.publish_batch(units[:count])
        assert len(await stored(ports.log)) == count

    run(test)


def test_of_a_subject_the_last_message_counts(run: Run) -> None:
    async def test(ports: Ports) -> None:
        held = await stamp(ports)
        for seq in (3, 7):
            await ports.log.publish(ports.subjects.floor(0), m.encode(m.Floor(m.FORMAT, seq)), held)
        mark = await ports.log.last(0, ports.subjects.floor(0))
        assert m.decode_floor(mark.data).seq == 7

    run(test)


def arm(ports: Ports, due_ms: int, held: bytes, key: str = "k") -> OutMessage:
    target = ports.subjects.timer_input(0, RUN, key)
    data = m.encode(m.TimerFired(m.FORMAT, due_ms))
    return OutMessage(ports.subjects.timer(0, RUN), data, held + schedule_headers(due_ms, target))


def test_a_timer_fires_as_an_input_whoever_owns_the_partition_then(run: Run) -> None:
    async def test(ports: Ports) -> None:
        held = await stamp(ports)
        heard: list[tuple[str, bytes]] = []
        reader = ports.log.inputs(0, 1, lambda subject, seq, data: heard.append((subject, data)))
        await reader.start()
        due = ports.now_ms() + 400
        timer = arm(ports, due, held)
        await ports.log.publish(timer.subject, timer.data, timer.headers)
        armed = (await ports.log.read_run(0, RUN)).log
        assert [(message.kind, message.key) for message in armed] == [("timer", "k")]
        await stamp(ports, b"[]", (await ports.log.last(0, ports.subjects.own(0))).seq)
        await until(lambda: bool(heard))
        assert ports.now_ms() >= due
        assert heard == [(ports.subjects.timer_input(0, RUN, "k"), timer.data)]
        assert await stored(ports.log) == [("in.timer", timer.data)]
        await reader.stop()

    run(test)


def test_a_timer_that_is_overdue_fires_soon(run: Run) -> None:
    async def test(ports: Ports) -> None:
        held = await stamp(ports)
        timer = arm(ports, ports.now_ms() - 5000, held)
        heard: list[int] = []
        reader = ports.log.inputs(0, 1, lambda subject, seq, data: heard.append(seq))
        await reader.start()
        await ports.log.publish_batch([timer, OutMessage(ports.subjects.events(0, RUN, 1), b"{}", held)])
        await until(lambda: bool(heard))
        await reader.stop()

    run(test)


def test_publishing_again_replaces_a_timer(run: Run) -> None:
    async def test(ports: Ports) -> None:
        held = await stamp(ports)
        heard: list[str] = []
        reader = ports.log.inputs(0, 1, lambda subject, seq, data: heard.append(subject))
        await reader.start()
        for timer in (arm(ports, ports.now_ms() + 700, held, "late"), arm(ports, ports.now_ms() + 300, held, "soon")):
            await ports.log.publish(timer.subject, timer.data, timer.headers)
        await until(lambda: bool(heard))
        await asyncio.sleep(1.0)
        assert heard == [ports.subjects.timer_input(0, RUN, "soon")]
        await reader.stop()

    run(test)


def test_the_end_takes_the_timer_away_unless_it_is_refused(run: Run) -> None:
    async def test(ports: Ports) -> None:
        first = await stamp(ports)
        timer = arm(ports, ports.now_ms() + 60_000, first)
        await ports.log.publish(timer.subject, timer.data, timer.headers)
        second = await stamp(ports, b"[]", (await ports.log.last(0, ports.subjects.own(0))).seq)
        purge = purge_headers(ports.subjects.timer(0, RUN))
        ended = ports.subjects.ended(0, RUN)
        with pytest.raises(WrongSequence):
            await ports.log.publish(ended, b"{}", first + purge)
        assert [kind for kind, _ in await stored(ports.log)] == ["timer"]
        await ports.log.publish(ended, b"{}", second + purge)
        assert [kind for kind, _ in await stored(ports.log)] == ["out.ended"]

    run(test)


def test_the_end_without_a_timer_is_stored_too_also_in_a_batch(run: Run) -> None:
    async def test(ports: Ports) -> None:
        held = await stamp(ports)
        timer = arm(ports, ports.now_ms() + 60_000, held)
        await ports.log.publish(timer.subject, timer.data, timer.headers)
        units = [
            OutMessage(ports.subjects.ended(0, run_id), b"{}", held + purge_headers(ports.subjects.timer(0, run_id)))
            for run_id in (OTHER, RUN)
        ]
        await ports.log.publish_batch(units)
        assert await stored(ports.log) == await stored(ports.log, OTHER) == [("out.ended", b"{}")]

    run(test)


def test_a_reader_hears_each_input_of_its_partition_once_and_in_order(run: Run) -> None:
    async def test(ports: Ports) -> None:
        subjects, held = ports.subjects, await stamp(ports)
        skipped = await ports.log.publish(subjects.start(0, OTHER), b"0", NEW)
        await ports.log.publish(subjects.start(0, RUN), b"1", NEW)
        heard: list[tuple[int, bytes]] = []
        reader = ports.log.inputs(0, skipped.seq + 1, lambda subject, seq, data: heard.append((seq, data)))
        await reader.start()
        await ports.log.publish(subjects.events(0, RUN, 1), b"no", held)
        await ports.log.publish(subjects.start(1, RUN[:-1] + "1"), b"no", NEW)
        await ports.log.publish_batch(
            [
                OutMessage(subjects.cancel_input(0, RUN), b"2", NEW),
                OutMessage(subjects.events(0, RUN, 2), b"no", held),
                OutMessage(subjects.cancel_input(0, OTHER), b"3", NEW),
            ]
        )
        await until(lambda: len(heard) >= 3)
        assert [data for _, data in heard] == [b"1", b"2", b"3"]
        assert [seq for seq, _ in heard] == sorted({seq for seq, _ in heard})
        await reader.stop()

    run(test)


def test_a_run_that_is_not_there_reads_as_nothing(run: Run) -> None:
    async def test(ports: Ports) -> None:
        read = await ports.log.read_run(0, RUN)
        assert (read.log, read.snapshot) == ([], None)

    run(test)


def test_a_long_run_is_read_from_its_last_snapshot_on(run: Run) -> None:
    async def test(ports: Ports) -> None:
        subjects, held = ports.subjects, await stamp(ports)
        start = m.Start(m.FORMAT, 1, "w", 1, "h")
        began = await ports.log.publish(subjects.start(0, RUN), m.encode(start), NEW)
        timer = arm(ports, ports.now_ms() + 600_000, held)
        await ports.log.publish(timer.subject, timer.data, timer.headers)
        asked = await ports.log.publish(subjects.cancel_input(0, RUN), b"{}", NEW)
        count = limits.MULTI_LAST_SUBJECTS_MAX
        for first in range(1, count, 500):
            numbers = range(first, min(first + 500, count + 1))
            await ports.log.publish_batch([OutMessage(subjects.events(0, RUN, n), b"{}", held) for n in numbers])
        snapshot = m.Snapshot(m.FORMAT, count + 1, began.seq, 2, start)
        await ports.log.publish(subjects.snapshot(0, RUN, count + 1), m.encode(snapshot), held)
        last = await ports.log.publish(subjects.events(0, RUN, count + 2), b"{}", held)
        read = await ports.log.read_run(0, RUN)
        assert read.snapshot == m.decode_snapshot(m.encode(snapshot))
        assert [message.kind for message in read.log] == ["timer", "in.cancel", "out.snapshot", "out.events"]
        assert [read.log[0].key, read.log[1].seq, read.log[3].seq] == ["k", asked.seq, last.seq]

    run(test)


def test_payloads_come_back_as_they_were_put(run: Run) -> None:
    async def test(ports: Ports) -> None:
        for data in (b"{}", b'"' + b"x" * (600 * limits.KIB) + b'"'):
            ref = await ports.payloads.put(data)
            assert ref.size == len(data)
            assert await ports.payloads.get(ref) == data
        unknown = msgspec.structs.replace(ref, id="0" * 26)
        with pytest.raises(Exception, match=unknown.id):
            await ports.payloads.get(unknown)

    run(test)
