"""Futures that wait for replies: each ends once, in time, and the number of them is bounded."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core import limits
from dagnats_core.bus.waiting import Waiting
from dagnats_core.errors import Busy, TimedOut


def waiting() -> Waiting[int]:
    return Waiting(asyncio.get_running_loop(), "in.", lambda about: TimedOut(f"late: {about}"))


async def test_a_reply_finds_its_future() -> None:
    replies = waiting()
    first, one = replies.add("a", 5)
    second, _ = replies.add("b", 5)
    assert first != second
    assert first.startswith("in.")
    found = replies.pop(first)
    assert found is not None
    found[0].set_result(1)
    assert await one == 1
    assert found[1] == "a"
    assert replies.pop(first) is None
    assert len(replies) == 1


async def test_who_waits_too_long_is_told_and_forgotten() -> None:
    replies = waiting()
    short, future = replies.add("short", 0.05)
    long, other = replies.add("long", 60)
    with pytest.raises(TimedOut, match="late: short"):
        await future
    assert replies.pop(short) is None
    assert not other.done()
    assert replies.pop(long) is not None


async def test_a_cancelled_wait_takes_no_reply_and_no_room() -> None:
    replies = waiting()
    subject, future = replies.add("a", 60)
    future.cancel()
    assert replies.pop(subject) is None
    _, gone = replies.add("b", 60)
    gone.cancel()
    _, kept = replies.add("c", 0.06)
    with pytest.raises(TimedOut):
        await kept
    assert len(replies) == 0


async def test_all_fail_together_or_by_what_they_are_about() -> None:
    replies = waiting()
    _, one = replies.add("a", 5)
    _, two = replies.add("b", 5)
    _, three = replies.add("b", 5)
    replies.fail("b", Busy("told"))
    for future in (two, three):
        with pytest.raises(Busy, match="told"):
            await future
    assert not one.done()
    replies.fail_all(lambda about: TimedOut(f"all: {about}"))
    with pytest.raises(TimedOut, match="all: a"):
        await one
    assert len(replies) == 0


async def test_the_number_that_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPLIES_AWAITED_MAX", 2)
    replies = waiting()
    replies.add("a", 5)
    replies.add("b", 5)
    with pytest.raises(Busy, match="2"):
        replies.add("c", 5)
