"""Timers as header blocks: what is armed is what is read back, to the millisecond."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dagnats_core.bus.message import StoredMessage, header_block
from dagnats_core.bus.schedule import Schedule, purge_headers, schedule_headers, stored_schedule


def stored(block: bytes) -> StoredMessage:
    return StoredMessage("x.timer", 1, 0, b"", b"NATS/1.0\r\n" + block + b"\r\n")


@given(st.integers(min_value=0, max_value=4_102_444_800_000))
def test_a_timer_is_read_back(due_ms: int) -> None:
    assert stored_schedule(stored(schedule_headers(due_ms, "x.in.timer.1"))) == Schedule(due_ms, "x.in.timer.1")


def test_other_messages_are_no_timers() -> None:
    assert stored_schedule(stored(b"")) is None
    assert stored_schedule(stored(purge_headers("x.timer"))) is None
    every = header_block({"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "x.in"})
    assert stored_schedule(stored(every)) is None
