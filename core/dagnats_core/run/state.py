"""How a run stands: `RunState`, and how each message of its log changes it. Pure: no clock, no IO, no randomness.

A state is owned by whoever folds it (an engine's actor, a reader) and is changed in place; an owner whose decision was
not committed throws the state away and folds again. What can be derived (which steps are ready, which have deadlines)
is kept beside the facts, so that a decision costs what it changes and not what the run holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import UNSET, Raw, UnsetType

from dagnats_core.flow.plan import Plan
from dagnats_core.run import messages as m

REPORTS_KEPT_MAX = 64
"""Attempts of a step whose outcome is remembered, so that a repeated report gets its answer again."""

SATISFIED = ("completed", "skipped")
LIVE = ("queued", "running")


class IllegalMove(Exception):
    """An event met a state in which it cannot happen: the log is damaged, or the engine is wrong. Parks the run."""


class StepState:
    """One step. `due`: when its deadline passes (queued, running) or its next attempt starts (waiting); 0 = never."""

    __slots__ = (
        "attempt",
        "due",
        "ended_at",
        "error",
        "nonce",
        "output",
        "queued_at",
        "reports",
        "started_at",
        "status",
        "worker_id",
    )

    def __init__(self) -> None:
        self.status: m.StepStatus = "pending"
        self.attempt = 0
        self.nonce = ""
        self.worker_id = ""
        self.queued_at = 0
        self.started_at = 0
        self.ended_at = 0
        self.due = 0
        self.output: m.Value = m.NULL
        self.error: m.ErrorInfo | None = None
        self.reports: dict[int, str] = {}


class RunState:
    """One run: a fold over its messages. `n` counts `out` messages, `folded` is the last `in` sequence it knows."""

    __slots__ = (
        "armed",
        "blocked",
        "cancel",
        "deadline",
        "earliest",
        "ended_at",
        "error",
        "folded",
        "input",
        "n",
        "now",
        "open_steps",
        "output_steps",
        "parked",
        "plan",
        "ready",
        "run_id",
        "snapshot_n",
        "start",
        "started_at",
        "status",
        "steps",
        "timed",
    )

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.plan: Plan | None = None
        self.start: m.Start | None = None
        self.input: m.Value = m.NULL
        self.status: m.RunStatus = "pending"
        self.steps: dict[str, StepState] = {}
        self.n = 0
        self.folded = 0
        self.snapshot_n = 0
        self.now = 0
        self.started_at = 0
        self.ended_at = 0
        self.deadline = 0
        self.cancel: str | None = None
        self.parked: m.ErrorInfo | None = None
        self.error: m.ErrorInfo | None = None
        self.output_steps: list[str] = []
        self.armed: m.Timer | None = None
        self.blocked: dict[str, int] = {}
        self.ready: dict[str, None] = {}
        self.timed: dict[str, None] = {}
        self.earliest = 0
        """No deadline of a step is earlier; 0 = no step has one. May lag behind: `tighten` makes it exact."""
        self.open_steps = 0

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    def current(self, step: str, attempt: int, nonce: str) -> bool:
        """Whether this attempt is out with a worker and may still report."""
        state = self.steps.get(step)
        return (
            state is not None
            and state.status in LIVE
            and state.attempt == attempt
            and state.nonce == nonce
            and not self.ended
            and self.parked is None
        )


# ---- in: what was asked


def start_run(state: RunState, seq: int, start: m.Start, plan: Plan) -> None:
    """Apply `in.start`: the plan's steps stand pending, seeded ones completed."""
    state.folded = max(state.folded, seq)
    if state.start is not None:
        return
    state.start = start
    state.plan = plan
    state.now = max(state.now, start.at)
    state.input = value_of(start.input, start.input_ref)
    state.deadline = start.at + plan.timeout_ms if plan.timeout_ms else 0
    state.open_steps = len(plan.steps)
    for step in plan.steps.values():
        state.steps[step.id] = StepState()
        state.blocked[step.id] = len(step.depends_on)
        if not step.depends_on:
            state.ready[step.id] = None
    for step_id, seed in start.seed.items():
        step_state = state.steps[step_id]
        step_state.attempt = seed.attempt
        step_state.worker_id = seed.worker_id
        step_state.started_at = seed.started_at
        step_state.ended_at = seed.ended_at
        step_state.output = value_of(seed.output, seed.output_ref)
        _close(state, step_id, "completed")


def ask_cancel(state: RunState, seq: int, cancel: m.Cancel) -> None:
    """Apply `in.cancel`."""
    state.folded = max(state.folded, seq)
    if not state.ended:
        state.cancel = cancel.reason


def fire_timer(state: RunState, seq: int, fired: m.TimerFired) -> None:
    """Apply `in.timer`: time has come to `due`. An earlier deadline may have replaced the schedule that fired."""
    state.folded = max(state.folded, seq)
    state.now = max(state.now, fired.due)
    if state.armed is not None and state.armed.due == fired.due:
        state.armed = None


