"""The client: starts runs with request ids and asks again until each start is acknowledged; cancels some."""

from __future__ import annotations

import asyncio
import random

from dagnats import Client
from dagnats_core.errors import DagNatsError
from tests.chaos.workflows import WORKFLOWS

RUNS_PER_S = 40
CANCELLED = 0.05
IN_FLIGHT_MAX = 300


class Load:
    """`acknowledged` holds the run id of every start that was answered."""

    def __init__(self, client: Client, seed: int) -> None:
        self.acknowledged: list[str] = []
        self._client = client
        self._seed = seed
        self._random = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()
        self._count = 0

    async def run(self, duration_s: float) -> None:
        """Start runs for so long, then wait until every start is answered."""
        loop = asyncio.get_running_loop()
        until = loop.time() + duration_s
        while loop.time() < until:
            await asyncio.sleep(1 / RUNS_PER_S)
            if len(self._open) < IN_FLIGHT_MAX:
                task = asyncio.create_task(self._start(self._count))
                self._count += 1
                self._open.add(task)
                task.add_done_callback(self._open.discard)
        await asyncio.gather(*self._open)

    async def _start(self, number: int) -> None:
        workflow = self._random.choice(list(WORKFLOWS))
        cancelled = self._random.random() < CANCELLED
        request_id = f"chaos/{self._seed}/{number}"
        while True:
            try:
                run = await self._client.start(workflow, {"number": number}, request_id=request_id)
                break
            except DagNatsError:
                await asyncio.sleep(0.2)
        self.acknowledged.append(run.run_id)
        if cancelled:
            try:
                await run.cancel()
            except DagNatsError:
                return  # it had ended, or nobody answered: either is fine

    async def settle(self, deadline_s: float) -> None:
        """Wait until every acknowledged run has ended, or the time is over."""
        gate = asyncio.Semaphore(50)

        async def ended(run_id: str) -> None:
            async with gate:
                while True:
                    try:
                        if (await self._client.run(run_id).status()) in ("completed", "failed", "cancelled"):
                            return
                    except DagNatsError as error:
                        if error.code == "not_found":
                            return  # the checker says what that means
                    await asyncio.sleep(0.3)

        waiting = [asyncio.create_task(ended(run_id)) for run_id in self.acknowledged]
        _, late = await asyncio.wait(waiting, timeout=deadline_s) if waiting else (set(), set())
        for task in late:
            task.cancel()
