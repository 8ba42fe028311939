"""Shared reads: never older than the call, never more than one at a time, errors and cancels where they belong."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core.engine.fresh import FreshReads


class Source:
    """A value that changes, read in two turns: it is looked at when the read begins."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.running = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def read(self, key: str) -> int:
        self.reads += 1
        self.running += 1
        assert self.running == 1, "two reads of one key at a time"
        seen = self.value
        await self.gate.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error
        return seen


async def begin(fresh: FreshReads[str, int]) -> asyncio.Task[int]:
    task = asyncio.create_task(fresh.get("k"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_who_asks_during_a_read_gets_a_later_one_and_shares_it() -> None:
    source = Source()
    fresh = FreshReads(source.read)
    source.gate.clear()
    first = await begin(fresh)
    source.value = 1
    later = [await begin(fresh) for _ in range(10)]
    source.gate.set()
    assert await first == 0
    assert await asyncio.gather(*later) == [1] * 10
    assert source.reads == 2


async def test_an_idle_key_is_read_again() -> None:
    source = Source()
    fresh = FreshReads(source.read)
    assert await fresh.get("k") == 0
    source.value = 5
    assert await fresh.get("k") == 5


async def test_an_error_reaches_everybody_who_shares_the_read_and_nobody_after() -> None:
    source = Source()
    fresh = FreshReads(source.read)
    source.error = ValueError("away")
    with pytest.raises(ValueError, match="away"):
        await fresh.get("k")
    source.error = None
    assert await fresh.get("k") == 0


async def test_a_caller_that_is_cancelled_does_not_disturb_the_others() -> None:
    source = Source()
    fresh = FreshReads(source.read)
    source.gate.clear()
    first, second, third = [await begin(fresh) for _ in range(3)]
    first.cancel()
    second.cancel()
    source.gate.set()
    assert await third == 0
    assert first.cancelled()
