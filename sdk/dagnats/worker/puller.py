"""Takes tasks from one queue: asks for as many as its slots allow, and hands each message to the runner.

What a slot is and who gets it is `slots`; what becomes of a task is `runner`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dagnats.worker.desk import TaskType
from dagnats.worker.slots import Slots
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import PullConsumer, TaskMessage
from dagnats_micro.schemas.worker import Queue


class Puller:
    """One queue. `is_full()` stops it from asking.

    `on_room()` is told when a request ended short, so that its slots are free for other queues; `on_lost(reason)`
    when the queue is gone.
    """

    def __init__(
        self,
        connection: Connection,
        queue: Queue,
        task_type: TaskType,
        slots: Slots,
        accept: Callable[[TaskType, TaskMessage], None],
        is_full: Callable[[], bool],
        on_room: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._type = task_type
        self._slots = slots
        self._accept = accept
        self._is_full = is_full
        self._on_room = on_room
        self._asked = 0
        self._offered = 0
        self._consumer = PullConsumer(
            connection,
            queue.stream,
            queue.consumer,
            self._on_message,
            self._count_slots,
            domain=queue.domain,
            on_lost=on_lost,
            expires_s=self._expires_s,
        )
        self.slots = slots.add_queue(task_type.slots, lambda: self._consumer.outstanding)

    async def start(self) -> None:
        await self._consumer.start()

    async def stop(self) -> None:
        """Ask for nothing more; what is on its way is given back."""
        await self._consumer.stop()

    def refill(self) -> None:
        """Slots may have become free."""
        self._consumer.refill()

    def _on_message(self, message: TaskMessage) -> None:
        self._asked = self._consumer.outstanding
        self._slots.take(self.slots, self._loop.time())
        self._accept(self._type, message)

    def _count_slots(self) -> int:
        asked = self._consumer.outstanding
        if asked < self._asked:
            self._on_room()
        self._asked = asked
        self._offered = asked if self._is_full() else asked + self._slots.may_ask(self.slots, self._loop.time())
        return self._offered

    def _expires_s(self) -> float:
        """Called for each request that is made."""
        self._asked = self._offered
        return self._slots.expires_s(self.slots, self._loop.time())
