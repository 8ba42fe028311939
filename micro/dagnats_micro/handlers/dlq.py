"""`dlq`: what failed for good, and another try at it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dagnats_core import ids
from dagnats_core.bus.errors import WrongSequence
from dagnats_core.errors import Conflict, NotFound
from dagnats_core.run import messages as m
from dagnats_micro import present, table
from dagnats_micro.api import Api, now_ms
from dagnats_micro.index.query import DeadQuery
from dagnats_micro.paging import key_of, next_cursor, page_of
from dagnats_micro.runner import Bound
from dagnats_micro.schemas import dlq

REPLAY_KEY = "replay"
"""Names the one replay of a dead letter: asking again finds the same run."""


class DeadLetters:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def list(self, request: dlq.DeadLetterListRequest) -> dlq.DeadLetterList:
        query = DeadQuery(request.workflow, request.run_id, request.replayed, key_of(request.cursor, tuple[int, str]))
        rows = await self._api.index.list_dead(query, request.limit + 1)
        page, more = page_of(map(present.dead_letter_of, rows), request.limit)
        last = rows[len(page) - 1] if page else None
        cursor = next_cursor(more, last.at, last.run_id) if last is not None else None
        return dlq.DeadLetterList(items=page, next_cursor=cursor)

    async def replay(self, request: dlq.ReplayRequest) -> dlq.ReplayReply:
        """Start the run again. A parked run is cancelled for it: only one of the two shall go on."""
        dead = await self._api.index.find_dead(request.id)
        replay_id = self._api.starter.id_of_repeat(request.id, REPLAY_KEY)
        if dead is None:
            if await self._api.runs.find_listed(replay_id) is None:
                raise NotFound(f"there is no dead letter {request.id}")
            return dlq.ReplayReply(run_id=replay_id, retry_of=request.id, created=False)
        if dead.replayed_by not in (None, replay_id):
            raise Conflict(f"dead letter {request.id} was run again already, as run {dead.replayed_by}")
        final = await self._api.runs.get(request.id)
        started = await self._api.starter.again(final, reuse=True, key=REPLAY_KEY)
        if dead.kind == "parked":
            await self._cancel(request.id, f"replayed as run {started.run_id}")
        return dlq.ReplayReply(run_id=started.run_id, retry_of=request.id, created=started.created)

    async def _cancel(self, run_id: str, reason: str) -> None:
        subject = self._api.subjects.cancel_input(ids.partition_of(run_id), run_id)
        body = m.encode(m.Cancel(v=m.FORMAT, at=now_ms(), reason=reason))
        with suppress(WrongSequence):
            await self._api.publisher.publish(subject, body, b"Nats-Expected-Last-Subject-Sequence: 0\r\n")


def bind(api: Api) -> list[Bound[Any, Any]]:
    letters = DeadLetters(api)
    return [Bound(table.DLQ_LIST, letters.list), Bound(table.DLQ_REPLAY, letters.replay)]
