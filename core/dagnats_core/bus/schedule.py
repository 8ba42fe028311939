"""Header blocks of message schedules (ADR-51): timers that the server keeps and fires. Pure.

A schedule is a message on a subject of its own; publishing on that subject again replaces it. When it is
due the server stores its body on the target subject and removes it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from dagnats_core.bus.message import StoredMessage, time_ms_of


class Schedule(NamedTuple):
    """When a stored schedule fires, and the subject that it fires on."""

    due_ms: int
    target: str


def schedule_headers(due_ms: int, target: str) -> bytes:
    """Make a message fire once at `due_ms` (since 1970) on `target`, a subject of the same stream.

    It fires some 5 ms late; what is due within 250 ms fires after about 250 ms, what is overdue at once.
    """
    due = datetime.fromtimestamp(due_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return f"Nats-Schedule: @at {due}\r\nNats-Schedule-Target: {target}\r\n".encode()


def purge_headers(schedule_subject: str) -> bytes:
    """Make a message remove a schedule as it is stored; nothing happens if there is none."""
    return f"Nats-Scheduler: {schedule_subject}\r\nNats-Schedule-Next: purge\r\n".encode()


def stored_schedule(message: StoredMessage) -> Schedule | None:
    """The schedule that a stored message is, None if it is none (or repeats)."""
    pattern, target = message.header("Nats-Schedule"), message.header("Nats-Schedule-Target")
    if pattern is None or target is None or not pattern.startswith("@at "):
        return None
    return Schedule(time_ms_of(pattern[4:]), target)
