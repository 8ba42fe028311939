"""`Client`: registers workflows, starts runs and looks at them.

A thin, typed face of the control plane's endpoints.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dagnats.connect import connect_options, wanted_site
from dagnats.runs import RunHandle
from dagnats_core import limits
from dagnats_core.bus.connection import Connection, connect
from dagnats_core.errors import DagNatsError
from dagnats_core.telemetry.logs import log_warnings_only
from dagnats_micro.client import MicroClient, resolve_site
from dagnats_micro.errors import error_of
from dagnats_micro.schemas import dlq, system, wf, worker
from dagnats_micro.schemas import run as run_schemas
from dagnats_micro.schemas.common import Empty
from dagnats_micro.table import (
    DLQ_LIST,
    DLQ_REPLAY,
    RUN_COUNT,
    RUN_LIST,
    RUN_START_MANY,
    SYSTEM_HEALTH,
    SYSTEM_INFO,
    WF_DELETE,
    WF_GET,
    WF_LIST,
    WF_REGISTER,
    WF_START,
    WORKER_LIST,
)

if TYPE_CHECKING:
    from dagnats.workflow import Workflow

T = TypeVar("T")
Tags = Sequence[str] | Mapping[str, str]
PAGE = 200
"""Items of a list that are asked for at once."""
BATCH_BYTES_MAX = 512 * limits.KIB
"""Inputs of one `run.start-many` request, so that it and its envelope fit a message."""


class Client:
    """One connection to one site.

    Make it with `Client.connect()`; every method raises DagNatsError subclasses.
    """

    def __init__(self, connection: Connection, site: str) -> None:
        self._connection = connection
        self.site = site
        self.micro = MicroClient(connection, site)
        """The typed client of all endpoints, for what has no method here."""

    @staticmethod
    def connect(
        nats_url: str | None = None,
        *,
        site: str | None = None,
        creds: str | None = None,
        timeout: float = 5.0,
    ) -> Connecting:
        """Connect: `async with Client.connect() as client:`, or await it and `close` the client.

        Defaults: DAGNATS_NATS_URL, DAGNATS_SITE, DAGNATS_CREDS, then the local server and the site found
        there. Raises Unavailable after `timeout` seconds, or Invalid if there are several sites to choose
        from.
        """
        return Connecting(nats_url, site, creds, timeout)

    async def close(self) -> None:
        await self._connection.close()

    # -- workflows

    async def register(self, workflow: Workflow | Mapping[str, Any] | str | Path) -> wf.RegisterReply:
        """Register a workflow: built in Python, a definition as a dict, or the path of a YAML or JSON file.

        The same content is the same version. Raises Invalid with all problems and their paths.
        """
        definition = await asyncio.to_thread(_definition, workflow)
        return await self.micro.call(WF_REGISTER, wf.RegisterRequest(definition=definition))

    async def workflow(self, name: str, version: int | None = None) -> wf.Workflow:
        """A workflow's current version, or a given one. Raises NotFound."""
        return await self.micro.call(WF_GET, wf.WorkflowRequest(name=name, version=version))

    def workflows(self) -> AsyncIterator[wf.WorkflowItem]:
        """All workflows, by name."""
        return _pages(lambda cursor: self.micro.call(WF_LIST, wf.WorkflowListRequest(limit=PAGE, cursor=cursor)))

    async def delete(self, name: str) -> bool:
        """Delete a workflow; its runs in flight go on. Raises NotFound."""
        return (await self.micro.call(WF_DELETE, wf.DeleteRequest(name=name))).deleted

    # -- runs

    async def start(
        self,
        workflow: str | Workflow,
        input: Any = None,
        *,
        request_id: str | None = None,
        tags: Tags = (),
        version: int | None = None,
    ) -> RunHandle:
        """Start a run. The input is anything that msgspec writes as JSON, of at most 64 MiB.

        With `request_id`, starting again gives the same run, for as long as it is kept; another input with
        the same request id raises Conflict. Without one, an Unavailable or TimedOut leaves open whether the
        run was started.
        """
        reply = await self.micro.call(
            WF_START,
            wf.StartRequest(
                workflow=_name(workflow),
                input=input,
                request_id=request_id,
                tags=_tags(tags),
                version=version,
            ),
        )
        return RunHandle(self.micro, reply.run_id, created=reply.created)

    async def start_many(
        self,
        workflow: str | Workflow,
        inputs: Iterable[Any],
        *,
        request_id: str | None = None,
        tags: Tags = (),
        version: int | None = None,
    ) -> list[RunHandle | DagNatsError]:
        """Start one run for each input, many in one request. A run or its refusal for each, in order.

        With `request_id`, the same call again (same inputs, same order) gives the same runs.
        """
        started: list[RunHandle | DagNatsError] = []
        for batch in _batches(inputs):
            request = run_schemas.StartManyRequest(
                workflow=_name(workflow),
                inputs=batch,
                request_id=f"{request_id}/{len(started)}" if request_id else None,
                tags=_tags(tags),
                version=version,
            )
            started += await self._start_batch(request)
        return started

    async def _start_batch(self, request: run_schemas.StartManyRequest) -> list[RunHandle | DagNatsError]:
        if len(request.inputs) > 1:
            return [self._started(item) for item in (await self.micro.call(RUN_START_MANY, request)).items]
        try:
            return [
                await self.start(
                    request.workflow,
                    request.inputs[0],
                    request_id=request.request_id,
                    tags=request.tags,
                    version=request.version,
                )
            ]
        except DagNatsError as error:
            return [error]

    def _started(self, item: run_schemas.StartedItem) -> RunHandle | DagNatsError:
        if item.run_id is not None:
            return RunHandle(self.micro, item.run_id, created=item.created)
        return error_of(item.error) if item.error else DagNatsError("the run was not started")

    def run(self, run_id: str) -> RunHandle:
        """The handle of a run whose id is known. Asks nothing."""
        return RunHandle(self.micro, run_id)

    def runs(
        self,
        *,
        workflow: str | None = None,
        status: run_schemas.RunStatus | None = None,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> AsyncIterator[run_schemas.RunItem]:
        """Runs, newest first. `since` and `until` are RFC 3339, or a duration ago."""

        def page(cursor: str | None) -> Awaitable[run_schemas.RunList]:
            return self.micro.call(
                RUN_LIST,
                run_schemas.RunListRequest(
                    workflow=workflow,
                    status=status,
                    tag=tag,
                    since=since,
                    until=until,
                    limit=PAGE,
                    cursor=cursor,
                ),
            )

        return _pages(page)

    async def count(
        self, *, workflow: str | None = None, status: run_schemas.RunStatus | None = None, tag: str | None = None
    ) -> int:
        """How many runs there are."""
        return (
            await self.micro.call(RUN_COUNT, run_schemas.RunCountRequest(workflow=workflow, status=status, tag=tag))
        ).count

    # -- dead letters, workers, the system

    def dead_letters(self, *, workflow: str | None = None, replayed: bool = False) -> AsyncIterator[dlq.DeadLetter]:
        """What failed for good, newest first; with `replayed` also what was run again."""
        return _pages(
            lambda cursor: self.micro.call(
                DLQ_LIST,
                dlq.DeadLetterListRequest(workflow=workflow, replayed=replayed, limit=PAGE, cursor=cursor),
            )
        )

    async def replay(self, dead_letter_id: str, *, request_id: str | None = None) -> RunHandle:
        """Run a dead letter again from where it failed: a new run that takes over what had completed."""
        reply = await self.micro.call(DLQ_REPLAY, dlq.ReplayRequest(id=dead_letter_id, request_id=request_id))
        return RunHandle(self.micro, reply.run_id, created=reply.created)

    def workers(self, *, task: str | None = None) -> AsyncIterator[worker.WorkerItem]:
        """The workers that live."""
        return _pages(
            lambda cursor: self.micro.call(WORKER_LIST, worker.WorkerListRequest(task=task, limit=PAGE, cursor=cursor))
        )

    async def info(self) -> system.Info:
        """Which site this is and what it guarantees."""
        return await self.micro.call(SYSTEM_INFO, Empty())

    async def health(self) -> system.Health:
        """How each component of the site is."""
        return await self.micro.call(SYSTEM_HEALTH, Empty())


class Connecting:
    """What `Client.connect()` gives: enter it or await it."""

    def __init__(self, nats_url: str | None, site: str | None, creds: str | None, timeout_s: float) -> None:
        self._arguments = (nats_url, site, creds, timeout_s)
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._open()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def _open(self) -> Client:
        nats_url, site, creds, timeout_s = self._arguments
        options = msgspec.structs.replace(
            connect_options(nats_url, creds, "dagnats-client"), connect_timeout_s=timeout_s
        )
        log_warnings_only()
        connection = await connect(options)
        try:
            return Client(connection, await resolve_site(connection, wanted_site(site)))
        except BaseException:
            await connection.close()
            raise


async def _pages(page: Callable[[str | None], Awaitable[Any]]) -> AsyncIterator[Any]:
    """All items of a list, page after page."""
    cursor: str | None = None
    while True:
        reply = await page(cursor)
        for item in reply.items:
            yield item
        cursor = reply.next_cursor
        if cursor is None:
            return


def _batches(inputs: Iterable[Any]) -> Iterable[list[msgspec.Raw]]:
    """Inputs as JSON, in groups that fit one request; one that is large is a group of its own."""
    batch: list[msgspec.Raw] = []
    size = 0
    for each in inputs:
        raw = msgspec.Raw(msgspec.json.encode(each))
        if batch and (size + len(raw) > BATCH_BYTES_MAX or len(batch) == limits.START_MANY_MAX):
            yield batch
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield batch


def _definition(workflow: Workflow | Mapping[str, Any] | str | Path) -> Any:
    if isinstance(workflow, str | Path):
        return Path(workflow).read_text("utf-8")
    return workflow if isinstance(workflow, Mapping) else workflow.definition()


def _name(workflow: str | Workflow) -> str:
    return workflow if isinstance(workflow, str) else workflow.name


def _tags(tags: Tags) -> list[str] | dict[str, str]:
    return dict(tags) if isinstance(tags, Mapping) else list(tags)
