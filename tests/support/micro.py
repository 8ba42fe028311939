"""A site with an API service and no engine: tests write what an engine would have decided."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from dagnats_core import ids
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.read import get_last
from dagnats_core.bus.setup import SiteInfo, SiteSettings, ensure
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.run import messages as m
from dagnats_micro.client import MicroClient
from dagnats_micro.schemas import run, wf
from dagnats_micro.service import ApiService, ApiSettings
from dagnats_micro.table import RUN_GET, WF_REGISTER, WF_START
from tests.support.bus import open_connection, unique
from tests.support.nats import NatsServer

CHAIN: dict[str, Any] = {
    "name": "chain",
    "steps": [{"id": "a", "task": "t.a"}, {"id": "b", "task": "t.b", "depends_on": ["a"]}],
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class ApiSite:
    """One site on a server; `client` has a connection of its own, as callers have."""

    server: NatsServer
    connection: Connection
    client: MicroClient
    info: SiteInfo
    publisher: Publisher
    service: ApiService

    @property
    def subjects(self) -> Subjects:
        return Subjects(self.info.site)

    @property
    def topology(self) -> Topology:
        return Topology(self.info.site, self.info.shards)

    async def replica(self, index_dir: Path | None = None) -> ApiService:
        """Another API service of the site, on this connection; stop it yourself."""
        service = ApiService(self.connection, self.info, ApiSettings(index_dir=index_dir))
        await service.start()
        return service

    # -- as a caller

    async def register(self, definition: dict[str, Any] = CHAIN, **fields: Any) -> wf.RegisterReply:
        return await self.client.call(WF_REGISTER, wf.RegisterRequest(definition=definition, **fields))

    async def start(self, workflow: str = "chain", **fields: Any) -> str:
        return (await self.client.call(WF_START, wf.StartRequest(workflow=workflow, **fields))).run_id

    async def get(self, run_id: str) -> run.Run:
        return await self.client.call(RUN_GET, run.RunRequest(run_id=run_id))

    async def start_of(self, run_id: str) -> m.Start:
        """`in.start` as it stands in the log."""
        partition = ids.partition_of(run_id)
        stream = self.topology.run_stream(partition)
        message = await get_last(self.connection, stream, self.subjects.start(partition, run_id))
        assert message is not None, f"the log holds no start of {run_id}"
        return m.decode_start(message.data)

    # -- as the engine

    async def write(self, subject: str, body: object) -> int:
        """Store a message of the run log; its sequence."""
        return (await self.publisher.publish(subject, m.encode(body))).seq

    async def queue(self, run_id: str, n: int, step: str, *events: m.Event) -> int:
        """`out.task`: the first attempt of a step goes out to workers, after these events."""
        partition = ids.partition_of(run_id)
        token = "t~" + step
        task = m.Task(run_id, step, f"t.{step}", 1, "nonce", "chain", now_ms())
        body = m.Decision(v=1, n=n, after=1, at=now_ms(), events=list(events), task=task)
        return await self.write(self.subjects.task(partition, run_id, token, n), body)

    async def tell(self, run_id: str, n: int, *events: m.Event) -> int:
        """`out.events`."""
        body = m.Decision(v=1, n=n, after=1, at=now_ms(), events=list(events))
        return await self.write(self.subjects.events(ids.partition_of(run_id), run_id, n), body)

    async def park(self, run_id: str, n: int, message: str = "broken") -> int:
        """`out.parked`."""
        event = m.RunParked(m.ErrorInfo("parked", message, "a"))
        body = m.Decision(v=1, n=n, after=1, at=now_ms(), events=[event])
        return await self.write(self.subjects.parked(ids.partition_of(run_id), run_id, n), body)

    async def end(self, run_id: str, n: int = 9, *, ref: m.Ref | None = None, final: m.FinalRun | None = None) -> int:
        """`out.ended` with the final record, or with a reference to it."""
        final = final or final_of(await self.get(run_id))
        start = await self.start_of(run_id)
        final = msgspec.structs.replace(final, digest=start.digest, request_id=start.request_id)
        event = m.RunEnded(final.status, final.error, final.output_steps)  # type: ignore[arg-type]
        inline = final if ref is None else None
        body = m.Decision(v=1, n=n, after=10**9, at=final.ended_at, events=[event], final=inline, final_ref=ref)
        return await self.write(self.subjects.ended(ids.partition_of(run_id), run_id), body)


def final_of(
    view: run.Run, status: m.RunStatus = "completed", output: object = None, error: m.ErrorInfo | None = None
) -> m.FinalRun:
    """The record of a run that ends now: all steps completed, or the last one failed."""
    now = now_ms()
    steps = [
        m.FinalStep(
            id=step.id, task=step.task, status="completed", attempt=1, worker_id="w1", started_at=now - 5, ended_at=now,
            output=Raw(m.encode({"by": step.id} if output is None else output)),
        )
        for step in view.steps
    ]  # fmt: skip
    if status != "completed":
        last = view.steps[-1]
        ended: Any = "failed" if status == "failed" else "cancelled"
        steps[-1] = m.FinalStep(id=last.id, task=last.task, status=ended, attempt=2, error=error, ended_at=now)
    return m.FinalRun(
        run_id=view.run_id, workflow=view.workflow, version=view.version, hash=view.hash, status=status,
        created_at=now - 100, started_at=now - 90, ended_at=now, steps=steps, error=error, tags=view.tags,
        input=UNSET if view.input is None else Raw(m.encode(view.input)), output_steps=[view.steps[-1].id],
        retry_of=view.retry_of or "",
    )  # fmt: skip


@asynccontextmanager
async def open_site(
    server: NatsServer, site: str, settings: ApiSettings | None = None, **wanted: Any
) -> AsyncIterator[ApiSite]:
    connection, other = await open_connection(server), await open_connection(server)
    info = await ensure(connection, Topology(site), SiteSettings(durability="os", **wanted))
    publisher = Publisher(connection)
    await publisher.start()
    service = ApiService(connection, info, settings)
    await service.start()
    try:
        yield ApiSite(server, connection, MicroClient(other, site), info, publisher, service)
    finally:
        await service.stop()
        await publisher.stop()
        await other.close()
        await connection.close()


@pytest.fixture
async def api_site(shared_nats: NatsServer) -> AsyncIterator[ApiSite]:
    """A fresh site on the shared server."""
    async with open_site(shared_nats, unique("api-")) as site:
        yield site
