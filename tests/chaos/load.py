"""The client: starts runs with request ids, asks again until each start is acknowledged; repeats some, cancels some."""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple

from dagnats import Client
from dagnats_core.errors import DagNatsError
from tests.chaos.follow import Follower
from tests.chaos.workflows import WORKFLOWS

RUNS_PER_S = 60
IN_FLIGHT_MAX = 500
"""Runs that have not ended: above it no more are started, so that a slow machine is not buried."""
REPEATED = 0.05
CANCELLED = 0.05
CANCEL_AFTER_S = 2.0
AGAIN_S = 0.2


class Acknowledged(NamedTuple):
    """The answer to one start. A request id may have several: all must name the same run."""

    request_id: str
    run_id: str


class Load:
    """`acknowledged` holds every answer to a start, `runs` the runs that they name."""

    def __init__(self, client: Client, follower: Follower, seed: int) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.runs: set[str] = set()
        self._client = client
        self._follower = follower
        self._seed = seed
        self._random = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()
        self._count = 0

    async def run(self, duration_s: float) -> None:
        """Start runs for so long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + duration_s
        while loop.time() < until:
            await asyncio.sleep(1 / RUNS_PER_S)
            self.rush(1)

    async def finish(self, deadline_s: float) -> int:
        """Wait until every start is answered; how many were not in this time."""
        if not self._open:
            return 0
        _, left = await asyncio.wait(self._open, timeout=deadline_s)
        for task in left:
            task.cancel()
        return len(left)

    def rush(self, count: int) -> None:
        """Start so many runs now, or as many as are missing to IN_FLIGHT_MAX."""
        in_flight = len(self._open) + len(self.runs - self._follower.ended)
        for _ in range(min(count, IN_FLIGHT_MAX - in_flight)):
            task = asyncio.create_task(self._request(self._count))
            self._count += 1
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _request(self, number: int) -> None:
        workflow = self._random.choice(list(WORKFLOWS))
        repeats = self._random.random() < REPEATED
        cancels = self._random.random() < CANCELLED
        delay_s = self._random.uniform(0, CANCEL_AFTER_S)
        run_id, *_ = await asyncio.gather(*(self._start(workflow, number) for _ in range(2 if repeats else 1)))
        if cancels:
            await asyncio.sleep(delay_s)
            await self._cancel(run_id)

    async def _start(self, workflow: str, number: int) -> str:
        request_id = f"chaos/{self._seed}/{number}"
        while True:
            try:
                run = await self._client.start(workflow, {"number": number}, request_id=request_id)
            except DagNatsError:
                await asyncio.sleep(AGAIN_S)
            else:
                self.acknowledged.append(Acknowledged(request_id, run.run_id))
                self.runs.add(run.run_id)
                return run.run_id

    async def _cancel(self, run_id: str) -> None:
        try:
            await self._client.run(run_id).cancel()
        except DagNatsError:
            return  # it had ended, or nobody answered: either is fine
