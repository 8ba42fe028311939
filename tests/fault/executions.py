"""One delivery of a task at one worker, by docs/wire.md: claim, run, report until answered, acknowledge."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.bus.message import StoredMessage
from dagnats_core.bus.subjects import parse_run_subject
from dagnats_core.run import messages as m
from tests.fault.network import store_payload
from tests.fault.truth import Asked

if TYPE_CHECKING:
    from tests.fault.workers import Worker

REPORT_TIMEOUT_S = limits.REPORT_TIMEOUT_MS / 1000
CLAIM_AFTER_S = limits.CLAIM_AFTER_MS / 1000


class Delivery:
    """One task message at the consumer, and who has it."""

    __slots__ = ("acked", "count", "holder", "message")

    def __init__(self, message: StoredMessage) -> None:
        self.message = message
        self.count = 0
        self.holder: Execution | None = None
        self.acked = False


class Execution:
    """One delivery of a task at one worker: claim, run, report, acknowledge."""

    def __init__(self, worker: Worker, delivery: Delivery) -> None:
        self.worker = worker
        self.delivery = delivery
        self.force = worker.force
        self.world = worker.force.world
        self.over = False
        parsed = parse_run_subject(delivery.message.subject)
        self.token = parsed.rest[0]
        task = m.decode_decision(delivery.message.data).task
        assert task is not None
        self.task: m.Task = task
        self.started_at = 0
        self._answered = False

    # ---- pull, claim, run

    def begin(self) -> None:
        force, delivery = self.force, self.delivery
        waited_s = (self.world.now_ms() - delivery.message.time_ms) / 1000
        must_claim = delivery.count > 1 or waited_s > CLAIM_AFTER_S or self.task.run_id in self.worker.notices
        how = "redelivered" if delivery.count > 1 else "fresh"
        if delivery.count > limits.DELIVERIES_BEFORE_LOST:
            self._report(self._outcome("worker_lost"))
        elif must_claim and force.must_claim_rule:
            self._ask(self._body("claim"), self._claimed)
        else:
            self._run(how, told=must_claim)
        if self.world.hits(force.habits.redelivered):
            force.redeliver(delivery, self.world.between(0.0, 2.0))

    def _claimed(self, answer: str) -> None:
        if answer == "go":
            self._run("claimed", told=False)
        else:
            self._finish()

    def _run(self, how: str, told: bool) -> None:
        world, habits = self.world, self.force.habits
        self.force.truth.handler_starts(self.worker.name, self.task, how, told)
        world.note(self.worker.name, f"runs {self.task.step}.{self.task.attempt} of {self.task.run_id[-6:]} ({how})")
        self.started_at = world.now_ms()
        if world.hits(habits.crashes):
            world.after(world.between(0.0, 1.0), self._unless_over, self.worker.crash)
            return
        hangs = world.hits(habits.hangs)
        seconds = world.between(0.5, 6.0) if hangs or world.hits(habits.slow) else world.between(0.0, 0.05)
        if seconds > limits.STARTED_AFTER_MS / 1000:
            world.after(limits.STARTED_AFTER_MS / 1000, self._unless_over, self._say_alive, "started")
        if hangs:
            return
        if self.task.timeout_ms and seconds * 1000 > self.task.timeout_ms:
            world.after(self.task.timeout_ms / 1000, self._unless_over, self._time_out)
        else:
            world.after(seconds, self._unless_over, self._return)

    def _say_alive(self, kind: str) -> None:
        if not self._answered:
            self._ask(self._body(kind), self._still_wanted)

    def _still_wanted(self, answer: str) -> None:
        if answer == "not_current":
            self._finish()
        else:
            self.world.after(limits.ALIVE_EVERY_MS / 1000, self._unless_over, self._say_alive, "alive")

    # ---- report

    def _return(self) -> None:
        world, habits = self.world, self.force.habits
        if world.hits(habits.garbage):
            self._garbage()
        if world.hits(habits.fails):
            self._report(self._outcome("failed", code="handler_error", retryable=world.chance() < 0.7))
        elif world.hits(habits.retries):
            self._report(self._outcome("failed", code="retry", retry_after_ms=int(world.between(0, 2000))))
        else:
            self._report(self._outcome("completed"))

    def _time_out(self) -> None:
        self._report(self._outcome("failed", code="timeout"))

    def _outcome(
        self,
        kind: str,
        code: str = "",
        retryable: bool = True,
        retry_after_ms: int = -1,
    ) -> bytes:
        """An outcome that no other execution gives: its output names the worker and the moment."""
        report = m.Report(
            m.FORMAT,
            kind,  # type: ignore[arg-type]
            self.task.attempt,
            self.task.nonce,
            self.worker.name,
            started_at=self.started_at,
            ended_at=self.world.now_ms(),
            retryable=retryable,
            retry_after_ms=retry_after_ms,
        )
        if kind == "failed":
            error = m.ErrorInfo(code, f"by {self.worker.name} at {self.world.now:.6f}")
            return m.encode(msgspec.structs.replace(report, error=error))
        if kind == "worker_lost":
            return m.encode(report)
        value = {"by": self.worker.name, "at": self.world.now, "n": int(self.world.chance() * 4)}
        if self.world.hits(self.force.habits.large):
            value["pad"] = "x" * 3000
        output = json.dumps(value).encode()
        if self.world.hits(self.force.habits.by_reference):
            ref = store_payload(self.force.network, output)
            return m.encode(msgspec.structs.replace(report, output_ref=ref))
        return m.encode(msgspec.structs.replace(report, output=Raw(output)))

    def _body(self, kind: str) -> bytes:
        report = m.Report(
            m.FORMAT,
            kind,  # type: ignore[arg-type]
            self.task.attempt,
            self.task.nonce,
            self.worker.name,
            started_at=self.started_at,
        )
        return m.encode(report)

    def _report(self, data: bytes) -> None:
        self._answered = True
        self._ask(data, self._reported)
        if self.world.hits(self.force.habits.crashes):
            self.world.after(self.world.delay(), self._unless_over, self.worker.crash)
        if self.world.hits(self.force.habits.repeats):
            self.world.after(self.world.between(0.0, 20.0), self._ask_once, data, lambda answer: None)

    def _reported(self, answer: str) -> None:
        self.force.ack(self.delivery)
        self._finish(acked=True)

    def _garbage(self) -> None:
        """Reports that must change nothing: another nonce, another task's subject, an unknown step, no JSON; and one
        that fails its attempt, because only its kind is nonsense."""
        mine = self._outcome("completed")
        guessed = msgspec.structs.replace(m.decode_report(mine), nonce="guessed")
        self._ask_once(m.encode(guessed), lambda answer: None)
        self._ask_once(mine, lambda answer: None, token="other")
        self._ask_once(mine, lambda answer: None, step="nowhere")
        self._ask_once(b"\xff{", lambda answer: None)
        if self.world.chance() < 0.2:
            self._ask_once(mine.replace(b'"completed"', b'"nonsense"'), lambda answer: None)

    def _finish(self, acked: bool = False) -> None:
        self.over = True
        if not acked:
            self.delivery.acked = True
        if self in self.worker.executions:
            self.worker.executions.remove(self)
        self.world.after(self.world.delay(), self.force._hand_out)

    # ---- asking until there is an answer

    def _ask(self, data: bytes, on_answer: Callable[[str], None], pause_s: float = 0.1) -> None:
        """The same bytes again until they are answered, for as long as this execution lives."""
        done = [False]

        def first(answer: str) -> None:
            if not done[0] and not self.over:
                done[0] = True
                on_answer(answer)

        def again() -> None:
            if not done[0] and not self.over:
                self._ask(data, on_answer, min(2 * pause_s, 5.0))
                done[0] = True

        self._ask_once(data, first)
        if self.world.hits(self.force.habits.asks_twice):
            self._ask_once(data, first)
        self.world.after(REPORT_TIMEOUT_S + pause_s, again)

    def _ask_once(self, data: bytes, on_answer: Callable[[str], None], token: str = "", step: str = "") -> None:
        run = self.force.truth.runs.get(self.task.run_id)
        report = _decoded(data)
        token, step = token or self.token, step or self.task.step
        owned = run is not None and step in run.steps and run.steps[step].token == token
        current = owned and run is not None and report is not None and run.current(step, report.attempt, report.nonce)
        asked = Asked(self.worker.name, self.task.run_id, step, token, data, report, current)
        self.force.ask(asked, on_answer)

    def _unless_over(self, callback: Callable[..., None], *args: str) -> None:
        if not self.over:
            callback(*args)


def _decoded(data: bytes) -> m.Report | None:
    try:
        return m.decode_report(data)
    except msgspec.DecodeError:
        return None
