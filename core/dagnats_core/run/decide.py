"""What a run's state calls for: `decide` takes state, time and perhaps a report, and returns messages. Pure.

A decision is level-triggered: it is all that the state calls for and the log does not hold, so asking again after a
crash gives the rest, and asking when nothing is missing gives nothing. `decide` applies what it decides to the state as
it goes; whoever cannot commit the messages throws the state away and folds again (engine/PROTOCOL.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import UNSET, Raw

from dagnats_core import limits
from dagnats_core.flow import backoff, conditions, inputs
from dagnats_core.flow.durations import format_duration
from dagnats_core.flow.expressions import ExpressionFailed
from dagnats_core.flow.plan import Plan, StepPlan
from dagnats_core.run import messages as m
from dagnats_core.run import views
from dagnats_core.run.state import LIVE, RunState, apply_decision, fields_of, queue_step, snapshot_of, tighten


class OutMessage(NamedTuple):
    """One message to publish. `body` is a Decision, a Snapshot, or the Timer to arm; `task` is set for kind `task`."""

    kind: Literal["events", "task", "ended", "parked", "snapshot", "timer"]
    n: int
    body: m.Decision | m.Snapshot | m.Timer
    task: StepPlan | None = None


class Decided(NamedTuple):
    """`messages` go out in this order, as one batch or piece by piece. `notices`: step plans whose workers are told
    that the run has ended, once that is committed. `needs`: payloads to load before the rest can be decided; `more`:
    there is a rest that needs nothing, left for another decision so that this one does not hold up other runs."""

    messages: list[OutMessage]
    notices: list[StepPlan]
    needs: list[m.Ref]
    more: bool = False


class _Needs(Exception):
    def __init__(self, refs: list[m.Ref]) -> None:
        self.refs = refs


class Outcome(NamedTuple):
    """A report of the current attempt of `step`, with its digest."""

    step: str
    report: m.Report
    digest: str


Mint = Callable[[str, str, int], str]
"""Makes the nonce of an attempt from run id, step id and attempt."""


def minter(secret: bytes) -> Mint:
    """Nonces that nobody guesses without `secret` (32 random bytes for each owner of a partition)."""

    def mint(run_id: str, step: str, attempt: int) -> str:
        return hashlib.blake2b(f"{run_id}.{step}.{attempt}".encode(), key=secret, digest_size=12).hexdigest()

    return mint


def digest_of(report: m.Report) -> str:
    """What makes two reports of an attempt the same: kind, nonce, output, error. Not their times."""
    h = hashlib.blake2b(f"{report.kind} {report.nonce} ".encode(), digest_size=10)
    if report.output is not UNSET:
        h.update(bytes(report.output))
    if report.output_ref is not None:
        h.update(report.output_ref.sha256.encode())
    if report.error is not None:
        h.update(m.encode(report.error))
    h.update(b"%d %d" % (report.retryable, report.retry_after_ms))
    return h.hexdigest()


class _Decision:
    """The decision in the making: events and tasks so far, applied to the state one by one."""

    def __init__(self, state: RunState, plan: Plan, now: int, mint: Mint, loaded: Mapping[str, Raw]) -> None:
        self.state = state
        self.plan = plan
        self.now = now
        self.mint = mint
        self.loaded = loaded
        self.decoded = inputs.Decoded()
        self.first_n = state.n
        self.events: list[m.Event] = []
        self.tasks: list[tuple[StepPlan, m.Task]] = []
        self.needs: list[m.Ref] = []
        self.notices: list[StepPlan] = []
        self.ended = False
        self.more = False

    def emit(self, event: m.Event) -> None:
        self.events.append(event)
        state = self.state
        apply_decision(state, m.Decision(v=m.FORMAT, n=state.n, after=state.folded, at=self.now, events=[event]))

    def value(self, value: m.Value) -> Raw:
        """The JSON of a value; raises _Needs if it is a payload that is not loaded."""
        if isinstance(value, m.Ref):
            if value.id not in self.loaded:
                raise _Needs([value])
            return self.loaded[value.id]
        return value

    def outputs(self, steps: tuple[str, ...] | set[str]) -> dict[str, Raw]:
        """Outputs of these steps; raises _Needs naming all that are not loaded."""
        values: dict[str, Raw] = {}
        missing: list[m.Ref] = []
        for step_id in steps:
            try:
                values[step_id] = self.value(self.state.steps[step_id].output)
            except _Needs as needs:
                missing += needs.refs
        if missing:
            raise _Needs(missing)
        return values


def decide(
    state: RunState,
    now: int,
    mint: Mint,
    outcomes: Sequence[Outcome] = (),
    loaded: Mapping[str, Raw] | None = None,
) -> Decided:
    """All that `state` calls for at `now` (ms), taking in each of `outcomes` whose attempt is current.

    `loaded` holds payloads by id that an earlier decision named in `needs`.
    """
    plan = state.plan
    if plan is None or state.ended or (state.parked is not None and state.cancel is None):
        return Decided([], [], [])
    d = _Decision(state, plan, max(now, state.now), mint, loaded or {})
    if state.cancel is not None:
        _end(d, "cancelled", m.ErrorInfo("cancelled", state.cancel or "the run was cancelled"))
        return _messages(d)
    for outcome in outcomes:
        if not d.ended:
            _take(d, outcome)
    _pass_deadlines(d)
    if not d.ended:
        _schedule(d)
    if not d.ended:
        _finish(d)
    return _messages(d)


def park(state: RunState, now: int, cause: Exception) -> OutMessage:
    """The message that parks a run because deciding on it raised `cause`."""
    error = m.ErrorInfo("parked", f"{type(cause).__name__}: {cause}"[: limits.ERROR_MESSAGE_CHARS_MAX])
    n = state.n + 1
    decision = m.Decision(v=m.FORMAT, n=n, after=state.folded, at=max(now, state.now), events=[m.RunParked(error)])
    return OutMessage("parked", n, decision)


# ---- taking in a report


def _take(d: _Decision, outcome: Outcome) -> None:
    step_id, report, digest = outcome
    if not d.state.current(step_id, report.attempt, report.nonce):
        return
    if report.kind == "started":
        step = d.state.steps[step_id]
        if step.status != "running" or step.worker_id != report.worker_id:
            d.emit(m.StepStarted(step_id, report.attempt, report.worker_id, _clock(d, report.started_at)))
    elif report.kind == "completed":
        d.emit(
            m.StepCompleted(
                step=step_id,
                attempt=report.attempt,
                worker_id=report.worker_id,
                digest=digest,
                started_at=_clock(d, report.started_at),
                ended_at=_clock(d, report.ended_at),
                output=report.output,
                output_ref=report.output_ref,
            )
        )
    elif report.kind == "failed":
        error = report.error or m.ErrorInfo("handler_error", "the worker gave no error")
        _fail(d, step_id, error, report, digest, report.retry_after_ms if report.retryable else None)
    elif report.kind == "worker_lost":
        error = m.ErrorInfo("worker_lost", "its workers died before they could report")
        _fail(d, step_id, error, report, digest, -1)


def _fail(
    d: _Decision,
    step_id: str,
    error: m.ErrorInfo,
    report: m.Report | None,
    digest: str,
    retry_after_ms: int | None,
) -> None:
    """An attempt failed: again after the policy's delay (-1) or the given one; None or no attempts left = for good.

    A handler that names a time is heard without a policy too, up to `limits.ASKED_ATTEMPTS_MAX` attempts.
    """
    step = d.state.steps[step_id]
    policy = d.plan.steps[step_id].retry
    asked_ms = -1 if retry_after_ms is None else retry_after_ms
    attempts_max = policy.max_attempts if policy is not None else limits.ASKED_ATTEMPTS_MAX if asked_ms >= 0 else 1
    retry_at = 0
    if retry_after_ms is not None and step.attempt < attempts_max:
        delay_ms = retry_after_ms
        if delay_ms < 0 and policy is not None:
            delay_ms = backoff.delay_ms(policy, step.attempt, f"{d.state.run_id}.{step_id}")
        retry_at = d.now + min(delay_ms, limits.RETRY_AFTER_MS_MAX)
    d.emit(
        m.StepFailed(
            step=step_id,
            attempt=step.attempt,
            error=_clip(error, step_id),
            worker_id=report.worker_id if report else step.worker_id,
            digest=digest,
            started_at=_clock(d, report.started_at if report else step.started_at or step.queued_at),
            ended_at=_clock(d, report.ended_at if report else 0),
            retry_at=retry_at,
        )
    )
    if not retry_at:
        _end(d, "failed", d.state.steps[step_id].error)


def _clip(error: m.ErrorInfo, step_id: str) -> m.ErrorInfo:
    """A worker's error as it is stored: bounded, and with its step."""
    details = error.details
    if details is not UNSET and memoryview(details).nbytes > limits.ERROR_DETAILS_BYTES_MAX:
        details = UNSET
    code, message = error.code[: limits.NAME_LENGTH_MAX], error.message[: limits.ERROR_MESSAGE_CHARS_MAX]
    return m.ErrorInfo(code, message, step_id, details)


