"""What a worker does with one attempt: input, handler, outcome, acknowledgement."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from dagnats import Context, Fail, Retry, Worker
from dagnats_core import limits
from dagnats_core.errors import TooLarge
from dagnats_core.run import messages as m
from tests.support.fake_site import FakeSite, output_of


class Part(msgspec.Struct):
    text: str


class Count(msgspec.Struct):
    words: int


def new_worker(site: FakeSite, **options: Any) -> Worker:
    return Worker(nats_url=site.connection.url, site=site.site, **options)


async def test_typed_async_and_sync_handlers(site: FakeSite) -> None:
    worker = new_worker(site, name="counter")
    threads: list[str] = []

    @worker.task("count.loop")
    async def count_on_loop(ctx: Context, part: Part) -> Count:
        return Count(len(part.text.split()))

    @worker.task("count.thread")
    def count_in_thread(ctx: Context, part: Part) -> Count:
        threads.append(threading.current_thread().name)
        return Count(len(part.text.split()))

    async with worker:
        for name in ("count.loop", "count.thread"):
            report = await site.outcome(await site.hand_out(name, {"text": "a b c"}))
            assert output_of(report) == {"words": 3}
            assert report.worker_id == worker.worker_id
            assert 0 < report.started_at <= report.ended_at
            await site.all_acknowledged(name)
    assert threads[0].startswith(worker.worker_id)


async def test_the_context_tells_the_attempt(site: FakeSite) -> None:
    worker = new_worker(site)
    seen: dict[str, Any] = {}

    @worker.task("look")
    async def look(ctx: Context) -> None:
        seen.update(
            run_id=ctx.run_id,
            step_id=ctx.step_id,
            attempt=ctx.attempt,
            workflow=ctx.workflow,
            task=ctx.task,
            metadata=dict(ctx.metadata),
            deadline=ctx.deadline,
            cancelled=ctx.cancelled,
            traceparent=ctx.traceparent,
        )
        ctx.progress({"done": 1})

    async with worker:
        task = await site.hand_out("look", attempt=3, timeout_ms=60_000, metadata={"k": "v"}, traceparent="00-x")
        await site.outcome(task)
        await site.until(lambda: bool(site.progress))
    deadline = seen.pop("deadline")
    assert seen == {
        "run_id": task.run_id,
        "step_id": "a",
        "attempt": 3,
        "workflow": "flow",
        "task": "look",
        "metadata": {"k": "v"},
        "cancelled": False,
        "traceparent": "00-x",
    }
    assert abs(deadline - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=10)
    progress = site.progress[0]
    assert progress.pop("at") > 0
    assert progress == {"run_id": task.run_id, "step": "a", "attempt": 3, "data": {"done": 1}}


async def test_a_thread_tells_progress_within_its_bound(site: FakeSite) -> None:
    worker = new_worker(site)
    refused: list[str] = []

    @worker.task("tell")
    def tell(ctx: Context) -> None:
        ctx.progress([1, 2])
        try:
            ctx.progress("x" * limits.PROGRESS_BYTES_MAX)
        except TooLarge as error:
            refused.append(error.message)
        ctx.log.info("told")

    async with worker:
        report = await site.outcome(await site.hand_out("tell"))
        await site.until(lambda: bool(site.progress))
    assert report.kind == "completed"
    assert [each["data"] for each in site.progress] == [[1, 2]]
    assert len(refused) == 1


async def test_the_closed_set_of_outcomes(site: FakeSite) -> None:
    worker = new_worker(site)

    @worker.task("end")
    async def end(ctx: Context, how: str) -> Any:
        if how == "fail":
            raise Fail("no_file", "there is none", {"path": "x"})
        if how == "retry":
            return Retry("2s")
        if how == "exit":
            raise SystemExit(3)
        if how == "odd":
            return object()
        raise ValueError(how)

    async with worker:
        reports = {
            how: await site.outcome(await site.hand_out("end", how)) for how in ("fail", "retry", "odd", "boom", "exit")
        }
        wrong = await site.outcome(await site.hand_out("end", {"not": "text"}))
        await site.all_acknowledged("end")
    codes = {how: report.error.code for how, report in reports.items() if report.error}
    assert codes == {
        "fail": "no_file",
        "retry": "retry",
        "odd": "invalid_output",
        "boom": "handler_error",
        "exit": "handler_error",
    }
    assert [reports[how].retryable for how in ("fail", "retry", "odd", "boom")] == [False, True, False, True]
    assert reports["retry"].retry_after_ms == 2000
    assert reports["boom"].error is not None
    assert reports["boom"].error.message == "ValueError: boom"
    assert wrong.error is not None
    assert (wrong.error.code, wrong.retryable) == ("invalid_input", False)


async def test_a_timeout_ends_an_async_handler(site: FakeSite) -> None:
    worker = new_worker(site, max_concurrent=1)
    cancelled = asyncio.Event()

    @worker.task("slow")
    async def slow(ctx: Context, value: int) -> int:
        if value:
            return value
        try:
            await asyncio.sleep(60)
        finally:
            assert ctx.cancelled
            cancelled.set()
        return 0

    async with worker:
        began = time.monotonic()
        report = await site.outcome(await site.hand_out("slow", 0, timeout_ms=300))
        assert 0.25 < time.monotonic() - began < 3
        assert report.error is not None
        assert (report.error.code, report.retryable) == ("timeout", True)
        await asyncio.wait_for(cancelled.wait(), 5)
        assert output_of(await site.outcome(await site.hand_out("slow", 7))) == 7, "the slot is free again"


async def test_a_thread_that_hangs_is_left_behind(site: FakeSite) -> None:
    worker = new_worker(site, max_concurrent=1)
    go_on = threading.Event()

    @worker.task("hang")
    def hang(ctx: Context, value: int) -> int:
        if not value:
            go_on.wait(30)
        return value

    async with worker:
        hung = await site.hand_out("hang", 0, timeout_ms=200)
        report = await site.outcome(hung)
        assert report.error is not None
        assert report.error.code == "timeout"
        assert output_of(await site.outcome(await site.hand_out("hang", 7))) == 7, "another thread takes its place"
        go_on.set()
        assert output_of(await site.outcome(await site.hand_out("hang", 8))) == 8
        assert [each.kind for each in site.reports_of(hung)] == ["failed"]


async def test_large_inputs_and_outputs_travel_by_reference(site: FakeSite) -> None:
    worker = new_worker(site)
    text = "x" * (3 * limits.PAYLOAD_CHUNK_BYTES_MAX)

    @worker.task("double")
    async def double(ctx: Context, value: dict[str, str]) -> dict[str, str]:
        return {name: each * 2 for name, each in value.items()}

    async with worker:
        whole = await site.outcome(await site.hand_out("double", input_ref=site.keep({"a": text})))
        parts = await site.outcome(
            await site.hand_out("double", {"small": "y", "large": None}, input_refs={"large": site.keep(text)})
        )
        gone = await site.outcome(await site.hand_out("double", input_ref=m.Ref("0" * 26, 5, "0" * 64)))
    assert whole.output_ref is not None
    assert msgspec.json.decode(site.kept(whole.output_ref)) == {"a": text * 2}
    assert parts.output_ref is not None
    assert msgspec.json.decode(site.kept(parts.output_ref)) == {"small": "yy", "large": text * 2}
    assert gone.error is not None
    assert (gone.error.code, gone.retryable) == ("invalid_input", False)


async def test_an_output_of_just_the_inline_bound_is_not_stored_apart(site: FakeSite) -> None:
    worker = new_worker(site)

    @worker.task("text")
    async def text(ctx: Context, size: int) -> str:
        return "x" * (size - 2)

    async with worker:
        inline = await site.outcome(await site.hand_out("text", limits.INLINE_BYTES_MAX))
        apart = await site.outcome(await site.hand_out("text", limits.INLINE_BYTES_MAX + 1))
    assert inline.output_ref is None
    assert len(bytes(inline.output)) == limits.INLINE_BYTES_MAX  # type: ignore[arg-type]
    assert apart.output_ref is not None


async def test_a_handler_that_shields_itself_sees_the_cancel(site: FakeSite) -> None:
    worker = new_worker(site)
    seen = asyncio.Event()

    @worker.task("watch")
    async def watch(ctx: Context) -> None:
        try:
            await ctx.wait_cancelled()
        except asyncio.CancelledError:
            assert ctx.cancelled
            seen.set()
            raise

    async with worker:
        task = await site.hand_out("watch")
        await site.until(lambda: bool(site.reports_of(task, "started")))
        site.notify_cancelled(task)
        await asyncio.wait_for(seen.wait(), 5)
        await site.all_acknowledged("watch")
    assert [each.kind for each in site.reports_of(task)] == ["started"]


async def test_an_unreadable_task_is_left_to_others(site: FakeSite) -> None:
    worker = new_worker(site)

    @worker.task("echo")
    async def echo(ctx: Context, value: int) -> int:
        return value

    async with worker:
        subject = site.subjects.task(0, "0" * 28, "echo", 1)
        await site.connection.request(subject, b'{"v":99}', 5)
        assert output_of(await site.outcome(await site.hand_out("echo", 5))) == 5
        await site.all_acknowledged("echo", but=1)
        assert await site.unacknowledged("echo") == 1
