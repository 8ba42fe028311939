"""What is true, and the properties P1 to P8 (engine/PROTOCOL.md): watches every stored message, answer and start.

It knows the log as the server stored it and nothing that an engine believes, and it judges with its own small model of
a run, not with the engine's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw

from dagnats_core.bus.message import StoredMessage
from dagnats_core.bus.subjects import parse_run_subject, task_token
from dagnats_core.flow.plan import Plan
from dagnats_core.run import messages as m
from tests.fault.clockwork import World
from tests.fault.stream import Watcher

ENDED_KINDS = ("completed", "failed", "worker_lost")


class TruthStep:
    """One step as the log tells it."""

    __slots__ = ("attempt", "nonce", "nonces", "outcomes", "status", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self.status = "pending"
        self.attempt = 0
        self.nonce = ""
        self.nonces: dict[int, str] = {}
        self.outcomes: dict[int, object] = {}
        """What the log holds of each attempt that is over (`outcome_of_report`)."""


class TruthRun:
    """One run as the log tells it. `acknowledged`: its start was confirmed to a client. `cleaned`: its messages are
    being removed, or gone."""

    def __init__(self, run_id: str, start_seq: int, start: m.Start, plan: Plan | None) -> None:
        self.run_id = run_id
        self.start_seq = start_seq
        self.start = start
        self.plan = plan
        self.steps: dict[str, TruthStep] = {}
        for step in plan.steps.values() if plan is not None else ():
            self.steps[step.id] = TruthStep(task_token(step.task, step.worker_group))
        for step_id in start.seed if plan is not None else ():
            self.steps[step_id].status = "completed"
        self.acknowledged = False
        self.cancel_seq = 0
        self.n = 0
        self.ended = ""
        self.ended_at = 0.0
        self.final: m.FinalRun | None = None
        self.parked = False
        self.cleaned = False
        self.answers: dict[tuple[str, str, bytes], str] = {}

    def current(self, step_id: str, attempt: int, nonce: str) -> bool:
        step = self.steps.get(step_id)
        if step is None or self.ended or self.parked:
            return False
        return step.status == "live" and step.attempt == attempt and step.nonce == nonce


class Asked(NamedTuple):
    """A report on its way: what it says, and whether its attempt was current when it was sent."""

    worker: str
    run_id: str
    step: str
    token: str
    data: bytes
    report: m.Report | None
    current: bool


class Truth(Watcher):
    """All runs. `payloads` are those of the network, `plans` compiled definitions by hash."""

    def __init__(self, world: World, plans: dict[str, Plan], payloads: dict[str, bytes]) -> None:
        self.world = world
        self.runs: dict[str, TruthRun] = {}
        self.stored_count: dict[str, int] = {}
        self.poisoned: set[str] = set()
        """Content hashes of definitions on which a decision raises."""
        self.archived: Callable[[str], bool] = lambda run_id: False
        self._plans = plans
        self._payloads = payloads
        self._inputs: dict[int, list[tuple[int, str, str]]] = {}

    # ---- P2, P3, P4: what may be stored

    def stored(self, message: StoredMessage) -> None:
        tokens = message.subject.split(".")
        if tokens[2] == "floor":
            self._floor_moved(int(tokens[3]), m.decode_floor(message.data).seq)
            return
        if tokens[2] != "run":
            return
        subject = parse_run_subject(message.subject)
        self.stored_count[subject.kind] = self.stored_count.get(subject.kind, 0) + 1
        run = self.runs.get(subject.run_id)
        if subject.kind.startswith("in."):
            self._inputs.setdefault(subject.partition, []).append((message.seq, subject.run_id, subject.kind))
            self._asked(message, subject.run_id, subject.kind, run)
            return
        if run is None:
            raise self.world.broken("P2", f"{subject.kind} of run {subject.run_id}, which was never started")
        if run.ended:
            raise self.world.broken("P2", f"{subject.kind} stored after run {run.run_id} had {run.ended}")
        if subject.kind.startswith("out."):
            self._decided(run, subject.kind, message)

    def removed(self, message: StoredMessage) -> None:
        """P7: of a run that lives, or is not archived, nothing is removed but its timer."""
        kind = parse_run_subject(message.subject).kind if ".run." in message.subject else ""
        if not kind.startswith(("in.", "out.")):
            return
        run = self.runs[message.subject.split(".")[4]]
        if not run.ended or not self.archived(run.run_id):
            raise self.world.broken(
                "P7", f"{kind} of {run.run_id} removed, which {'is not archived' if run.ended else 'lives'}"
            )
        run.cleaned = True

    def _asked(self, message: StoredMessage, run_id: str, kind: str, run: TruthRun | None) -> None:
        if kind == "in.start":
            if run is not None:
                raise self.world.broken("P2", f"run {run_id} was started again")
            start = m.decode_start(message.data)
            self.runs[run_id] = TruthRun(run_id, message.seq, start, self._plans.get(start.hash))
        elif kind == "in.cancel" and run is not None:
            run.cancel_seq = message.seq

    def _decided(self, run: TruthRun, kind: str, message: StoredMessage) -> None:
        if kind == "out.snapshot":
            n = m.decode_snapshot(message.data).n
            events: list[m.Event] = []
            decision = None
        else:
            decision = m.decode_decision(message.data)
            n, events = decision.n, decision.events
        if n != run.n + 1:
            raise self.world.broken("P4", f"message {n} of run {run.run_id} after message {run.n}")
        run.n = n
        if decision is None:
            return
        if run.parked and kind != "out.ended":
            raise self.world.broken("P4", f"{kind} of run {run.run_id}, which is parked")
        if run.cancel_seq and decision.after >= run.cancel_seq and kind not in ("out.ended", "out.parked"):
            raise self.world.broken("P4", f"{kind} of run {run.run_id} although its cancel was known")
        for event in events:
            self._happened(run, event, decision)
        if decision.task is not None:
            self._handed_out(run, decision.task)
        if kind == "out.ended" and not run.ended:
            raise self.world.broken("P2", f"out.ended of run {run.run_id} does not end it")

    def _happened(self, run: TruthRun, event: m.Event, decision: m.Decision) -> None:
        match event:
            case m.StepStarted():
                self._live(run, event.step, event.attempt, "started")
            case m.StepCompleted():
                step = self._live(run, event.step, event.attempt, "completed")
                step.status = "completed"
                step.outcomes[event.attempt] = ("completed", self.content(*_output_of(event, decision)))
            case m.StepFailed():
                self._failed(run, event)
            case m.StepSkipped():
                step = run.steps[event.step]
                if step.status != "pending" or not self._unblocked(run, event.step):
                    raise self.world.broken("P4", f"step {event.step} of {run.run_id} skipped, which is {step.status}")
                step.status = "skipped"
            case m.RunParked():
                if run.start.hash not in self.poisoned:
                    raise self.world.broken("P1", f"run {run.run_id} parked: {event.error.message}")
                run.parked = True
            case m.RunEnded():
                self._ended(run, event, decision)

    def _failed(self, run: TruthRun, event: m.StepFailed) -> None:
        if event.attempt == 0:
            step = run.steps[event.step]
            if step.status not in ("pending", "waiting") or not self._unblocked(run, event.step):
                raise self.world.broken("P4", f"step {event.step} of {run.run_id} failed unrun, which is {step.status}")
        else:
            step = self._live(run, event.step, event.attempt, "failed")
            step.outcomes[event.attempt] = ("failed", event.error.code, event.error.message)
        step.status = "waiting" if event.retry_at else "failed"

    def _live(self, run: TruthRun, step_id: str, attempt: int, what: str) -> TruthStep:
        step = run.steps[step_id]
        if step.status != "live" or step.attempt != attempt:
            raise self.world.broken(
                "P3",
                f"attempt {attempt} of step {step_id} of {run.run_id} {what}; it is {step.status}, {step.attempt}",
            )
        return step

    def _handed_out(self, run: TruthRun, task: m.Task) -> None:
        step = run.steps[task.step]
        if run.ended or step.status not in ("pending", "waiting") or task.attempt != step.attempt + 1:
            raise self.world.broken(
                "P4", f"attempt {task.attempt} of step {task.step} of {run.run_id}; it is {step.status}, {step.attempt}"
            )
        if not self._unblocked(run, task.step):
            raise self.world.broken(
                "P4", f"step {task.step} of {run.run_id} stands on a completion that the log does not hold"
            )
        step.status, step.attempt, step.nonce = "live", task.attempt, task.nonce
        step.nonces[task.attempt] = task.nonce

    def _unblocked(self, run: TruthRun, step_id: str) -> bool:
        assert run.plan is not None
        return all(run.steps[d].status in ("completed", "skipped") for d in run.plan.steps[step_id].depends_on)

    def _ended(self, run: TruthRun, event: m.RunEnded, decision: m.Decision) -> None:
        if event.status == "completed" and any(s.status not in ("completed", "skipped") for s in run.steps.values()):
            raise self.world.broken("P4", f"run {run.run_id} completed before its steps")
        if event.status == "cancelled" and not run.cancel_seq:
            raise self.world.broken("P2", f"run {run.run_id} cancelled, which nobody asked for")
        run.ended = event.status
        run.ended_at = self.world.now
        run.final = decision.final
        if run.final is None and decision.final_ref is not None:
            run.final = m.decode_final(self._payloads[decision.final_ref.id])

    def _floor_moved(self, partition: int, seq: int) -> None:
        """P1, early: an input below the floor never comes again, so what it called for must be there."""
        inputs = self._inputs.get(partition, [])
        while inputs and inputs[0][0] <= seq:
            at, run_id, kind = inputs.pop(0)
            run = self.runs.get(run_id)
            if run is None or run.cleaned or run.plan is None:
                continue
            undone = (kind == "in.start" and run.n == 0) or (kind == "in.cancel" and not run.ended)
            if undone:
                raise self.world.broken("P1", f"the floor {seq} passed {kind} #{at} of {run_id}, which is not done")

    # ---- P3, P4, P6, P8: what may be answered

    def answered(self, asked: Asked, answer: m.ReportAnswer, engine: str) -> None:
        run, report = self.runs.get(asked.run_id), asked.report
        if run is None or report is None or run.cleaned:
            return
        what = f"{report.kind} of {asked.step}.{report.attempt} of {asked.run_id}"
        told = f"{asked.worker} {what}: {answer.answer} by {engine}"
        step = run.steps.get(asked.step)
        owned = step is not None and step.token == asked.token
        handed_out = owned and step is not None and step.nonces.get(report.attempt) == report.nonce
        if answer.answer != "not_current" and not handed_out:
            raise self.world.broken("P3", f"{told}, to somebody who was not handed that attempt")
        still = owned and run.current(asked.step, report.attempt, report.nonce)
        if answer.answer == "not_current" and asked.current and still:
            raise self.world.broken("P6", f"{told}, but the attempt is current")
        if report.kind not in ENDED_KINDS:
            if answer.answer != "not_current" and not asked.current:
                raise self.world.broken("P3", f"{told}, but the attempt was over before that was asked")
            return
        if answer.answer == "stored":
            held = step.outcomes.get(report.attempt) if step is not None else None
            if held is None or held != self.outcome_of_report(report):
                raise self.world.broken("P4", f"{told}, but the log holds {held!r}")
        key = (asked.step, asked.token, asked.data)
        before = run.answers.setdefault(key, answer.answer)
        if before != answer.answer:
            raise self.world.broken("P8", f"{told}, before {before}")

    def outcome_of_report(self, report: m.Report) -> object:
        """What the log must hold of an attempt that was reported so."""
        if report.kind == "completed":
            return ("completed", self.content(report.output, report.output_ref))
        if report.kind == "worker_lost":
            return ("failed", "worker_lost", "its workers died before they could report")
        error = report.error or m.ErrorInfo("handler_error", "the worker gave no error")
        return ("failed", error.code, error.message)

    def content(self, inline: Raw | msgspec.UnsetType, ref: m.Ref | None) -> bytes:
        """The JSON of a value, wherever it is kept."""
        if ref is not None:
            return self._payloads[ref.id]
        return b"null" if inline is UNSET else bytes(inline)

    # ---- P3: what may start

    def handler_starts(self, worker: str, task: m.Task, how: str, told: bool) -> None:
        """`told`: this worker was told that the run has ended, or must ask before it starts this task."""
        run = self.runs[task.run_id]
        if told and (run.ended or not run.current(task.step, task.attempt, task.nonce)):
            raise self.world.broken(
                "P3", f"{worker} starts {task.step}.{task.attempt} of {task.run_id} ({how}), which is over"
            )

    # ---- P1: what must come to its end

    def unfinished(self) -> list[TruthRun]:
        return [run for run in self.runs.values() if run.acknowledged and not run.ended]


def _output_of(event: m.StepCompleted, decision: m.Decision) -> tuple[Raw | msgspec.UnsetType, m.Ref | None]:
    if event.output_in == "task" and decision.task is not None:
        return decision.task.input, decision.task.input_ref
    if event.output_in == "final" and decision.final is not None:
        for step in decision.final.steps:
            if step.id == event.step:
                return step.output, step.output_ref
    return event.output, event.output_ref