# ---- time

CLOCK_SKEW_MS_MAX = limits.MINUTE_MS


def _clock(d: _Decision, reported_at: int) -> int:
    """A worker's time, unless it is missing or its clock is far ahead: then the decision's own."""
    return reported_at if 0 < reported_at <= d.now + CLOCK_SKEW_MS_MAX else d.now


def _pass_deadlines(d: _Decision) -> None:
    state = d.state
    if d.ended:
        return
    if state.deadline and state.deadline <= d.now:
        _end(d, "failed", m.ErrorInfo("run_timeout", f"the run took longer than {format_duration(d.plan.timeout_ms)}"))
        return
    for step_id in _due_steps(d):
        step = state.steps[step_id]
        if step.status not in LIVE:
            continue
        if step.status == "running":
            limit_ms = d.plan.steps[step_id].timeout_ms
            error = m.ErrorInfo("timeout", f"the handler took longer than {format_duration(limit_ms)}")
        else:
            limit_ms = d.plan.steps[step_id].queue_timeout_ms
            error = m.ErrorInfo(
                "queue_timeout", f"no worker finished the step within {format_duration(limit_ms)} of its queueing"
            )
        _fail(d, step_id, error, None, "", -1)
        if d.ended:
            return


def _due_steps(d: _Decision) -> list[str]:
    """Steps whose deadline has passed, or whose next attempt is due."""
    state = d.state
    if not state.earliest or state.earliest > d.now:
        return []
    return [step_id for step_id in state.timed if state.steps[step_id].due <= d.now]