# ---- out: what was decided


def apply_decision(state: RunState, decision: m.Decision) -> None:
    """Apply one `out` message: its events, then its task. Raises IllegalMove if it cannot follow on this state."""
    if state.ended:
        raise IllegalMove(f"message {decision.n} after the run {state.status}")
    state.n = decision.n
    state.now = max(state.now, decision.at)
    if state.status == "pending":
        state.status = "running"
        state.started_at = decision.at
    for event in decision.events:
        APPLY[type(event)](state, event, decision)
    if decision.task is not None:
        queue_step(state, decision.task)


def queue_step(state: RunState, task: m.Task) -> None:
    """An attempt is handed to workers."""
    step = _step(state, task.step)
    if step.status not in ("pending", "waiting") or task.attempt != step.attempt + 1:
        raise IllegalMove(f"attempt {task.attempt} of step {task.step!r} queued, which is {step.status}")
    if state.blocked[task.step]:
        raise IllegalMove(f"step {task.step!r} queued before its dependencies")
    assert state.plan is not None
    step.status = "queued"
    step.attempt = task.attempt
    step.nonce = task.nonce
    step.queued_at = task.at
    step.worker_id = ""
    step.started_at = 0
    queue_timeout_ms = state.plan.steps[task.step].queue_timeout_ms
    step.due = task.at + queue_timeout_ms if queue_timeout_ms else 0
    _track_due(state, task.step, step)
    state.ready.pop(task.step, None)


def _started(state: RunState, event: m.StepStarted, decision: m.Decision) -> None:
    step = _live_step(state, event.step, event.attempt, "started")
    assert state.plan is not None
    step.status = "running"
    step.worker_id = event.worker_id
    step.started_at = event.started_at
    timeout_ms = state.plan.steps[event.step].timeout_ms
    # Counted from the report, which comes a second after the start: the worker's own deadline passes first.
    step.due = decision.at + timeout_ms if timeout_ms else 0
    _track_due(state, event.step, step)


def _completed(state: RunState, event: m.StepCompleted, decision: m.Decision) -> None:
    step = _live_step(state, event.step, event.attempt, "completed")
    _remember(step, event.attempt, event.digest)
    step.worker_id = event.worker_id
    step.started_at = event.started_at
    step.ended_at = event.ended_at or decision.at
    step.output = _output_of(event, decision)
    step.error = None
    _close(state, event.step, "completed")


def _failed(state: RunState, event: m.StepFailed, decision: m.Decision) -> None:
    step = _step(state, event.step)
    if event.attempt:
        step = _live_step(state, event.step, event.attempt, "failed")
        _remember(step, event.attempt, event.digest)
    step.worker_id = event.worker_id or step.worker_id
    step.started_at = event.started_at or step.started_at
    step.error = event.error
    step.nonce = ""
    if event.retry_at:
        step.status = "waiting"
        step.due = event.retry_at
        _track_due(state, event.step, step)
        return
    step.ended_at = event.ended_at or decision.at
    _close(state, event.step, "failed")


def _skipped(state: RunState, event: m.StepSkipped, decision: m.Decision) -> None:
    step = _step(state, event.step)
    if step.status != "pending":
        raise IllegalMove(f"step {event.step!r} skipped, which is {step.status}")
    step.ended_at = decision.at
    _close(state, event.step, "skipped")


def _run_ended(state: RunState, event: m.RunEnded, decision: m.Decision) -> None:
    state.status = event.status
    state.error = event.error
    state.output_steps = list(event.output_steps)
    state.ended_at = decision.at
    state.parked = None
    for step in state.steps.values():
        if step.status in ("pending", "queued", "running", "waiting"):
            step.status = "cancelled"
            step.ended_at = decision.at
            step.due = 0
    state.ready.clear()
    state.timed.clear()
    state.earliest = 0


def _run_parked(state: RunState, event: m.RunParked, decision: m.Decision) -> None:
    state.status = "paused"
    state.parked = event.error
    state.error = event.error


APPLY: dict[type, Callable[[RunState, m.Event, m.Decision], None]] = {
    m.StepStarted: _started,  # type: ignore[dict-item]
    m.StepCompleted: _completed,  # type: ignore[dict-item]
    m.StepFailed: _failed,  # type: ignore[dict-item]
    m.StepSkipped: _skipped,  # type: ignore[dict-item]
    m.RunEnded: _run_ended,  # type: ignore[dict-item]
    m.RunParked: _run_parked,  # type: ignore[dict-item]
}
"""The one table of what an event does."""


# ---- helpers


def value_of(inline: Raw | UnsetType, ref: m.Ref | None) -> m.Value:
    """The value that a pair of fields `x`, `x_ref` carries; null if neither is set."""
    if ref is not None:
        return ref
    return m.NULL if inline is UNSET else inline


