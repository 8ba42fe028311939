"""When a worker asks before it starts, what it says while it runs, and how stubbornly it reports."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dagnats import Context, Worker
from dagnats_core import limits
from dagnats_core.run import messages as m
from tests.support.fake_site import FakeSite, accept_all, fake_site, output_of
from tests.support.nats import NatsServer


class Echo:
    """A worker with one task that counts its calls and waits for `go_on` when it is told to."""

    def __init__(self, site: FakeSite, **options: Any) -> None:
        self.worker = Worker(nats_url=site.connection.url, site=site.site, **options)
        self.calls: list[Any] = []
        self.go_on = asyncio.Event()
        self.cancelled = 0

        @self.worker.task("echo")
        async def echo(ctx: Context, value: Any) -> Any:
            self.calls.append(value)
            try:
                if value == "wait":
                    await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return value


async def test_a_fresh_task_is_not_claimed(site: FakeSite) -> None:
    echo = Echo(site)
    async with echo.worker:
        task = await site.hand_out("echo", 1)
        await site.outcome(task)
    assert [each.kind for each in site.reports_of(task)] == ["completed"]


async def test_a_task_that_waited_is_claimed_first(site: FakeSite) -> None:
    site.claim_after_ms = 0
    echo = Echo(site)
    task = await site.hand_out("echo", 1)
    async with echo.worker:
        await site.outcome(task)
    assert [each.kind for each in site.reports_of(task)] == ["claim", "completed"]


async def test_a_claim_that_is_refused_ends_without_running(site: FakeSite) -> None:
    site.claim_after_ms = 0
    site.answer = lambda report, _: "not_current" if report.kind == "claim" else "stored"
    echo = Echo(site)
    task = await site.hand_out("echo", 1)
    async with echo.worker:
        await site.until(lambda: bool(site.reports_of(task, "claim")))
        await site.all_acknowledged("echo")
    assert echo.calls == []


async def test_a_redelivered_task_is_claimed(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRAIN_MS", 0)
    echo = Echo(site)
    async with echo.worker:
        task = await site.hand_out("echo", "wait")
        await site.until(lambda: bool(site.reports_of(task, "started")))
    # The worker stopped cleanly and gave the task back: the next one gets it at once, as a redelivery.
    other = Echo(site)
    other.go_on.set()
    async with other.worker:
        await site.outcome(task)
    kinds = [each.kind for each in site.reports_of(task)]
    assert kinds == ["started", "claim", "completed"]


async def test_a_task_of_a_cancelled_run_is_claimed_even_if_fresh(site: FakeSite) -> None:
    echo = Echo(site)
    async with echo.worker:
        first = await site.hand_out("echo", "wait")
        await site.until(lambda: bool(site.reports_of(first, "started")))
        site.notify_cancelled(first)
        await site.all_acknowledged("echo")
        second = await site.hand_out("echo", 2, run_id=first.run_id, step="b")
        await site.outcome(second)
    assert echo.cancelled == 1
    assert [each.kind for each in site.reports_of(second)] == ["claim", "completed"]


async def test_after_too_many_deliveries_the_worker_gives_up_for_all(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELIVERIES_BEFORE_LOST", 1)
    monkeypatch.setattr(limits, "DRAIN_MS", 0)
    first = Echo(site)
    async with first.worker:
        task = await site.hand_out("echo", "wait")
        await site.until(lambda: bool(site.reports_of(task, "started")))
    second = Echo(site)
    async with second.worker:
        report = await site.outcome(task)
        await site.all_acknowledged("echo")
    assert report.kind == "worker_lost"
    assert second.calls == []


async def test_signs_of_life(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STARTED_AFTER_MS", 100)
    monkeypatch.setattr(limits, "ALIVE_EVERY_MS", 200)
    monkeypatch.setattr(limits, "WORKER_TICK_MS", 20)
    site.ack_wait_ms = 600
    echo = Echo(site)
    async with echo.worker:
        task = await site.hand_out("echo", "wait")
        await site.until(lambda: len(site.reports_of(task, "alive")) >= 5)
        echo.go_on.set()
        await site.outcome(task)
        await site.all_acknowledged("echo")
    kinds = [each.kind for each in site.reports_of(task)]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"
    assert set(kinds[1:-1]) == {"alive"}
    assert len(echo.calls) == 1, "in-progress acknowledgements keep it from being delivered again"


async def test_an_attempt_that_is_not_wanted_any_more_is_stopped(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STARTED_AFTER_MS", 50)
    site.answer = lambda report, _: "not_current"
    echo = Echo(site)
    async with echo.worker:
        task = await site.hand_out("echo", "wait")
        await site.until(lambda: bool(site.reports_of(task, "started")))
        await site.all_acknowledged("echo")
    assert echo.cancelled == 1
    assert [each.kind for each in site.reports_of(task)] == ["started"]


async def test_an_outcome_is_reported_until_it_is_answered_with_the_same_bytes(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REPORT_TIMEOUT_MS", 100)
    answers = iter([None, None, None, "stored"])
    site.answer = lambda report, task: next(answers)
    echo = Echo(site)
    async with echo.worker:
        await site.hand_out("echo", {"a": 1})
        await site.until(lambda: len(site.bodies) == 4)
        await site.all_acknowledged("echo")
    assert len(set(site.bodies)) == 1
    assert len(echo.calls) == 1


async def test_an_answer_that_is_none_is_asked_for_again(site: FakeSite) -> None:
    answers = iter(["what?", "stored"])
    site.answer = lambda report, task: next(answers)
    echo = Echo(site)
    async with echo.worker:
        await site.hand_out("echo", 1)
        await site.all_acknowledged("echo")
    assert len(site.bodies) == 2


async def test_slots_bound_what_is_taken_and_free_ones_are_used(site: FakeSite) -> None:
    echo = Echo(site, max_concurrent=3)
    tasks = [await site.hand_out("echo", "wait") for _ in range(8)]
    async with echo.worker:
        await site.until(lambda: len({each.nonce for each in site.reports if each.kind == "started"}) == 3)
        assert len(echo.calls) == 3
        other = Echo(site, max_concurrent=8)
        async with other.worker:
            await site.until(lambda: len({each.nonce for each in site.reports if each.kind == "started"}) == 8)
            assert len(other.calls) == 5, "an added worker gets what the first could not start"
            other.go_on.set()
            echo.go_on.set()
            for task in tasks:
                await site.outcome(task)
            await site.all_acknowledged("echo")


async def test_many_tasks_of_several_types_share_the_slots(site: FakeSite) -> None:
    worker = Worker(nats_url=site.connection.url, site=site.site, max_concurrent=4)
    running = most = 0

    async def work(ctx: Context, value: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return value

    names = [f"type.{index}" for index in range(6)]
    for name in names:
        worker.task(name)(work)
    async with worker:
        tasks = [await site.hand_out(name, index) for index in range(20) for name in names]
        for task in tasks:
            await site.outcome(task, 20)
    assert most <= 4
    assert len(site.reports) == len(tasks)


async def test_a_group_has_queues_of_its_own(site: FakeSite) -> None:
    echo = Echo(site, group="gpu")
    async with echo.worker:
        ours = await site.hand_out("echo", 1, group="gpu")
        await site.outcome(ours)
        await site.hand_out("echo", 2)
        second = await site.hand_out("echo", 3, group="gpu")
        await site.outcome(second)
    assert echo.calls == [1, 3]


async def test_a_cut_does_not_lose_a_finished_handlers_outcome(own_site: FakeSite, nats_server: NatsServer) -> None:
    silent = True

    def answer(report: m.Report, task: m.Task | None) -> str | None:
        return None if silent else accept_all(report, task)

    own_site.answer = answer
    echo = Echo(own_site)
    async with echo.worker:
        task = await own_site.hand_out("echo", "wait")
        await own_site.until(lambda: echo.calls == ["wait"] or bool(own_site.reports))
        nats_server.kill()
        echo.go_on.set()
        await asyncio.sleep(0)
        silent = False
        nats_server.start()
        report = await own_site.outcome(task, 30)
    assert report.kind == "completed"
    assert echo.calls == ["wait"]


async def test_queues_that_vanished_are_asked_for_again(own_site: FakeSite, nats_server: NatsServer) -> None:
    echo = Echo(own_site)
    async with echo.worker:
        await own_site.outcome(await own_site.hand_out("echo", 1))
        assert own_site.connects == 1
        consumer = f"$JS.API.CONSUMER.DELETE.{own_site.stream}.task-echo"
        await own_site.connection.request(consumer, b"", 5)
        await own_site.until(lambda: own_site.connects >= 2)
        assert output_of(await own_site.outcome(await own_site.hand_out("echo", 2))) == 2


async def test_a_worker_waits_for_a_server_that_is_not_there_yet(nats_server: NatsServer) -> None:
    url = nats_server.url
    nats_server.kill()
    worker = Worker(nats_url=url, site="late")
    worker.task("echo")(lambda ctx: None)
    starting = asyncio.create_task(worker.start())
    await asyncio.sleep(0)
    assert not starting.done()
    nats_server.start()
    async with fake_site(url) as site:
        # The worker asks the site named `late`, which begins to answer only now.
        site.site = "late"
        site.subjects = site.subjects._replace(site="late")
        await site.connection.subscribe_fast("dagnats.late.api.>", site._on_request)
        await asyncio.wait_for(starting, 20)
        await worker.stop()


async def test_heartbeats_tell_what_the_worker_does(site: FakeSite) -> None:
    echo = Echo(site, max_concurrent=7)
    async with echo.worker:
        await site.until(lambda: bool(site.beats))
    first, last = site.beats[0], site.beats[-1]
    assert first.worker_id == echo.worker.worker_id
    assert [each.task for each in first.tasks] == ["echo"]
    assert first.max_concurrent == 7
    assert not first.stopping
    assert last.stopping


async def test_workflows_are_registered_by_the_worker(site: FakeSite) -> None:
    echo = Echo(site, workflows=[{"name": "flow", "steps": [{"id": "a", "task": "echo"}]}])
    async with echo.worker:
        assert [each.by for each in site.registered] == ["worker"]
        assert site.registered[0].definition["name"] == "flow"


async def test_a_stop_gives_back_what_does_not_finish_in_time(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRAIN_MS", 200)
    echo = Echo(site)
    async with echo.worker:
        quick = await site.hand_out("echo", "quick")
        stuck = await site.hand_out("echo", "wait")
        await site.until(lambda: bool(site.reports_of(stuck, "started")))
    assert echo.cancelled == 1
    assert site.reports_of(quick, "completed")
    assert [each.kind for each in site.reports_of(stuck)] == ["started"]
    assert await site.unacknowledged("echo") == 1


async def test_a_stop_lets_handlers_finish(site: FakeSite) -> None:
    echo = Echo(site)
    async with echo.worker:
        task = await site.hand_out("echo", "wait")
        await site.until(lambda: bool(site.reports_of(task, "started")))
        asyncio.get_running_loop().call_later(0.1, echo.go_on.set)
    assert [each.kind for each in site.reports_of(task)] == ["started", "completed"]
    assert await site.unacknowledged("echo") == 0
