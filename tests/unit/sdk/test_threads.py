"""Threads for handlers: reused, abandoned, bounded."""

from __future__ import annotations

import asyncio
import threading

from dagnats.worker.threads import Threads


async def test_a_thread_is_reused() -> None:
    threads: Threads[int] = Threads("t", 1)
    first = await threads.run(threading.get_ident)
    assert await threads.run(threading.get_ident) == first
    assert first != threading.get_ident()
    threads.close()


async def test_functions_run_side_by_side() -> None:
    threads: Threads[int] = Threads("t", 1)
    barrier = threading.Barrier(3, timeout=5)
    results = await asyncio.gather(*(threads.run(barrier.wait) for _ in range(3)))
    assert sorted(results) == [0, 1, 2]
    threads.close()


async def test_an_abandoned_thread_is_counted_until_it_ends_and_the_bound_delays() -> None:
    threads: Threads[bool] = Threads("t", 0)
    go_on, told = threading.Event(), asyncio.Event()
    future = threads.run(lambda: go_on.wait(5))
    future.cancel()
    await asyncio.sleep(0)
    assert threads.abandoned == 1
    threads.when_few_abandoned(told.set)
    assert not told.is_set()
    assert await threads.run(lambda: True), "another thread takes its place"
    go_on.set()
    await asyncio.wait_for(told.wait(), 5)
    assert threads.abandoned == 0
    threads.close()