def fields_of(value: m.Value) -> tuple[Raw | UnsetType, m.Ref | None]:
    """The pair of fields that carries a value."""
    if isinstance(value, m.Ref):
        return UNSET, value
    return value, None


def _output_of(event: m.StepCompleted, decision: m.Decision) -> m.Value:
    if event.output_in == "task" and decision.task is not None:
        return value_of(decision.task.input, decision.task.input_ref)
    if event.output_in == "final" and decision.final is not None:
        for step in decision.final.steps:
            if step.id == event.step:
                return value_of(step.output, step.output_ref)
    return value_of(event.output, event.output_ref)


def _step(state: RunState, step_id: str) -> StepState:
    step = state.steps.get(step_id)
    if step is None:
        raise IllegalMove(f"step {step_id!r} is not in the definition")
    return step


def _live_step(state: RunState, step_id: str, attempt: int, what: str) -> StepState:
    step = _step(state, step_id)
    if step.status not in LIVE or step.attempt != attempt:
        raise IllegalMove(f"attempt {attempt} of step {step_id!r} {what}; it is {step.status}, attempt {step.attempt}")
    return step


def _remember(step: StepState, attempt: int, digest: str) -> None:
    step.reports[attempt] = digest
    if len(step.reports) > REPORTS_KEPT_MAX:
        del step.reports[min(step.reports)]


def tighten(state: RunState) -> None:
    """Find the earliest deadline of a step; costs what the run's timed steps are, so not for every decision."""
    state.earliest = min((state.steps[step_id].due for step_id in state.timed), default=0)


def _track_due(state: RunState, step_id: str, step: StepState) -> None:
    if step.due:
        state.timed[step_id] = None
        if not state.earliest or step.due < state.earliest:
            state.earliest = step.due
    else:
        state.timed.pop(step_id, None)


def _close(state: RunState, step_id: str, status: m.StepStatus) -> None:
    """A step has ended for good: whoever depends on it comes nearer, if it went well."""
    assert state.plan is not None
    step = state.steps[step_id]
    step.status = status
    step.due = 0
    step.nonce = ""
    state.open_steps -= 1
    state.timed.pop(step_id, None)
    state.ready.pop(step_id, None)
    if status not in SATISFIED:
        return
    for dependent in state.plan.steps[step_id].dependents:
        state.blocked[dependent] -= 1
        if not state.blocked[dependent] and state.steps[dependent].status == "pending":
            state.ready[dependent] = None


# ---- snapshots


def snapshot_of(state: RunState, n: int, at: int) -> m.Snapshot:
    """The state as one message; `restore` is its inverse."""
    assert state.start is not None
    steps = []
    for step_id, step in state.steps.items():
        if step.status == "pending":
            continue
        output, output_ref = fields_of(step.output)
        steps.append(
            m.SnapshotStep(
                id=step_id,
                status=step.status,
                attempt=step.attempt,
                nonce=step.nonce,
                worker_id=step.worker_id,
                queued_at=step.queued_at,
                started_at=step.started_at,
                ended_at=step.ended_at,
                due=step.due,
                error=step.error,
                reports=dict(step.reports),
                output=output if step.status == "completed" else UNSET,
                output_ref=output_ref,
            )
        )
    return m.Snapshot(
        v=m.FORMAT,
        n=n,
        after=state.folded,
        at=at,
        start=state.start,
        started_at=state.started_at,
        cancel=state.cancel,
        parked=state.parked,
        steps=steps,
    )


def restore(run_id: str, snapshot: m.Snapshot, plan: Plan) -> RunState:
    """The state that a snapshot holds."""
    state = RunState(run_id)
    start_run(state, snapshot.after, snapshot.start, plan)
    state.n = state.snapshot_n = snapshot.n
    state.now = max(state.now, snapshot.at)
    state.status = "running"
    state.started_at = snapshot.started_at
    state.cancel = snapshot.cancel
    if snapshot.parked is not None:
        state.status, state.parked, state.error = "paused", snapshot.parked, snapshot.parked
    for kept in snapshot.steps:
        if kept.id not in snapshot.start.seed:
            _restore_step(state, kept)
    return state


def _restore_step(state: RunState, kept: m.SnapshotStep) -> None:
    step = _step(state, kept.id)
    step.attempt = kept.attempt
    step.worker_id = kept.worker_id
    step.queued_at = kept.queued_at
    step.started_at = kept.started_at
    step.ended_at = kept.ended_at
    step.error = kept.error
    step.reports = dict(kept.reports)
    step.output = value_of(kept.output, kept.output_ref)
    if kept.status in ("completed", "skipped", "failed"):
        _close(state, kept.id, kept.status)
        return
    step.status = kept.status
    step.nonce = kept.nonce
    step.due = kept.due
    state.ready.pop(kept.id, None)
    _track_due(state, kept.id, step)


def live_steps(state: RunState) -> Iterable[str]:
    """Steps that are out with workers."""
    return [step_id for step_id, step in state.steps.items() if step.status in LIVE]
