"""One attempt, from the task message to its acknowledgement.

    claiming -> fetching -> running -> storing -> reporting -> ended

`claiming`: the engine is asked whether the attempt may start (it was redelivered, or is old, or its run may
be over). `fetching` and `storing`: a large input or output is on its way. `running`: the handler works.
`reporting`: the outcome is said until the engine answers; then the message is acknowledged. An attempt that is
cancelled or given back goes from any of these to `ended`. The slot is held until the handler has really ended
and its output is stored. Only what happens to one attempt lives here; the runner owns them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, assert_never

import structlog
from msgspec import UNSET, Raw

from dagnats.worker.context import Context, Progress
from dagnats.worker.desk import Desk, TaskType
from dagnats.worker.handlers import argument_of, call_in_thread, call_on_loop
from dagnats.worker.outcomes import CANCELLED, Cancelled, Completed, Failed, Outcome, failed
from dagnats.worker.reporter import Sending
from dagnats.worker.slots import TypeSlots
from dagnats_core import ids, limits
from dagnats_core.errors import DagNatsError
from dagnats_core.flow.durations import format_duration
from dagnats_core.run import messages as m

Stage = Literal["claiming", "fetching", "running", "storing", "reporting", "ended"]
Kind = Literal["claim", "started", "alive", "completed", "failed", "worker_lost"]

log = structlog.get_logger(__name__)


class Execution:
    """One attempt. `reply` acknowledges its message; a redelivery of the same attempt replaces it."""

    __slots__ = (
        "_context",
        "_desk",
        "_in_progress_at_s",
        "_news",
        "_news_at_s",
        "_sending",
        "_slot",
        "_started_ms",
        "_timer",
        "_type",
        "job",
        "reply",
        "stage",
        "task",
    )

    def __init__(self, desk: Desk, task_type: TaskType, task: m.Task, reply: str, now_s: float) -> None:
        self._desk = desk
        self._type = task_type
        self.task = task
        self.reply = reply
        self.stage: Stage = "claiming"
        self.job: asyncio.Task[None] | None = None
        """What runs the handler; it may outlive the attempt."""
        self._slot: TypeSlots | None = task_type.slots
        self._context: Context | None = None
        self._sending: Sending | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started_ms = 0
        self._news: Kind = "started"
        self._news_at_s = float("inf")
        self._in_progress_at_s = now_s + desk.ack_wait_ms / 3000

    # -- how it begins: one of these three

    def claim(self) -> None:
        """Ask the engine whether this attempt may start, and start it if so."""
        self._say(self._about("claim"), self._on_claim_answer)

    def give_up(self, deliveries: int) -> None:
        """So many workers were handed this attempt and none reported: it fails without running once more."""
        error = m.ErrorInfo("worker_lost", f"handed out {deliveries - 1} times and never reported")
        self._report(self._about("worker_lost", error=error))

    def start(self) -> None:
        """Run the handler, in a task of its own."""
        task = self.task
        if task.input_ref is not None or task.input_refs:
            self.stage = "fetching"
            self._begin_job(self._fetch_and_run())
            return
        self.stage = "running"
        argument = argument_of(self._type.handler, b"null" if task.input is UNSET else task.input)
        if isinstance(argument, Failed):
            self._report_outcome(argument)
        else:
            self._begin_job(self._run(argument))

    # -- what comes from outside while it lives

    def cancel(self) -> None:
        """It is not wanted any more: stop the handler and report nothing."""
        if self.stage in ("claiming", "fetching", "running", "storing"):
            self._stop(b"+ACK")

    def give_back(self) -> None:
        """The worker stops: stop the handler and let another worker have the attempt at once."""
        if self.stage != "ended":
            self._stop(b"-NAK")

    def tick(self, now_s: float) -> None:
        """Give the signs of life that are due. Called a few times a second."""
        if now_s >= self._in_progress_at_s:
            self._in_progress_at_s = now_s + self._desk.ack_wait_ms / 3000
            self._desk.tell(self.reply, b"+WPI")
        if now_s >= self._news_at_s and self.stage == "running":
            self._news_at_s = now_s + limits.ALIVE_EVERY_MS / 1000
            self._say(self._about(self._news), self._on_news_answer)
            self._news = "alive"

    # -- the handler

    def _begin_job(self, work: Coroutine[Any, Any, None]) -> None:
        self.job = self._desk.loop.create_task(work)
        self.job.add_done_callback(self._on_job_done)

    def _on_job_done(self, job: asyncio.Task[None]) -> None:
        if self._type.handler.where == "thread":
            self._desk.threads.when_few_abandoned(self._free_slot)
        else:
            self._free_slot()
        if self._timer is not None:
            self._timer.cancel()
        if self.stage not in ("fetching", "running", "storing"):
            return
        error = None if job.cancelled() else job.exception()
        if error is None:  # the whole event loop is being cancelled
            self.give_back()
        else:
            log.error("worker.attempt_broke", run_id=self.task.run_id, step=self.task.step, exc_info=error)
            self._report_outcome(failed("handler_error", f"the worker broke: {error!r}"))

    async def _fetch_and_run(self) -> None:
        try:
            body = await self._desk.payloads.fetch_input(self.task)
        except DagNatsError as error:
            argument = failed("invalid_input", f"the input cannot be fetched: {error.message}", retryable=False)
        else:
            argument = argument_of(self._type.handler, body)
        self.stage = "running"
        if isinstance(argument, Failed):
            self._report_outcome(argument)
        else:
            await self._run(argument)

    async def _run(self, argument: Any) -> None:
        context = self._begin()
        handler = self._type.handler
        if handler.where == "thread":
            outcome = await self._desk.threads.run(partial(call_in_thread, handler, context, argument))
        else:
            outcome = await call_on_loop(handler, context, argument)
        if context.cancelled:
            outcome = CANCELLED
        if isinstance(outcome, Completed) and len(outcome.output) > self._desk.inline_bytes_max:
            await self._store_and_report(outcome.output)
        else:
            self._report_outcome(outcome)

    def _begin(self) -> Context:
        """The handler starts now: its timeout and its signs of life count from here."""
        desk, task = self._desk, self.task
        self._started_ms = time.time_ns() // 1_000_000
        self._news_at_s = desk.loop.time() + limits.STARTED_AFTER_MS / 1000
        deadline_ms = task.run_deadline
        if task.timeout_ms:
            self._timer = desk.loop.call_later(task.timeout_ms / 1000, self._on_timeout)
            own_ms = self._started_ms + task.timeout_ms
            deadline_ms = min(deadline_ms, own_ms) if deadline_ms else own_ms
        self._context = Context(task, desk.worker_id, deadline_ms, desk.loop, self._send_progress)
        return self._context

    def _on_timeout(self) -> None:
        """The time is over.

        A thread cannot be stopped: it is left behind, and another one takes its place.
        """
        if self.stage == "running":
            self._report_outcome(
                failed("timeout", f"the handler took longer than {format_duration(self.task.timeout_ms)}")
            )
        if self._context is not None:
            self._context.cancel()
        if self.job is not None:
            self.job.cancel()

    def _stop(self, acknowledgement: bytes) -> None:
        """End now, unreported.

        A handler on the loop is cancelled; one in a thread goes on until it looks or times out.
        """
        thread_runs = self.stage == "running" and self._type.handler.where == "thread"
        if self._context is not None:
            self._context.cancel()
        if self.job is not None and not thread_runs:
            self.job.cancel()
        self._end(acknowledgement)

    # -- what is said of it

    async def _store_and_report(self, output: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.stage = "storing"
        try:
            ref = await self._desk.payloads.store(output)
        except DagNatsError as error:
            self._report_outcome(
                failed("invalid_output", f"the output cannot be stored: {error.message}", retryable=False)
            )
        else:
            self._report(self._about("completed", output_ref=ref))

    def _report_outcome(self, outcome: Outcome) -> None:
        match outcome:
            case Completed(output):
                self._report(self._about("completed", output=Raw(output)))
            case Failed(error, retryable, retry_after_ms):
                self._report(self._about("failed", error=error, retryable=retryable, retry_after_ms=retry_after_ms))
            case Cancelled():
                pass
            case _:
                assert_never(outcome)

    def _about(self, kind: Kind, **fields: Any) -> m.Report:
        task = self.task
        return m.Report(
            v=m.FORMAT,
            kind=kind,
            attempt=task.attempt,
            nonce=task.nonce,
            worker_id=self._desk.worker_id,
            started_at=self._started_ms,
            ended_at=0 if kind in ("claim", "started", "alive") else time.time_ns() // 1_000_000,
            **fields,
        )

    def _report(self, report: m.Report) -> None:
        """The attempt ends with this report."""
        self.stage = "reporting"
        if self.job is None:
            self._free_slot()
        self._say(report, self._on_report_answer)

    def _say(self, report: m.Report, on_answer: Callable[[m.ReportAnswer], None]) -> None:
        """Send a report until it is answered; it takes the place of what was being said."""
        if self._sending is not None:
            self._sending.drop()
        task = self.task
        subject = self._desk.subjects.report(ids.partition_of(task.run_id), self._type.token, task.run_id, task.step)
        self._sending = self._desk.reporter.send(subject, m.encode(report), on_answer)

    def _on_claim_answer(self, answer: m.ReportAnswer) -> None:
        if answer.answer == "go":
            self.start()
        else:
            self._end(b"+ACK")

    def _on_news_answer(self, answer: m.ReportAnswer) -> None:
        if answer.answer == "not_current":
            self.cancel()

    def _on_report_answer(self, answer: m.ReportAnswer) -> None:
        if answer.answer == "not_current":
            log.info(
                "worker.report_not_current",
                run_id=self.task.run_id,
                step=self.task.step,
                attempt=self.task.attempt,
            )
        self._end(b"+ACK")

    def _send_progress(self, data: bytes) -> None:
        if self.stage != "running":
            return
        task = self.task
        subject = self._desk.subjects.progress(self._type.token, task.run_id, task.step)
        at_ms = time.time_ns() // 1_000_000
        self._desk.tell(subject, m.encode(Progress(task.run_id, task.step, task.attempt, at_ms, Raw(data))))

    # -- how it ends

    def _end(self, acknowledgement: bytes) -> None:
        self.stage = "ended"
        if self._sending is not None:
            self._sending.drop()
            self._sending = None
        self._context = None
        if self.job is None:
            self._free_slot()
        self._desk.tell(self.reply, acknowledgement)
        self._desk.on_end(self)

    def _free_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._desk.free_slot(slot)
