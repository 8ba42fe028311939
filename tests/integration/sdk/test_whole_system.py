"""The SDK against the real thing: `dagnats.testing`, the whole face, and the plain worker of docs/wire.md."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from dagnats import (
    Client,
    Conflict,
    Context,
    Fail,
    Invalid,
    NotFound,
    Retry,
    RetryPolicy,
    RunCancelled,
    RunFailed,
    TimedOut,
    Worker,
    Workflow,
    testing,
)
from dagnats_core import limits
from tests.integration.sdk.test_wire_page import worker_source


class Numbers(msgspec.Struct):
    values: list[int]


class Sum(msgspec.Struct):
    total: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[testing.Site]:
    async with testing.site() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(site: testing.Site) -> AsyncIterator[Client]:
    async with site.client() as connected:
        yield connected


def one_step(name: str, **options: object) -> Workflow:
    workflow = Workflow(name)
    workflow.step("only", task=name, **options)  # type: ignore[arg-type]
    return workflow


def worker_of(site: testing.Site, *workflows: Workflow) -> Worker:
    return Worker(workflows, nats_url=site.nats_url, site=site.name)


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_fan_out_and_join_with_typed_values(site: testing.Site) -> None:
    wf = Workflow("sums")
    first = wf.step("first", task="sums.double")
    halves = [
        wf.step(
            f"half-{index}", task="sums.sum", after=[first], input={"values": f"steps.first.output.values[{slice_}]"}
        )
        for index, slice_ in enumerate(("0", "1"))
    ]
    wf.step("last", task="sums.join", after=halves)
    worker = worker_of(site)

    @worker.task("sums.double")
    async def double(ctx: Context, numbers: Numbers) -> dict[str, list[list[int]]]:
        middle = len(numbers.values) // 2
        return {
            "values": [[2 * each for each in numbers.values[:middle]], [2 * each for each in numbers.values[middle:]]]
        }

    @worker.task("sums.sum")
    def total(ctx: Context, numbers: Numbers) -> Sum:
        return Sum(sum(numbers.values))

    @worker.task("sums.join")
    async def join(ctx: Context, sums: dict[str, Sum]) -> Sum:
        return Sum(sum(each.total for each in sums.values()))

    assert await testing.run_workflow(site, wf, worker, Numbers([1, 2, 3, 4])) == {"total": 20}


async def test_the_same_request_is_the_same_run(site: testing.Site, client: Client) -> None:
    worker = worker_of(site, one_step("same"))
    worker.task("same")(lambda ctx, value: value)
    async with worker:
        first = await client.start("same", 1, request_id="2026-11-23/1")
        again = await client.start("same", 1, request_id="2026-11-23/1")
        assert (first.run_id, first.created, again.created) == (again.run_id, True, False)
        with pytest.raises(Conflict):
            await client.start("same", 2, request_id="2026-11-23/1")
        assert await first.result(timeout=20) == 1


async def test_failures_retries_and_dead_letters(site: testing.Site, client: Client) -> None:
    policy = RetryPolicy(max_attempts=3, initial_delay="50ms")
    worker = worker_of(site, one_step("shaky", retry=policy))
    attempts: list[int] = []
    mended = False

    @worker.task("shaky")
    async def shaky(ctx: Context, how: str) -> int:
        attempts.append(ctx.attempt)
        if how == "retry" and ctx.attempt < 3:
            raise Retry(after=0.05)
        if how == "boom" and not mended:
            raise ValueError("boom")
        if how == "fail":
            raise Fail("no", "never", {"why": 1})
        return ctx.attempt

    async with worker:
        assert await (await client.start("shaky", "retry")).result(timeout=20) == 3
        assert attempts == [1, 2, 3]
        with pytest.raises(RunFailed) as caught:
            await (await client.start("shaky", "fail")).result(timeout=20)
        assert (caught.value.error.code, caught.value.error.step) == ("no", "only")
        assert caught.value.error.details == {"why": 1}
        run = await client.start("shaky", "boom")
        with pytest.raises(RunFailed, match="ValueError: boom"):
            await run.result(timeout=20)
        letters = [each async for each in client.dead_letters(workflow="shaky")]
        assert {each.run_id for each in letters} == {run.run_id, caught.value.run_id}
        mended = True
        replayed = await client.replay(run.run_id)
        assert await replayed.result(timeout=20) == 1
        assert (await replayed.get()).retry_of == run.run_id


async def test_a_cancel_reaches_the_handler(site: testing.Site, client: Client) -> None:
    worker = worker_of(site, one_step("long"))
    running, stopped = asyncio.Event(), asyncio.Event()

    @worker.task("long")
    async def long(ctx: Context) -> None:
        running.set()
        try:
            await ctx.wait_cancelled()
        finally:
            stopped.set()

    async with worker:
        run = await client.start("long")
        await asyncio.wait_for(running.wait(), 20)
        with pytest.raises(TimedOut):
            await run.result(timeout=0.2)
        assert await run.cancel("not needed") == "cancelled"
        await asyncio.wait_for(stopped.wait(), 5)
        with pytest.raises(RunCancelled, match="not needed"):
            await run.result(timeout=20)


async def test_a_timeout_is_the_handlers_own(site: testing.Site, client: Client) -> None:
    worker = worker_of(site, one_step("slow", timeout="300ms"))

    @worker.task("slow")
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(60)

    async with worker:
        run = await client.start("slow")
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=20)
        assert caught.value.error.code == "timeout"


async def test_large_values_all_the_way(site: testing.Site, client: Client) -> None:
    worker = worker_of(site, one_step("large"))
    worker.task("large")(lambda ctx, value: value + value)
    text = "x" * (3 * limits.INLINE_BYTES_MAX)
    async with worker:
        run = await client.start("large", text)
        assert await run.result(timeout=30, type=str) == text + text


async def test_events_lists_and_what_is_not_there(site: testing.Site, client: Client) -> None:
    worker = worker_of(site, one_step("told"))
    worker.task("told")(lambda ctx, value: value)
    async with worker:
        run = await client.start("told", {"a": 1}, tags=["x"])
        types = [each.type async for each in run.events()]
        assert types[0] == "run_created"
        assert types[-1] == "run_ended"
        assert "step_completed" in types
        assert await run.status() == "completed"
        assert await run.output("only") == {"a": 1}
        assert [each.run_id async for each in client.runs(workflow="told", tag="x")] == [run.run_id]
        assert await client.count(workflow="told") == 1
        assert "told" in [each.name async for each in client.workflows()]
        assert worker.worker_id in [each.worker_id async for each in client.workers(task="told")]
    with pytest.raises(NotFound):
        await client.start("nothing")
    with pytest.raises(NotFound):
        await client.run("01" + "0" * 26).result(timeout=5)
    with pytest.raises(Invalid) as caught:
        await client.register({"name": "bad", "steps": [{"id": "a", "task": "t", "depends_on": ["b"]}]})
    assert caught.value.problems


async def test_start_many_runs_them_all(site: testing.Site, client: Client) -> None:
    worker = worker_of(site, one_step("many"))
    worker.task("many")(lambda ctx, value: value * 2)
    async with worker:
        started = await client.start_many("many", range(300), request_id="batch")
        results = await asyncio.gather(*(client.run(each.run_id).result(timeout=30) for each in started))  # type: ignore[union-attr]
        assert results == [2 * index for index in range(300)]
        again = await client.start_many("many", range(300), request_id="batch")
        assert [each.run_id for each in again] == [each.run_id for each in started]  # type: ignore[union-attr]


async def test_the_plain_worker_of_the_wire_page_serves_a_real_site(site: testing.Site, client: Client) -> None:
    wf = Workflow("plain")
    wf.step("up", task="text.upper")
    await client.register(wf)
    environment = {**os.environ, "NATS_URL": site.nats_url, "SITE": site.name}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", worker_source(), env=environment)
    try:
        assert await (await client.start("plain", {"text": "abc"})).result(timeout=30) == {"text": "ABC"}
        with pytest.raises(RunFailed, match="handler_error"):
            await (await client.start("plain", {"nothing": 1})).result(timeout=30)
    finally:
        process.kill()
        await process.wait()
