"""The engine as a service: takes its share of the partitions, gives them up, keeps house.

Balance: each engine that lives owns `partitions / engines` of them, give or take one. Who has too many releases,
who has too few claims what is free or held by an engine whose key has expired.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import suppress

import structlog

from dagnats_core import ids, limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.kv import Bucket
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.setup import SiteInfo
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.cleaner import Cleaner
from dagnats_core.engine.committer import Committer
from dagnats_core.engine.definitions import Definitions
from dagnats_core.engine.leases import Leases
from dagnats_core.engine.log import RunLog
from dagnats_core.engine.partition import Lost, Partition
from dagnats_core.engine.parts import Parts
from dagnats_core.engine.payloads import Payloads
from dagnats_core.engine.ports import Holdings
from dagnats_core.engine.requests import Requests
from dagnats_core.errors import DagNatsError

log = structlog.get_logger("dagnats.engine")

RENEW_S = limits.LEASE_RENEW_MS / limits.SECOND_MS
FLOOR_TICKS = limits.FLOOR_WRITE_MS // limits.LEASE_RENEW_MS


class EngineService:
    """Runs the partitions that this process owns. `alone`: nobody else can live (the data dir's lock says so), so every
    partition is taken at once, whoever held it."""

    def __init__(self, connection: Connection, site: SiteInfo, *, alone: bool = False) -> None:
        self._connection = connection
        self._site = site
        self._alone = alone
        self.engine_id = "e" + ids.base32(secrets.randbits(60), 12)
        self.partitions: dict[int, Partition] = {}
        self._taking: set[int] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Task[None] | None = None
        self._publisher: Publisher | None = None
        self._leases: Leases | None = None
        self._parts: Parts | None = None
        self._committers: list[Committer] = []

    async def start(self) -> None:
        """Take the first share; returns once those partitions are owned. Raises Unavailable."""
        if self._task is not None:
            return
        topology = Topology(self._site.site, self._site.shards)
        subjects = Subjects(self._site.site)
        publisher = self._publisher = Publisher(self._connection)
        await publisher.start()
        run_log = RunLog(self._connection, publisher, topology)
        definitions = Definitions(Bucket(self._connection, publisher, topology.definitions_bucket))
        self._leases = Leases(Bucket(self._connection, publisher, topology.leases_bucket), self.engine_id)
        self._committers = [
            Committer(run_log, synced=self._site.synced, replicated=self._site.replicas > 1)
            for _ in range(self._site.shards)
        ]
        self._parts = Parts(
            engine_id=self.engine_id,
            subjects=subjects,
            log=run_log,
            definitions=definitions,
            payloads=Payloads(self._connection, publisher, topology),
            requests=Requests(self._connection, subjects),
            now_ms=lambda: time.time_ns() // 1_000_000,
            entropy=os.urandom,
            runs_max=max(100, limits.RUNS_IN_MEMORY_MAX // self._site.partitions),
        )
        await self._tick()
        self._task = asyncio.create_task(self._run())
        cleaner = Cleaner(self._connection, topology, self._site.partitions, lambda: 0 in self.partitions)
        self._cleaning = asyncio.create_task(cleaner.run())

    async def stop(self) -> None:
        """Release everything in order: others go on at once. Stopping twice, or before the start, is fine."""
        task, self._task = self._task, None
        if task is None:
            return
        assert self._cleaning is not None
        for running in (task, self._cleaning):
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        await asyncio.gather(*(self._release(number) for number in list(self.partitions)))
        assert self._leases is not None and self._publisher is not None
        with suppress(DagNatsError):
            await self._leases.resign()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._publisher.stop()

    # ---- the share

    async def _run(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(RENEW_S)
            ticks += 1
            if ticks % FLOOR_TICKS == 0:
                for partition in list(self.partitions.values()):
                    partition.write_floor()
            try:
                await self._tick()
            except DagNatsError as error:
                log.warning("cannot renew the lease", error=str(error))
                self._lapse_if_over()
            except Exception:
                log.exception("the engine's round failed")

    def _lapse_if_over(self) -> None:
        """The key may have expired: whoever saw that may have claimed, so nothing here is ours any more."""
        assert self._leases is not None
        if self._leases.lapsed:
            for partition in list(self.partitions.values()):
                partition.lose()
            self._leases.rejoin()

    async def _tick(self) -> None:
        assert self._leases is not None
        until = await self._leases.renew()
        self._lapse_if_over()
        holdings = await self._leases.read()
        for number, partition in list(self.partitions.items()):
            holding = holdings.partitions.get(number)
            if holding is not None and holding.engine == self.engine_id:
                partition.lease_until = until
            else:
                partition.lose()
        await self._balance(holdings, until)
        self._alone = False

    async def _balance(self, holdings: Holdings, until: float) -> None:
        engines = sorted(holdings.engines | {self.engine_id}) if not self._alone else [self.engine_id]
        share, rest = divmod(self._site.partitions, len(engines))
        quota = share + (engines.index(self.engine_id) < rest)
        for number in sorted(self.partitions)[quota:]:
            await self._release(number)
        wanted = quota - len(self.partitions)
        free = [
            number
            for number in range(self._site.partitions)
            if number not in self.partitions
            and ((holding := holdings.partitions.get(number)) is None or holding.engine not in engines)
        ]
        await asyncio.gather(*(self._claim(number, holdings, until) for number in free[: max(0, wanted)]))

    async def _claim(self, number: int, holdings: Holdings, until: float) -> None:
        assert self._leases is not None and self._parts is not None
        holding = holdings.partitions.get(number)
        if not await self._leases.claim(number, holding.revision if holding else 0):
            return
        committer = self._committers[number % self._site.shards]
        partition = Partition(number, self._parts, committer, self._on_lost)
        partition.lease_until = until
        self.partitions[number] = partition
        try:
            await partition.take()
        except Lost:
            partition.lose()
        except BaseException:
            partition.lose()
            raise

    async def _release(self, number: int) -> None:
        assert self._leases is not None
        partition = self.partitions.pop(number, None)
        if partition is None:
            return
        await partition.stop()
        with suppress(DagNatsError):
            await self._leases.release(number)

    def _on_lost(self, partition: Partition) -> None:
        if self.partitions.get(partition.number) is partition:
            del self.partitions[partition.number]
        task = asyncio.get_running_loop().create_task(partition.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