def next_due(state: RunState, now: int = 0) -> int:
    """The earliest deadline of the run after `now` (ms), 0 if it has none."""
    due = state.deadline if state.deadline > now else 0
    for step_id in state.timed:
        step_due = state.steps[step_id].due
        if step_due > now and (not due or step_due < due):
            due = step_due
    return due


# ---- scheduling


def _schedule(d: _Decision) -> None:
    """Hand out each step that is ready, or skip it, until nothing more becomes ready.

    A step that waits for a payload stays ready. Tasks change the state only once all are made: a step that cannot be
    made ends the run, and then none of them is handed out.
    """
    state = d.state
    ready = [step_id for step_id in _due_steps(d) if state.steps[step_id].status == "waiting"]
    ready += state.ready
    for step_id in ready:
        if d.decoded.spent > limits.DECISION_COST_MAX:
            d.more = True
            break
        _hand_out(d, step_id)
        if d.ended:
            return
        if state.steps[step_id].status == "skipped":
            ready += [dependent for dependent in d.plan.steps[step_id].dependents if dependent in state.ready]
    for _, task in d.tasks:
        queue_step(state, task)


def _hand_out(d: _Decision, step_id: str) -> None:
    """Make the task of a ready step, or skip it, or end the run because its expressions fail."""
    plan = d.plan.steps[step_id]
    step = d.state.steps[step_id]
    try:
        if plan.conditional and not step.attempt:
            reason = _skip_reason(d, plan)
            if reason is not None:
                d.emit(m.StepSkipped(step_id, reason))
                return
        d.tasks.append((plan, _task(d, plan, step.attempt + 1)))
    except _Needs as needs:
        d.needs += needs.refs
    except ExpressionFailed as error:
        d.emit(m.StepFailed(step_id, 0, m.ErrorInfo("expression", str(error), step_id), ended_at=d.now))
        _end(d, "failed", d.state.steps[step_id].error)


def _skip_reason(d: _Decision, plan: StepPlan) -> str | None:
    run_input = d.value(d.state.input) if plan.condition_reads_input else m.NULL
    return conditions.should_skip(plan, run_input, d.outputs(plan.condition_reads), d.decoded)


def _task(d: _Decision, plan: StepPlan, attempt: int) -> m.Task:
    state = d.state
    assert state.start is not None
    value, refs = _input(d, plan)
    inline, ref = fields_of(value)
    return m.Task(
        run_id=state.run_id,
        step=plan.id,
        task=plan.task,
        attempt=attempt,
        nonce=d.mint(state.run_id, plan.id, attempt),
        workflow=state.start.workflow,
        at=d.now,
        input=inline,
        input_ref=ref,
        input_refs=refs,
        timeout_ms=plan.timeout_ms,
        run_deadline=state.deadline,
        metadata=plan.metadata,
        traceparent=state.start.traceparent,
    )


def _input(d: _Decision, plan: StepPlan) -> tuple[m.Value, dict[str, m.Ref]]:
    """The input of a step: one value, or an object some of whose keys are payloads."""
    state = d.state
    if plan.mapped:
        run_input = d.value(state.input) if plan.input_reads_input else m.NULL
        return inputs.build_input(plan, run_input, d.outputs(plan.input_reads), d.decoded), {}
    if not plan.depends_on:
        return state.input, {}
    if len(plan.depends_on) == 1:
        return state.steps[plan.depends_on[0]].output, {}
    refs: dict[str, m.Ref] = {}
    outputs: dict[str, Raw] = {}
    for step_id in plan.depends_on:
        output = state.steps[step_id].output
        if isinstance(output, m.Ref):
            refs[step_id] = output
            output = m.NULL
        outputs[step_id] = output
    return inputs.join_by_id(plan.depends_on, outputs), refs


