"""Which partitions this engine owns: keeps its lease, takes its share, gives up what is too much. No NATS here.

Balance: each engine that lives owns `partitions / engines` of them, give or take one. Who has too many releases, who
has too few claims what is free or held by an engine whose key has expired. A lease protects nothing by itself, the
stamp in the log does (PROTOCOL.md): it says who should try, and until when answers that need no write may be given.
So a round never waits for the log: taking and leaving partitions are tasks beside it, and the key is always renewed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog

from dagnats_core import limits
from dagnats_core.engine.committer import Committer
from dagnats_core.engine.partition import Lost, Partition
from dagnats_core.engine.parts import Parts
from dagnats_core.engine.ports import Holding, Holdings, LeasesPort
from dagnats_core.errors import DagNatsError

log = structlog.get_logger("dagnats.engine")

RENEW_S = limits.LEASE_RENEW_MS / limits.SECOND_MS
MARGIN_S = limits.LEASE_MARGIN_MS / limits.SECOND_MS
TTL_S = limits.LEASE_TTL_MS / limits.SECOND_MS
TAKE_S = LEAVE_S = TTL_S
"""How long a start waits for its first partitions, and how long one may take to leave in order: then it is dropped,
which loses nothing."""
FLOOR_ROUNDS = limits.FLOOR_WRITE_MS // limits.LEASE_RENEW_MS


class Ownership:
    """The partitions of one engine. `committers`: one a shard. `alone`: nobody else lives when this one starts (the
    data dir's lock says so), so the first round takes every partition, whoever held it."""

    def __init__(
        self,
        parts: Parts,
        leases: LeasesPort,
        committers: Sequence[Committer],
        partitions: int,
        *,
        alone: bool = False,
    ) -> None:
        self.owned: dict[int, Partition] = {}
        """Partitions that are owned, or being taken."""
        self._parts = parts
        self._leases = leases
        self._committers = committers
        self._count = partitions
        self._alone = alone
        self._dead: frozenset[str] = frozenset()
        """Engines of which the data dir's lock says that they live no more, whatever their keys say."""
        self._dead_until = 0.0
        """Whose key still stands then has renewed it since: another process, which shares the work."""
        self._loop = asyncio.get_running_loop()
        self._expires = float("-inf")
        self._claiming: set[int] = set()
        self._leaving: set[int] = set()
        self._beside: set[asyncio.Task[None]] = set()
        self._rounds: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first round; returns once its partitions are taken, or the log is slow. Raises what the leases raise."""
        await self._round()
        taking = set(self._beside)
        self._rounds = self._loop.create_task(self._run())
        if taking:
            await asyncio.wait(taking, timeout=TAKE_S)

    async def stop(self) -> None:
        """Leave every partition in order, so that others go on at once. Stopping twice is fine."""
        rounds, self._rounds = self._rounds, None
        if rounds is None:
            return
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)
        holdings = Holdings(frozenset(), {})
        with suppress(DagNatsError):
            holdings = await self._leases.read()
        for number in list(self.owned):
            self._release(number, holdings.partitions.get(number))
        await asyncio.gather(*self._beside, return_exceptions=True)
        with suppress(DagNatsError):
            await self._leases.resign()

    # ---- rounds

    async def _run(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(RENEW_S)
            rounds += 1
            if rounds % FLOOR_ROUNDS == 0:
                for partition in list(self.owned.values()):
                    partition.write_floor()
            try:
                await self._round()
            except DagNatsError as error:
                log.warning("cannot renew the lease", error=str(error))
                self._lose_if_lapsed()
            except Exception:
                log.exception("the engine's round failed")

    async def _round(self) -> None:
        """Renew, look, lose what somebody else holds, release what is too much, claim what is missing."""
        expires = await self._leases.renew()
        self._lose_if_lapsed()
        self._expires = expires
        holdings = await self._leases.read()
        if self._alone:
            self._dead, self._alone = holdings.engines - {self._parts.engine_id}, False
            self._dead_until = self._loop.time() + TTL_S + RENEW_S
        elif self._loop.time() > self._dead_until:
            self._dead = frozenset()
        for number, partition in list(self.owned.items()):
            if number in self._claiming:
                continue
            holding = holdings.partitions.get(number)
            if holding is not None and holding.engine == self._parts.engine_id:
                partition.lease_until = expires - MARGIN_S
            else:
                partition.lose()
        self._balance(holdings)

    def _lose_if_lapsed(self) -> None:
        """The key may have been gone for a while: whoever saw that may have claimed, so nothing here is ours."""
        if self._loop.time() >= self._expires:
            for partition in list(self.owned.values()):
                partition.lose()

    def _balance(self, holdings: Holdings) -> None:
        ours = self._parts.engine_id
        engines = sorted((holdings.engines - self._dead) | {ours})
        share, rest = divmod(self._count, len(engines))
        quota = share + (engines.index(ours) < rest)
        for number in sorted(self.owned)[quota:]:
            self._release(number, holdings.partitions.get(number))
        others = set(engines) - {ours}
        free = [
            number
            for number in range(self._count)
            if number not in self.owned
            and number not in self._leaving
            and ((holding := holdings.partitions.get(number)) is None or holding.engine not in others)
        ]
        wanted = max(0, quota - len(self.owned))
        for number in free[:wanted]:
            self._claim(number, holdings.partitions.get(number))
        for number in free[wanted:]:
            holding = holdings.partitions.get(number)
            if holding is not None and holding.engine == ours:
                self._go(self._disown(number, holding))

    # ---- taking and leaving, beside the rounds

    def _claim(self, number: int, holding: Holding | None) -> None:
        committer = self._committers[number % len(self._committers)]
        partition = self.owned[number] = Partition(number, self._parts, committer, self._on_lost)
        partition.lease_until = self._expires - MARGIN_S
        self._claiming.add(number)
        self._go(self._take(partition, holding))

    async def _take(self, partition: Partition, holding: Holding | None) -> None:
        by_force = holding is not None and holding.engine in self._dead
        try:
            try:
                claimed = await self._leases.claim(partition.number, holding, by_force=by_force)
            finally:
                self._claiming.discard(partition.number)
            if not claimed:
                raise Lost(f"partition {partition.number} is held by another engine")
            await partition.take()
        except (Lost, DagNatsError) as error:
            log.warning("partition not taken", partition=partition.number, error=str(error))
            partition.lose()
        except BaseException:
            partition.lose()
            raise

    def _release(self, number: int, holding: Holding | None) -> None:
        self._leaving.add(number)
        self._go(self._leave(self.owned.pop(number), holding))

    async def _leave(self, partition: Partition, holding: Holding | None) -> None:
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(partition.stop(), LEAVE_S)
            partition.lose()
            if holding is not None and holding.engine == self._parts.engine_id:
                with suppress(DagNatsError):
                    await self._leases.release(partition.number, holding)
        finally:
            self._leaving.discard(partition.number)

    async def _disown(self, number: int, holding: Holding) -> None:
        """A key names us that we do not want: a claim that landed late, or what we lost and others are to have."""
        with suppress(DagNatsError):
            await self._leases.release(number, holding)

    def _on_lost(self, partition: Partition) -> None:
        if self.owned.get(partition.number) is partition:
            del self.owned[partition.number]
        self._go(partition.close())

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._beside.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("taking or leaving a partition failed", exc_info=error)
