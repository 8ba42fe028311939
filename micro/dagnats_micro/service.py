"""The API service of one process: makes the parts, binds the handlers to the table, answers until it is stopped.

Stop order: leave discovery and take no more requests; answer what is in flight; then let go of the parts.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from dagnats_core import __version__, ids, limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.kv import Bucket
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.setup import SiteInfo
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.committer import Committer
from dagnats_core.engine.definitions import Definitions
from dagnats_core.engine.log import RunLog
from dagnats_core.engine.payloads import Payloads
from dagnats_core.engine.reader import RunReader
from dagnats_core.lifecycle import ServiceBase
from dagnats_micro.api import Api, now_ms
from dagnats_micro.discovery import Discovery, Identity
from dagnats_micro.handlers import dlq, payload, run, system, wf, worker
from dagnats_micro.index import Index
from dagnats_micro.once import FirstAnswers
from dagnats_micro.runner import Bound, Pool, Runner
from dagnats_micro.runs import Runs
from dagnats_micro.starter import Starter
from dagnats_micro.watch import Watches

DRAIN_S = limits.DRAIN_MS / limits.SECOND_MS / 2
"""How long requests in flight may take once the service stops; the engine has the rest of the time."""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`index_dir`: where the index stays over restarts; None = it is built anew. `role`: what this process is."""

    index_dir: Path | None = None
    role: str = "api"


class ApiService(ServiceBase):
    """Answers the control plane of a site over one connection."""

    def __init__(self, connection: Connection, site: SiteInfo, settings: ApiSettings | None = None) -> None:
        super().__init__()
        self._connection = connection
        self._site = site
        self._settings = settings or ApiSettings()
        self._exit = AsyncExitStack()
        self._api: Api | None = None
        self.instance_id = ids.base32(secrets.randbits(110), 22)
        self.runners: list[Runner] = []

    def set_http_url(self, url: str | None) -> None:
        """What `system.info` says about where REST is served in this process."""
        if self._api is not None:
            self._api.http_url = url

    async def _start(self) -> None:
        self._api = api = await self._parts()
        queue = f"dagnats-{self._site.site}"
        self.runners = [
            Runner(self._connection, bound, api.subjects.api(bound.endpoint.noun, bound.endpoint.verb), queue, api.pool)
            for bound in bind(api)
        ]
        self._exit.push_async_callback(api.pool.drain, DRAIN_S)
        self._exit.push_async_callback(self._leave)
        for runner in self.runners:
            await runner.start()
        discovery = Discovery(self._connection, self._identity(), self.runners)
        self._exit.push_async_callback(discovery.stop)
        await discovery.start()
        await self._connection.flush()

    async def _stop(self) -> None:
        await self._exit.aclose()

    async def _leave(self) -> None:
        await asyncio.gather(*(runner.stop() for runner in self.runners))

    async def _parts(self) -> Api:
        connection, site = self._connection, self._site
        topology, subjects = Topology(site.site, site.shards), Subjects(site.site)
        publisher = Publisher(connection)
        await publisher.start()
        self._exit.push_async_callback(publisher.stop)
        log = RunLog(connection, publisher, topology)
        definitions = Definitions(Bucket(connection, publisher, topology.definitions_bucket))
        payloads = Payloads(connection, publisher, topology)
        index = Index(connection, topology, site.site_id, payloads, self._settings.index_dir)
        await index.start()
        self._exit.push_async_callback(index.stop)
        pool = Pool()
        runs = Runs(connection, topology, RunReader(log, definitions, payloads), index, payloads)
        watches = Watches(connection, topology, runs, pool)
        await watches.start()
        self._exit.push_async_callback(watches.stop)
        committers = [Committer(log, synced=site.synced, replicated=site.replicas > 1) for _ in range(site.shards)]
        return Api(
            connection=connection,
            site=site,
            topology=topology,
            subjects=subjects,
            publisher=publisher,
            definitions=definitions,
            payloads=payloads,
            index=index,
            runs=runs,
            starter=Starter(subjects, site.partitions, committers, definitions, payloads, runs, now_ms),
            watches=watches,
            pool=pool,
            first_answers=FirstAnswers(Bucket(connection, publisher, topology.requests_bucket)),
            workers=Bucket(connection, publisher, topology.workers_bucket),
            leases=Bucket(connection, publisher, topology.leases_bucket),
            role=self._settings.role,
            started_at=now_ms(),
        )

    def _identity(self) -> Identity:
        site = self._site
        metadata = {
            "site": site.site,
            "site_id": site.site_id,
            "domain": site.domain,
            "version": __version__,
            "role": self._settings.role,
        }
        return Identity(id=self.instance_id, version=__version__, metadata=metadata)


def bind(api: Api) -> list[Bound[Any, Any]]:
    """Every endpoint of the table with its handler."""
    return [bound for noun in (wf, run, dlq, worker, payload, system) for bound in noun.bind(api)]
