"""One stay of a worker at a site: connected, its workflows registered, its queues pulled, until it stops.

    connect -> find the site -> register workflows -> get the queues -> listen, beat, pull

and backwards at the stop. What is not there yet is waited for; what comes and goes afterwards heals by itself.
No task is handled here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, NamedTuple

import structlog

from dagnats.worker.beat import Beat
from dagnats.worker.desk import TaskType
from dagnats.worker.handlers import Handler
from dagnats.worker.payloads import persist
from dagnats.worker.puller import Puller
from dagnats.worker.runner import Runner
from dagnats.worker.slots import QueueSlots, Slots, TypeSlots
from dagnats_core import __version__, limits
from dagnats_core.bus.connection import Connection, ConnectOptions, connect
from dagnats_core.bus.subjects import Subjects
from dagnats_core.errors import DagNatsError
from dagnats_core.lifecycle import ServiceBase
from dagnats_core.telemetry.logs import log_warnings_only
from dagnats_micro.client import MicroClient, resolve_site
from dagnats_micro.schemas import worker as schemas
from dagnats_micro.schemas.wf import RegisterRequest
from dagnats_micro.table import WF_REGISTER, WORKER_CONNECT

FLUSH_S = 1.0

log = structlog.get_logger(__name__)


class Registration(NamedTuple):
    """A task that the worker can do, as it was registered."""

    task: str
    group: str | None
    handler: Handler
    max_concurrent: int


class Plan(NamedTuple):
    """All that a worker was told before it started."""

    worker_id: str
    options: ConnectOptions
    site: str | None
    registrations: Sequence[Registration]
    definitions: Sequence[Mapping[str, Any]]
    max_concurrent: int


class Session(ServiceBase):
    """Starts when everything it needs is there, however long that takes; cancel the start to give up.

    Raises what no waiting can mend: refused credentials, an invalid definition, several sites to choose from.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._stack = AsyncExitStack()
        self._slots = Slots(plan.max_concurrent)
        self._pullers: dict[QueueSlots, Puller] = {}
        self._pump_due = False
        self._rejoining: asyncio.Task[None] | None = None
        self._client: MicroClient

    async def _start(self) -> None:
        plan = self._plan
        log_warnings_only()
        connection = await persist(lambda: connect(plan.options), "connect to NATS")
        self._stack.push_async_callback(connection.close)
        self._stack.push_async_callback(_flush, connection)
        site = await persist(lambda: resolve_site(connection, plan.site), "find a site")
        self._client = MicroClient(connection, site)
        for definition in plan.definitions:
            await self._register(definition)
        reply = await self._join()
        runner = Runner(connection, plan.worker_id, reply, self._slots, self._client, self._on_room)
        self._stack.callback(runner.close)
        self._stack.push_async_callback(self._stop_rejoining)
        await self._listen(connection, site, reply, runner)
        await self._start_beat(runner)
        self._stack.push_async_callback(runner.finish, limits.DRAIN_MS / 1000)
        await self._start_pulling(connection, reply, runner)
        tasks = sorted({registration.task for registration in plan.registrations})
        log.info("worker.ready", worker_id=plan.worker_id, site=site, nats_url=connection.url, tasks=tasks)

    async def _stop(self) -> None:
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    async def _register(self, definition: Mapping[str, Any]) -> None:
        request = RegisterRequest(definition=definition, by="worker")
        reply = await persist(lambda: self._client.call(WF_REGISTER, request), "register a workflow")
        log.info("worker.workflow_registered", workflow=reply.name, version=reply.version, created=reply.created)

    def _task_types(self) -> list[schemas.TaskType]:
        return [
            schemas.TaskType(
                task=registration.task, group=registration.group, max_concurrent=registration.max_concurrent
            )
            for registration in self._plan.registrations
        ]

    async def _join(self) -> schemas.ConnectReply:
        """Ask for the queues, which are made if they are not there."""
        request = schemas.ConnectRequest(worker_id=self._plan.worker_id, tasks=self._task_types())
        return await persist(lambda: self._client.call(WORKER_CONNECT, request), "get the queues")

    async def _listen(self, connection: Connection, site: str, reply: schemas.ConnectReply, runner: Runner) -> None:
        for token in {queue.token for queue in reply.queues}:
            subscription = await connection.subscribe_fast(Subjects(site).cancel_notice(token), runner.on_notice)
            self._stack.push_async_callback(connection.unsubscribe_fast, subscription)

    async def _start_beat(self, runner: Runner) -> None:
        plan = self._plan
        beat = Beat(
            self._client,
            plan.worker_id,
            self._task_types(),
            plan.max_concurrent,
            __version__,
            lambda: runner.running,
        )
        await beat.start()
        self._stack.push_async_callback(beat.stop)

    async def _start_pulling(self, connection: Connection, reply: schemas.ConnectReply, runner: Runner) -> None:
        registered = {(each.task, each.group): each for each in self._plan.registrations}
        types: dict[str, TaskType] = {}
        for queue in reply.queues:
            if queue.token not in types:
                _, _, handler, limit = registered[queue.task, queue.group]
                types[queue.token] = TaskType(queue.task, queue.group, queue.token, handler, TypeSlots(limit))
            puller = Puller(
                connection,
                queue,
                types[queue.token],
                self._slots,
                runner.accept,
                lambda: runner.reporter.full,
                self._on_room,
                self._on_queue_lost,
            )
            self._pullers[puller.slots] = puller
        self._stack.push_async_callback(self._stop_pulling)
        for puller in self._pullers.values():
            await puller.start()

    async def _stop_pulling(self) -> None:
        await asyncio.gather(*(puller.stop() for puller in self._pullers.values()))

    # -- what happens meanwhile

    def _on_room(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        for queue in self._slots.in_order():
            self._pullers[queue].refill()

    def _on_queue_lost(self, reason: str) -> None:
        if self._rejoining is None or self._rejoining.done():
            log.warning("worker.queue_lost", reason=reason)
            self._rejoining = asyncio.create_task(self._rejoin(), name="dagnats-worker-rejoin")

    async def _rejoin(self) -> None:
        try:
            await self._join()
        except DagNatsError as error:
            log.error("worker.queues_refused", error=error.message)
        await asyncio.sleep(limits.WORKER_RETRY_MS_MAX / 1000)

    async def _stop_rejoining(self) -> None:
        if self._rejoining is not None:
            self._rejoining.cancel()
            await asyncio.wait({self._rejoining})


async def _flush(connection: Connection) -> None:
    with suppress(DagNatsError):
        await connection.flush(FLUSH_S)
