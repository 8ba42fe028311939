"""`run`: what has become of runs, and what may still be done about them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from msgspec import Raw

from dagnats_core import ids, limits
from dagnats_core.bus.errors import PublishTimeout, WrongSequence
from dagnats_core.errors import Conflict, DagNatsError
from dagnats_core.run import messages as m
from dagnats_micro import outputs, present, table
from dagnats_micro.api import Api, now_ms
from dagnats_micro.errors import reply_of
from dagnats_micro.index.query import RunQuery
from dagnats_micro.paging import key_of, next_cursor, page_of
from dagnats_micro.runner import Bound
from dagnats_micro.schemas import run
from dagnats_micro.schemas.common import Count
from dagnats_micro.starter import Order

CANCEL_WAIT_S = 2.0
"""How long a cancel waits for the engine to end the run; then it answers with the status that stands."""
CANCEL_TRIES = 3
ENDED = ("completed", "failed", "cancelled")

_NEW = b"Nats-Expected-Last-Subject-Sequence: 0\r\n"


class StartManyWire(run.StartManyRequest):
    """The inputs undecoded: they are passed on as they are."""

    inputs: list[Raw]


class RunHandlers:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def start_many(self, request: run.StartManyRequest) -> run.StartManyReply:
        """One answer for each input, in their order; an input that is refused does not stop the others."""

        async def start(number: int, value: Raw) -> run.StartedItem:
            order = Order(
                workflow=request.workflow,
                input=None if bytes(value) == b"null" else value,
                version=request.version,
                tags=request.tags,
                request_id=None if request.request_id is None else f"{request.request_id}/{number}",
            )
            try:
                started = await self._api.starter.start(order)
            except DagNatsError as error:
                return run.StartedItem(run_id=None, created=False, error=reply_of(error))
            return run.StartedItem(run_id=started.run_id, created=started.created)

        await self._api.definitions.resolve(request.workflow, request.version)
        items = await asyncio.gather(*(start(number, value) for number, value in enumerate(request.inputs)))
        return run.StartManyReply(items=items)

    async def get(self, request: run.RunRequest) -> run.Run:
        return present.run_of(await self._api.runs.get(request.run_id))

    async def list(self, request: run.RunListRequest) -> run.RunList:
        query = _query(request)._replace(after=key_of(request.cursor, tuple[int, str]))
        rows, age_ms = await self._api.index.list_runs(query, request.limit + 1)
        page, more = page_of(map(present.item_of, rows), request.limit)
        last = rows[len(page) - 1] if page else None
        cursor = next_cursor(more, last.created_at, last.run_id) if last is not None else None
        return run.RunList(items=page, next_cursor=cursor, index_age_ms=age_ms)

    async def count(self, request: run.RunCountRequest) -> Count:
        return Count(count=await self._api.index.count_runs(_query(request)))

    async def events(self, request: run.EventsRequest) -> run.EventList:
        page = await self._api.watches.read(
            request.run_id, request.after, request.limit, request.wait_ms / limits.SECOND_MS
        )
        return run.EventList(items=page.items, next_cursor=None, after=page.after, ended=page.ended, status=page.status)

    async def output(self, request: run.OutputRequest) -> run.Output:
        final = await self._ended(request.run_id, request.wait_ms / limits.SECOND_MS)
        output = outputs.output_of(final, request.step)
        size = present.size_of(output)
        reply = run.Output(
            run_id=final.run_id,
            status=final.status,
            output=None,
            size=size,
            offset=request.offset,
            error=present.failure(final.error),
        )
        if request.offset or size > limits.INLINE_BYTES_MAX:
            reply.chunk, reply.next_offset = await outputs.chunk(self._api.payloads, output, request.offset)
        elif output is not None:
            reply.output = Raw(await outputs.whole(self._api.payloads, output))
        return reply

    async def cancel(self, request: run.CancelRequest) -> run.CancelReply:
        final = await self._api.runs.get(request.run_id)
        if final.status not in ENDED:
            ended = self._api.index.end_of(request.run_id)
            try:
                await self._ask_cancel(request)
                await self._api.pool.wait(ended, CANCEL_WAIT_S)
            finally:
                ended.cancel()
            final = await self._api.runs.get(request.run_id)
        if final.status in ("completed", "failed"):
            raise Conflict(f"run {request.run_id} has {final.status}: nothing is left to cancel")
        return run.CancelReply(run_id=request.run_id, status=final.status)

    async def retry(self, request: run.RetryRequest) -> run.RetryReply:
        final = await self._api.runs.get(request.run_id)
        if final.status not in ENDED:
            raise Conflict(f"run {request.run_id} is {final.status}: cancel it or wait for its end first")
        key = None if request.request_id is None else f"retry {request.request_id}"
        started = await self._api.starter.again(final, reuse=request.reuse, key=key)
        return run.RetryReply(run_id=started.run_id, retry_of=final.run_id, created=started.created)

    async def _ended(self, run_id: str, wait_s: float) -> m.FinalRun:
        """The run; if it has not ended, as it stands when it has, or after `wait_s`."""
        if wait_s <= 0:
            return await self._api.runs.get(run_id)
        ended = self._api.index.end_of(run_id)
        try:
            final = await self._api.runs.get(run_id)
            if final.status in ENDED:
                return final
            await self._api.pool.wait(ended, wait_s)
            if ended.done():
                decision = m.decode_decision(ended.result())
                if decision.final is not None:
                    return decision.final
            return await self._api.runs.get(run_id)
        finally:
            ended.cancel()

    async def _ask_cancel(self, request: run.CancelRequest) -> None:
        """Store `in.cancel`; the same a second time is fine."""
        partition = ids.partition_of(request.run_id)
        subject = self._api.subjects.cancel_input(partition, request.run_id)
        body = m.encode(m.Cancel(v=m.FORMAT, at=now_ms(), reason=request.reason))
        for attempt in range(1, CANCEL_TRIES + 1):
            try:
                with suppress(WrongSequence):
                    await self._api.publisher.publish(subject, body, _NEW)
                return
            except PublishTimeout:
                if attempt == CANCEL_TRIES:
                    raise


def bind(api: Api) -> list[Bound[Any, Any]]:
    runs = RunHandlers(api)
    return [
        Bound(table.RUN_START_MANY, runs.start_many, StartManyWire),
        Bound(table.RUN_GET, runs.get),
        Bound(table.RUN_LIST, runs.list),
        Bound(table.RUN_COUNT, runs.count),
        Bound(table.RUN_EVENTS, runs.events),
        Bound(table.RUN_OUTPUT, runs.output),
        Bound(table.RUN_CANCEL, runs.cancel),
        Bound(table.RUN_RETRY, runs.retry),
    ]


def _query(request: run.RunFilter) -> RunQuery:
    now = now_ms()
    return RunQuery(
        workflow=request.workflow,
        status=request.status,
        tag=request.tag,
        since_ms=None if request.since is None else present.time_ms(request.since, now, "since"),
        until_ms=None if request.until is None else present.time_ms(request.until, now, "until"),
        prefix=request.prefix,
    )
