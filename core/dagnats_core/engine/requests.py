"""Reports of workers and the answers to them, over NATS requests: `RequestsPort`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.subjects import Subjects
from dagnats_core.engine.ports import OnReport
from dagnats_core.errors import DagNatsError


class Requests:
    def __init__(self, connection: Connection, subjects: Subjects) -> None:
        self._connection = connection
        self._subjects = subjects
        self._leaving: set[asyncio.Task[None]] = set()

    async def subscribe(self, partition: int, on_report: OnReport) -> Callable[[], None]:
        """Without a queue group: two engines that both think they own a partition both hear, and the log decides."""
        subscription = await self._connection.subscribe_fast(self._subjects.reports_of(partition), on_report)

        def unsubscribe() -> None:
            task = asyncio.get_running_loop().create_task(self._connection.unsubscribe_fast(subscription))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

        return unsubscribe

    def send(self, subject: str, data: bytes) -> None:
        try:
            self._connection.publish_raw(subject, data)
        except DagNatsError:
            return  # an answer that is lost is asked for again
