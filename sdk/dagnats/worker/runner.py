"""All attempts that live in a worker: begins them, finds them again, keeps them alive, ends them at a stop.

What happens within one attempt is `execution`; who may ask for tasks is `slots` and `puller`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import structlog

from dagnats.worker.cancel import Notices
from dagnats.worker.desk import Desk, TaskType
from dagnats.worker.execution import Execution
from dagnats.worker.outcomes import Outcome
from dagnats.worker.payloads import Payloads, Store
from dagnats.worker.reporter import Reporter
from dagnats.worker.slots import Slots, TypeSlots
from dagnats.worker.threads import Threads
from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import TaskMessage
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.subjects import Subjects
from dagnats_core.errors import Busy, Unavailable
from dagnats_core.run.messages import CancelNotice, Task
from dagnats_micro.schemas.worker import ConnectReply

ENVELOPE_BYTES = 16 * limits.KIB
"""What a report holds beside its output, at most."""
UNREADABLE_DELAY_S = 10

log = structlog.get_logger(__name__)


class TaskCarrier(msgspec.Struct):
    """The part of a decision that a worker reads."""

    task: Task


_decode_task = msgspec.json.Decoder(TaskCarrier).decode
_decode_notice = msgspec.json.Decoder(CancelNotice).decode


class Runner:
    """`on_room` is called when a slot or room for reports has become free."""

    def __init__(
        self,
        connection: Connection,
        worker_id: str,
        settings: ConnectReply,
        slots: Slots,
        store: Store,
        on_room: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._settings = settings
        self._slots = slots
        self._on_room = on_room
        self._notices = Notices()
        self._by_run: dict[str, list[Execution]] = {}
        self._leftovers: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._timer = self._loop.call_later(limits.WORKER_TICK_MS / 1000, self._tick)
        self.reporter = Reporter(connection)
        self.threads: Threads[Outcome] = Threads(f"{worker_id}-task", limits.THREADS_ABANDONED_MAX)
        self._desk = Desk(
            loop=self._loop,
            worker_id=worker_id,
            subjects=Subjects(settings.site),
            ack_wait_ms=settings.ack_wait_ms,
            inline_bytes_max=min(settings.inline_bytes_max, connection.max_payload - ENVELOPE_BYTES),
            tell=self._tell,
            reporter=self.reporter,
            threads=self.threads,
            payloads=Payloads(store),
            free_slot=self._free_slot,
            on_end=self._on_end,
        )

    @property
    def running(self) -> int:
        """Slots that are held."""
        return self._slots.held

    # -- tasks and notices

    def accept(self, task_type: TaskType, message: TaskMessage) -> None:
        """Take one task message, which holds a slot already."""
        try:
            task = _decode_task(message.data).task
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("worker.task_unreadable", subject=message.subject, error=str(error))
            self._tell(message.reply, b'-NAK {"delay": %d}' % (UNREADABLE_DELAY_S * 1_000_000_000))
            self._free_slot(task_type.slots)
            return
        siblings = self._by_run.setdefault(task.run_id, [])
        for sibling in siblings:
            if sibling.task.step == task.step and sibling.task.attempt == task.attempt:
                sibling.reply = message.reply
                self._free_slot(task_type.slots)
                return
        execution = Execution(self._desk, task_type, task, message.reply, self._loop.time())
        siblings.append(execution)
        self._empty.clear()
        if message.deliveries > self._settings.deliveries_before_lost:
            execution.give_up(message.deliveries)
        elif self._is_doubtful(message, task):
            execution.claim()
        else:
            execution.start()

    def on_notice(self, message: FastMessage) -> None:
        """A run has ended: its attempts here stop, and fresh tasks of it are claimed first."""
        try:
            run_id = _decode_notice(message.data).run_id
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("worker.notice_unreadable", error=str(error))
            return
        self._notices.add(run_id, self._loop.time())
        for execution in tuple(self._by_run.get(run_id, ())):
            execution.cancel()

    def _is_doubtful(self, message: TaskMessage, task: Task) -> bool:
        return (
            message.deliveries > 1
            or time.time() * 1000 - message.time_ms > self._settings.claim_after_ms
            or task.run_id in self._notices
        )

    # -- the end

    async def finish(self, timeout_s: float) -> None:
        """Wait until every attempt has ended and was acknowledged; give back those that have not by then."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        for execution in self._all():
            log.warning(
                "worker.attempt_given_back",
                run_id=execution.task.run_id,
                step=execution.task.step,
                attempt=execution.task.attempt,
                stage=execution.stage,
            )
            execution.give_back()

    def close(self) -> None:
        """Stop the clock and let idle threads go; handlers that still clean up are cancelled."""
        self._timer.cancel()
        self.threads.close()
        for job in self._leftovers:
            job.cancel()

    def _all(self) -> Iterator[Execution]:
        return iter([execution for executions in self._by_run.values() for execution in executions])

    def _on_end(self, execution: Execution) -> None:
        job = execution.job
        if job is not None and not job.done():
            self._leftovers.add(job)
            job.add_done_callback(self._leftovers.discard)
        run_id = execution.task.run_id
        siblings = self._by_run[run_id]
        siblings.remove(execution)
        if not siblings:
            del self._by_run[run_id]
            if not self._by_run:
                self._empty.set()
        self._on_room()

    # -- services for attempts

    def _free_slot(self, type_slots: TypeSlots) -> None:
        self._slots.release(type_slots)
        self._on_room()

    def _tell(self, subject: str, data: bytes) -> None:
        with suppress(Unavailable, Busy):
            self._connection.publish_raw(subject, data)

    def _tick(self) -> None:
        now_s = self._loop.time()
        for execution in self._all():
            execution.tick(now_s)
        self._notices.forget_old(now_s)
        self._timer = self._loop.call_later(limits.WORKER_TICK_MS / 1000, self._tick)
