"""Everything goes wrong at random, by a seed: every attempt still ends, and the worker holds nothing afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial

import msgspec
import pytest

from dagnats import Context, Fail, Worker
from dagnats_core import limits
from dagnats_core.run import messages as m
from tests.support.fake_site import OUTCOMES, FakeSite
from tests.support.nats import NatsServer

TASKS = 150
SILENT, GARBAGE = 0.2, 0.05
PAUSES_MS = {
    "REPORT_TIMEOUT_MS": 60,
    "REPORT_BACKOFF_MS": 10,
    "STARTED_AFTER_MS": 40,
    "ALIVE_EVERY_MS": 50,
    "WORKER_TICK_MS": 20,
}


class Owner:
    """Keeps the rules of the engine: one outcome an attempt, repeated reports get their answer again."""

    def __init__(self, site: FakeSite, lot: random.Random) -> None:
        self.site = site
        self.lot = lot
        self.stored: dict[str, bytes] = {}
        self.cancelled: set[str] = set()
        self.second_thoughts: list[str] = []

    def answer(self, report: m.Report, task: m.Task | None) -> str | None:
        assert task is not None
        fate = self.lot.random()
        if fate < SILENT / 2:
            return None
        said = self._decide(report, task)
        if fate < SILENT:
            return None  # it was taken in, but the answer got lost
        return "garbage" if fate < SILENT + GARBAGE else said

    def has_stored(self, count: int) -> bool:
        return len(self.stored) >= count

    def _decide(self, report: m.Report, task: m.Task) -> str:
        body = m.encode(msgspec.structs.replace(report, started_at=0, ended_at=0))
        stored = self.stored.get(report.nonce)
        if task.run_id in self.cancelled:
            return "not_current"
        if report.kind not in OUTCOMES:
            return "not_current" if stored else ("go" if report.kind == "claim" else "stored")
        if stored is None:
            self.stored[report.nonce] = body
        elif stored != body:
            self.second_thoughts.append(report.nonce)
            return "not_current"
        return "stored"


def new_worker(site: FakeSite) -> Worker:
    worker = Worker(nats_url=site.connection.url, site=site.site, max_concurrent=20)

    async def on_loop(ctx: Context, how: float) -> float:
        await asyncio.sleep(abs(how))
        if how < 0:
            raise Fail("asked", "for it")
        return how

    def in_thread(ctx: Context, how: float) -> float:
        time.sleep(abs(how))
        if how < 0:
            raise ValueError(how)
        return how

    worker.task("loop")(on_loop)
    worker.task("loop.small", max_concurrent=2)(on_loop)
    worker.task("thread")(in_thread)
    return worker


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every pause short."""
    for name, value_ms in PAUSES_MS.items():
        monkeypatch.setattr(limits, name, value_ms)


async def end_of_all(site: FakeSite, owner: Owner, worker: Worker, tasks: list[m.Task]) -> None:
    """All is acknowledged, every attempt that was wanted has one outcome, and no slot is held."""
    for name in ("loop", "loop.small", "thread"):
        await site.all_acknowledged(name, 30)
    wanted = {task.nonce for task in tasks if task.run_id not in owner.cancelled}
    assert wanted <= owner.stored.keys()
    assert not owner.second_thoughts
    session = worker._session
    assert session is not None
    await site.until(lambda: session._slots.held == 0)


@pytest.mark.parametrize("seed", range(4))
async def test_every_attempt_ends(site: FakeSite, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    hurry(monkeypatch)
    lot = random.Random(seed)
    site.ack_wait_ms = 400
    owner = Owner(site, lot)
    site.answer = owner.answer
    worker = new_worker(site)
    async with worker:
        tasks: list[m.Task] = []
        for _ in range(TASKS):
            kind = lot.choice(("loop", "loop.small", "thread"))
            how = lot.choice((0, 0, 0.001, 0.02, 0.1, -0.001))
            tasks.append(await site.hand_out(kind, how, timeout_ms=lot.choice((0, 50, 5000))))
            if lot.random() < 0.1:
                task = lot.choice(tasks)
                owner.cancelled.add(task.run_id)
                site.notify_cancelled(task)
        await end_of_all(site, owner, worker, tasks)
    left = {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    assert not {name for name in left if name.startswith("dagnats-")}


@pytest.mark.parametrize("kill", [True, False])
async def test_a_server_that_restarts_again_and_again(
    own_site: FakeSite, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, kill: bool
) -> None:
    hurry(monkeypatch)
    lot = random.Random(7)
    own_site.ack_wait_ms = 1000
    owner = Owner(own_site, lot)
    own_site.answer = owner.answer
    worker = new_worker(own_site)
    tasks = [await own_site.hand_out(lot.choice(("loop", "thread")), lot.choice((0, 0.05))) for _ in range(TASKS)]
    async with worker:
        for enough in (10, 40, 80):
            await own_site.until(partial(owner.has_stored, enough), 30)
            await asyncio.to_thread(nats_server.restart, kill=kill)
        await own_site.until(lambda: len(owner.stored) == TASKS, 60)
        await end_of_all(own_site, owner, worker, tasks)
