"""`worker`: where workers get their tasks from, and who works."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from dagnats_core import __version__, limits
from dagnats_core.bus.setup import ensure_task_consumer
from dagnats_core.bus.subjects import task_token
from dagnats_core.errors import Invalid, Problem
from dagnats_core.ids import is_task
from dagnats_micro import table
from dagnats_micro.api import Api, now_ms
from dagnats_micro.paging import key_of, next_cursor, page_of
from dagnats_micro.present import timestamp
from dagnats_micro.runner import Bound
from dagnats_micro.schemas import worker

CONSUMERS_AT_ONCE = 16

_encode = msgspec.json.Encoder().encode
_decode_beat = msgspec.json.Decoder(worker.BeatRequest).decode


class Workers:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._making = asyncio.Semaphore(CONSUMERS_AT_ONCE)

    async def connect(self, request: worker.ConnectRequest) -> worker.ConnectReply:
        """Make the queues that do not exist, and name them all."""
        problems = [
            Problem(f"tasks[{number}].task", "task", f"{task.task!r} is not a task name")
            for number, task in enumerate(request.tasks)
            if not is_task(task.task)
        ]
        if problems:
            raise Invalid("these are not task names", problems)
        queues = await asyncio.gather(*(self._queues(task) for task in request.tasks))
        return worker.ConnectReply(
            site=self._api.site.site,
            queues=[queue for several in queues for queue in several],
            ack_wait_ms=limits.ACK_WAIT_MS,
            max_ack_pending=limits.TASKS_IN_FLIGHT_MAX,
            deliveries_before_lost=limits.DELIVERIES_BEFORE_LOST,
            claim_after_ms=limits.CLAIM_AFTER_MS,
            inline_bytes_max=limits.INLINE_BYTES_MAX,
            payload_chunk_bytes_max=limits.PAYLOAD_CHUNK_BYTES_MAX,
            version=__version__,
        )

    async def beat(self, request: worker.BeatRequest) -> worker.BeatReply:
        bucket = self._api.workers
        if request.stopping:
            await bucket.delete(request.worker_id)
        else:
            await bucket.put(request.worker_id, _encode(request))
        return worker.BeatReply(worker_id=request.worker_id)

    async def list(self, request: worker.WorkerListRequest) -> worker.WorkerList:
        after = key_of(request.cursor, tuple[str])
        entries = await self._api.workers.entries()
        items = []
        oldest = now_ms() - limits.WORKER_TTL_MS
        for worker_id, entry in sorted(entries.items()):
            if entry.time_ms < oldest:
                continue  # a nats-server that was killed may have forgotten the key's TTL
            beat = _decode_beat(entry.value)
            tasks = sorted({task.task for task in beat.tasks})
            if (after is not None and worker_id <= after[0]) or request.task not in (None, *tasks):
                continue
            items.append(
                worker.WorkerItem(
                    worker_id=worker_id,
                    tasks=tasks,
                    running=beat.running,
                    max_concurrent=beat.max_concurrent,
                    hostname=beat.hostname,
                    pid=beat.pid,
                    language=beat.language,
                    version=beat.version,
                    started_at=beat.started_at or None,
                    last_seen=timestamp(entry.time_ms),
                )
            )
        page, more = page_of(items, request.limit)
        return worker.WorkerList(items=page, next_cursor=next_cursor(more, page[-1].worker_id if page else ""))

    async def _queues(self, task: worker.TaskType) -> Sequence[worker.Queue]:
        token = task_token(task.task, task.group or "")
        async with self._making:
            consumers = await ensure_task_consumer(self._api.connection, self._api.topology, token)
        return [
            worker.Queue(
                task=task.task,
                group=task.group,
                token=token,
                stream=consumer.stream_name,
                consumer=consumer.name,
                domain=self._api.site.domain or None,
            )
            for consumer in consumers
        ]


def bind(api: Api) -> list[Bound[Any, Any]]:
    workers = Workers(api)
    return [
        Bound(table.WORKER_CONNECT, workers.connect),
        Bound(table.WORKER_BEAT, workers.beat),
        Bound(table.WORKER_LIST, workers.list),
    ]
