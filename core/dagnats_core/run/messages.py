"""What stands in the run log: the bodies of its messages, as they are on the wire (docs/wire.md). Pure.

`in` messages say what was asked (start, cancel, timer); `out` messages say what the engine decided. Every body carries
its format version `v`. Readers accept unknown fields, so that an older reader can follow a newer writer's additions;
a change of meaning gets a new version. Times are milliseconds since the Unix epoch (UTC).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from dagnats_core import limits

FORMAT = 1
NULL = Raw(b"null")

RunStatus = Literal["pending", "running", "paused", "completed", "failed", "cancelled"]
StepStatus = Literal["pending", "queued", "running", "waiting", "completed", "failed", "skipped", "cancelled"]
Labels = list[str] | dict[str, str]
"""Tags of a run: words, or names with values; kept in the form in which they were given."""


class Ref(msgspec.Struct, frozen=True):
    """A value that is kept in the payload store instead of in the message: its id, bytes, and SHA-256 (hex)."""

    id: str
    size: int
    sha256: str


Value = Raw | Ref
"""A JSON value as the engine carries it: undecoded bytes, or a reference to the payload store."""


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a step or run failed: a code (`timeout`, `worker_lost`, or one of the handler's own), words, data."""

    code: str
    message: str
    step: str = ""
    details: Raw | UnsetType = UNSET


# ---- in: what was asked


class Seed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A completed step that a retried run takes over. Large outputs are references: a start is one message."""

    output: Raw | UnsetType = UNSET
    output_ref: Ref | None = None
    attempt: int = 0
    worker_id: str = ""
    started_at: int = 0
    ended_at: int = 0


class Start(msgspec.Struct, frozen=True, omit_defaults=True):
    """`in.start`: a run was asked for. `digest`: of the request, to see the same request id with another body."""

    v: int
    at: int
    workflow: str
    version: int
    hash: str
    input: Raw | UnsetType = UNSET
    input_ref: Ref | None = None
    tags: Labels = []
    request_id: str = ""
    digest: str = ""
    retry_of: str = ""
    seed: dict[str, Seed] = {}
    traceparent: str = ""


class Cancel(msgspec.Struct, frozen=True, omit_defaults=True):
    """`in.cancel`: the run shall end as cancelled."""

    v: int
    at: int
    reason: str = ""


class TimerFired(msgspec.Struct, frozen=True):
    """`in.timer.<k>`: the schedule for `due` fired. It is the body of the schedule, published by the server."""

    v: int
    due: int


# ---- out: what was decided


class StepStarted(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="step_started"):
    step: str
    attempt: int
    worker_id: str
    started_at: int


class StepCompleted(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="step_completed"):
    """`output_in` says where the output stands when it would otherwise stand twice in one message:
    `task` = it is the input of this message's task, `final` = it is in this message's final record."""

    step: str
    attempt: int
    worker_id: str = ""
    digest: str = ""
    started_at: int = 0
    ended_at: int = 0
    output: Raw | UnsetType = UNSET
    output_ref: Ref | None = None
    output_in: Literal["", "task", "final"] = ""


class StepFailed(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="step_failed"):
    """An attempt failed. `retry_at` = when the next one is due; 0 = the step failed for good."""

    step: str
    attempt: int
    error: ErrorInfo
    worker_id: str = ""
    digest: str = ""
    started_at: int = 0
    ended_at: int = 0
    retry_at: int = 0


class StepSkipped(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="step_skipped"):
    step: str
    reason: str


class RunEnded(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="run_ended"):
    """The run is over; steps that had not ended are cancelled. `output_steps`: whose outputs are the run's output."""

    status: Literal["completed", "failed", "cancelled"]
    error: ErrorInfo | None = None
    output_steps: list[str] = []


class RunParked(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="run_parked"):
    """Deciding raised: the run stands still (`paused`) with this cause until it is cancelled or replayed."""

    error: ErrorInfo