# ---- the end


def _finish(d: _Decision) -> None:
    """End the run if no step is left."""
    if d.state.open_steps or d.tasks or d.needs:
        return
    schema = d.plan.output_schema
    if schema is not None:
        try:
            problems = schema.check(views.join_outputs(d.plan.terminal, d.outputs(d.plan.terminal)))
        except _Needs as needs:
            d.needs += needs.refs
            return
        if problems:
            first = problems[0]
            text = f"the output does not fit output_schema: {first.path or 'output'}: {first.message}"
            _end(d, "failed", m.ErrorInfo("invalid_output", text[: limits.ERROR_MESSAGE_CHARS_MAX]))
            return
    _end(d, "completed", None)


def _end(d: _Decision, status: Literal["completed", "failed", "cancelled"], error: m.ErrorInfo | None) -> None:
    state = d.state
    d.notices = [d.plan.steps[step_id] for step_id, step in state.steps.items() if step.status in LIVE]
    d.ended = True
    d.tasks.clear()
    output_steps = list(d.plan.terminal) if status == "completed" else []
    d.emit(m.RunEnded(status, error, output_steps))


# ---- messages


def _messages(d: _Decision) -> Decided:
    """Put events and tasks into messages: the events of a decision and at most one task each (design, section 3)."""
    state = d.state
    if d.ended:
        n = d.first_n + 1
        final = views.final_of(state)
        events = [_without_output(event, "final") for event in d.events]
        body = m.Decision(v=m.FORMAT, n=n, after=state.folded, at=d.now, events=events, final=final)
        state.n = n
        return Decided([OutMessage("ended", n, body)], d.notices, [])
    messages: list[OutMessage] = []
    n = d.first_n
    events = d.events
    tasks = d.tasks
    carrier = _carrier(d)
    if carrier:
        # The task that may show its worker the completion before it goes first, with the events.
        tasks = [tasks[carrier - 1], *tasks[: carrier - 1], *tasks[carrier:]]
        events = [_without_output(event, "task") for event in events]
    elif events:
        n += 1
        messages.append(OutMessage("events", n, _decision(d, n, events)))
        events = []
    for plan, task in tasks:
        n += 1
        messages.append(OutMessage("task", n, _decision(d, n, events, task), plan))
        events = []
    state.n = n
    if messages:
        if state.status == "pending":
            state.status, state.started_at = "running", d.now
        state.now = max(state.now, d.now)
        if n - state.snapshot_n >= limits.SNAPSHOT_DECISIONS:
            state.n = state.snapshot_n = n + 1
            messages.append(OutMessage("snapshot", n + 1, snapshot_of(state, n + 1, d.now)))
    timer = _timer(d)
    if timer is not None:
        state.armed = timer
        messages.insert(0, OutMessage("timer", d.first_n, timer))
    return Decided(messages, [], d.needs, d.more)


def _timer(d: _Decision) -> m.Timer | None:
    """The timer to arm for the next deadline; None if there is none, or what is armed comes first."""
    state = d.state
    armed = state.armed.due if state.armed is not None else 0
    bounds = [bound for bound in (state.deadline, state.earliest) if bound]
    if not bounds or 0 < armed <= min(bounds):
        return None
    tighten(state)
    due = next_due(state, d.now)
    return m.Timer(due, f"{d.first_n}-{due}") if due and not 0 < armed <= due else None


def _decision(d: _Decision, n: int, events: list[m.Event], task: m.Task | None = None) -> m.Decision:
    return m.Decision(v=m.FORMAT, n=n, after=d.state.folded, at=d.now, events=events, task=task)


def _carrier(d: _Decision) -> int:
    """1 + the index of the task that may carry the events: the completion before it is its whole input. 0 = none."""
    if not d.tasks:
        return 0
    if not d.events:
        return 1
    if len(d.events) != 1 or not isinstance(d.events[0], m.StepCompleted):
        return 0
    completed = d.events[0].step
    for i, (plan, _) in enumerate(d.tasks):
        if plan.depends_on == (completed,) and not plan.mapped:
            return i + 1
    return 0


def _without_output(event: m.Event, where: Literal["task", "final"]) -> m.Event:
    """A completion whose output stands elsewhere in its message."""
    if not isinstance(event, m.StepCompleted):
        return event
    return m.StepCompleted(
        step=event.step,
        attempt=event.attempt,
        worker_id=event.worker_id,
        digest=event.digest,
        started_at=event.started_at,
        ended_at=event.ended_at,
        output_in=where,
    )
