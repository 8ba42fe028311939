"""The engine as a service: its ports over one connection, the partitions that it owns, the cleaner."""

from __future__ import annotations

import asyncio
import os
import secrets
import time

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
from dagnats_core.engine.ownership import Ownership
from dagnats_core.engine.parts import Parts
from dagnats_core.engine.payloads import Payloads
from dagnats_core.engine.requests import Requests

log = structlog.get_logger("dagnats.engine")


class EngineService:
    """Runs the partitions that this process owns. `alone`: nobody else can live (the data dir's lock says so), so every
    partition is taken at once, whoever held it."""

    def __init__(self, connection: Connection, site: SiteInfo, *, alone: bool = False) -> None:
        self._connection = connection
        self._site = site
        self._alone = alone
        self.engine_id = "e" + ids.base32(secrets.randbits(60), 12)
        self._publisher: Publisher | None = None
        self._ownership: Ownership | None = None
        self._cleaning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the first share; returns once those partitions are owned. Raises Unavailable."""
        if self._ownership is not None:
            return
        site, topology = self._site, Topology(self._site.site, self._site.shards)
        publisher = self._publisher = Publisher(self._connection)
        await publisher.start()
        parts = self._parts(topology, publisher)
        leases = Leases(Bucket(self._connection, publisher, topology.leases_bucket), self.engine_id)
        committers = [
            Committer(parts.log, synced=site.synced, replicated=site.replicas > 1) for _ in range(site.shards)
        ]
        ownership = Ownership(parts, leases, committers, site.partitions, alone=self._alone)
        await ownership.start()
        self._ownership = ownership
        cleaner = Cleaner(self._connection, topology, site.partitions, lambda: 0 in ownership.owned)
        self._cleaning = asyncio.create_task(cleaner.run())
        log.info("engine started", engine=self.engine_id, partitions=len(ownership.owned))

    def _parts(self, topology: Topology, publisher: Publisher) -> Parts:
        subjects = Subjects(self._site.site)
        return Parts(
            engine_id=self.engine_id,
            subjects=subjects,
            log=RunLog(self._connection, publisher, topology),
            definitions=Definitions(Bucket(self._connection, publisher, topology.definitions_bucket)),
            payloads=Payloads(self._connection, publisher, topology),
            requests=Requests(self._connection, subjects),
            now_ms=lambda: time.time_ns() // 1_000_000,
            entropy=os.urandom,
            runs_max=max(100, limits.RUNS_IN_MEMORY_MAX // self._site.partitions),
        )

    async def stop(self) -> None:
        """Release everything in order: others go on at once. Stopping twice, or before the start, is fine."""
        ownership, self._ownership = self._ownership, None
        if ownership is None:
            return
        assert self._cleaning is not None and self._publisher is not None
        self._cleaning.cancel()
        await asyncio.gather(self._cleaning, return_exceptions=True)
        await ownership.stop()
        await self._publisher.stop()