Event = StepStarted | StepCompleted | StepFailed | StepSkipped | RunEnded | RunParked


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt of a step, handed to workers.

    The input is `input` (JSON), or `input_ref`, or `input` as an object in which the keys of `input_refs` are replaced
    by those payloads. `timeout_ms` counts from the start of the handler; `run_deadline` is absolute. `nonce` proves
    that a report comes from somebody who was handed this attempt.
    """

    run_id: str
    step: str
    task: str
    attempt: int
    nonce: str
    workflow: str
    at: int
    input: Raw | UnsetType = UNSET
    input_ref: Ref | None = None
    input_refs: dict[str, Ref] = {}
    timeout_ms: int = 0
    run_deadline: int = 0
    metadata: dict[str, str] = {}
    traceparent: str = ""


class FinalStep(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    task: str
    status: StepStatus
    attempt: int = 0
    worker_id: str = ""
    error: ErrorInfo | None = None
    started_at: int = 0
    ended_at: int = 0
    due: int = 0
    output: Raw | UnsetType = UNSET
    output_ref: Ref | None = None


class FinalRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole of a run, as the archive keeps it once it has ended: nothing else need be read to show or retry it."""

    run_id: str
    workflow: str
    version: int
    hash: str
    status: RunStatus
    created_at: int
    steps: list[FinalStep]
    started_at: int = 0
    ended_at: int = 0
    input: Raw | UnsetType = UNSET
    input_ref: Ref | None = None
    output_steps: list[str] = []
    error: ErrorInfo | None = None
    tags: Labels = []
    request_id: str = ""
    digest: str = ""
    retry_of: str = ""


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every `out` message but snapshots: the `n`-th message that the engine wrote for this run.

    `after` is the last `in` sequence of the run that the decision knew: the fold applies `in` messages up to it first.
    `at` is the time of the decision. A message holds the events of a decision and at most one task. `out.ended` also
    holds the final record, or a reference to it when it is large.
    """

    v: int
    n: int
    after: int
    at: int
    events: list[Event] = []
    task: Task | None = None
    final: FinalRun | None = None
    final_ref: Ref | None = None


class SnapshotStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that has left `pending`, as `state.StepState` holds it."""

    id: str
    status: StepStatus
    attempt: int = 0
    nonce: str = ""
    worker_id: str = ""
    queued_at: int = 0
    started_at: int = 0
    ended_at: int = 0
    due: int = 0
    error: ErrorInfo | None = None
    reports: dict[int, str] = {}
    output: Raw | UnsetType = UNSET
    output_ref: Ref | None = None


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of `out.snapshot.<n>`: the state after the `n - 1`-th message and the `in` messages up to `after`."""

    v: int
    n: int
    after: int
    at: int
    start: Start
    started_at: int = 0
    cancel: str | None = None
    parked: ErrorInfo | None = None
    steps: list[SnapshotStep] = []
    body_ref: Ref | None = None


class Stamp(msgspec.Struct, frozen=True):
    """`own.<partition>`: who owns it. Its sequence is the fence of everything that the owner writes."""

    v: int
    engine: str
    nonce: str
    at: int


class Floor(msgspec.Struct, frozen=True):
    """`floor.<partition>`: all `in` messages up to `seq` are done."""

    v: int
    seq: int


class Timer(msgspec.Struct, frozen=True):
    """The schedule message `timer`, armed for `due`, with target `in.timer.<key>`. Its body is that of `TimerFired`."""

    due: int
    key: str


# ---- between workers and the owner of a partition (never stored as such)


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker says of an attempt, by request to `report.<partition>.<task>.<run>.<step>`.

    `kind`: `claim` (may I start it?), `started`, `alive`, or an outcome: `completed`, `failed`, `worker_lost`.
    A failed outcome is tried again if the policy allows and `retryable`; `retry_after_ms` replaces the policy's delay.
    """

    v: int
    kind: Literal["claim", "started", "alive", "completed", "failed", "worker_lost"]
    attempt: int
    nonce: str
    worker_id: Annotated[str, msgspec.Meta(max_length=limits.WORKER_ID_LENGTH_MAX)] = ""
    started_at: int = 0
    ended_at: int = 0
    output: Raw | UnsetType = UNSET
    output_ref: Ref | None = None
    error: ErrorInfo | None = None
    retryable: bool = True
    retry_after_ms: int = -1


class ReportAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`go` (a claim: start it), `stored` (the report is committed; `alive`: still wanted), or
    `not_current` (it changes nothing: the attempt is over, the run has ended, or another outcome was stored)."""

    answer: Literal["go", "stored", "not_current"]
    message: str = ""


class CancelNotice(msgspec.Struct, frozen=True):
    """Published unstored on `cancel.<task>`: the run has ended; whoever runs one of its tasks stops."""

    run_id: str


encoder = msgspec.json.Encoder()
encode = encoder.encode
decode_start = msgspec.json.Decoder(Start).decode
decode_cancel = msgspec.json.Decoder(Cancel).decode
decode_timer = msgspec.json.Decoder(TimerFired).decode
decode_decision = msgspec.json.Decoder(Decision).decode
decode_floor = msgspec.json.Decoder(Floor).decode
decode_snapshot = msgspec.json.Decoder(Snapshot).decode
decode_report = msgspec.json.Decoder(Report).decode
decode_final = msgspec.json.Decoder(FinalRun).decode
