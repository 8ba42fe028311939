"""Requests and replies of `run`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dagnats_core import limits
from dagnats_micro.schemas.common import (
    Cursor,
    ErrorReply,
    Failure,
    Json,
    Limit,
    Name,
    PayloadRef,
    Reply,
    Request,
    RequestId,
    RunId,
    Tag,
    Tags,
    Timestamp,
    matching,
)

RunStatus = Literal["pending", "running", "paused", "completed", "failed", "cancelled"]
StepStatus = Literal["pending", "queued", "running", "waiting", "completed", "failed", "skipped", "cancelled"]


class Step(Reply):
    id: str
    task: str
    status: StepStatus
    attempt: int
    worker_id: str | None
    error: Failure | None
    started_at: Timestamp | None
    ended_at: Timestamp | None
    retry_at: Timestamp | None = None


class Run(Reply):
    """One run, whole. A value too large for a message is null here and named by its `_ref`."""

    run_id: RunId
    workflow: str
    version: int
    status: RunStatus
    input: Json
    output: Json
    error: Failure | None
    steps: list[Step]
    tags: Tags
    created_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    hash: str = ""
    request_id: str | None = None
    retry_of: str | None = None
    input_ref: PayloadRef | None = None
    output_ref: PayloadRef | None = None
    output_size: Annotated[int, Meta(description="bytes of an output that `run.output` reads")] | None = None


class RunItem(Reply):
    """A run in a list: no input, output or steps."""

    run_id: RunId
    workflow: str
    version: int
    status: RunStatus
    error: Failure | None
    tags: Tags
    created_at: Timestamp
    ended_at: Timestamp | None
    retry_of: str | None = None


class RunList(Reply):
    items: list[RunItem]
    next_cursor: str | None
    index_age_ms: Annotated[int, Meta(description="0 unless the index could not catch up in time")] = 0


class RunRequest(Request):
    run_id: RunId


class RunFilter(Request):
    workflow: Annotated[Name, Meta(description="runs of this workflow")] | None = None
    status: Annotated[RunStatus, Meta(description="runs in this status")] | None = None
    tag: Annotated[Tag, Meta(description="a tag, or `name=value`")] | None = None
    since: Annotated[Timestamp, Meta(description="created at or after; RFC 3339 or a duration ago")] | None = None
    until: Annotated[Timestamp, Meta(description="created before; RFC 3339 or a duration ago")] | None = None
    prefix: Annotated[str, matching(r"^[0-9a-z]{1,28}$", "run ids that begin so")] | None = None


class RunListRequest(RunFilter):
    """Newest first."""

    limit: Limit = 50
    cursor: Cursor | None = None


class RunCountRequest(RunFilter):
    pass


class StartManyRequest(Request):
    """Start one run for each input. With `request_id` the i-th run has the request id `<request_id>/<i>`."""

    workflow: Name
    inputs: Annotated[list[Json], Meta(min_length=1, max_length=limits.START_MANY_MAX)]
    request_id: RequestId | None = None
    tags: Tags = msgspec.field(default_factory=list)
    version: Annotated[int, Meta(ge=1, description="this version instead of the current one")] | None = None


class StartedItem(Reply):
    """One start: its run, or why it was refused."""

    run_id: RunId | None
    created: bool
    error: ErrorReply | None = None


class StartManyReply(Reply):
    items: list[StartedItem]
    next_cursor: str | None = None


class EventsRequest(Request):
    """Events after a sequence; with `wait` the answer comes as soon as there is one, or when the time is over."""

    run_id: RunId
    after: Annotated[int, Meta(ge=0, description="the sequence after which to begin")] = 0
    wait_ms: Annotated[
        int, Meta(ge=0, le=limits.WATCH_WAIT_MS_MAX, description="how long to wait for news, in milliseconds")
    ] = 0
    limit: Limit = 200


class RunEvent(Reply):
    """One thing that happened. `type`: run_created, run_cancel_requested, timer_fired, step_queued, step_started,
    step_completed, step_failed, step_skipped, run_parked, run_ended (with `status`)."""

    seq: int
    type: str
    at: Timestamp
    step: str | None = None
    attempt: int | None = None
    worker_id: str | None = None
    status: str | None = None
    error: Failure | None = None
    duration_ms: int | None = None
    retry_at: Timestamp | None = None
    reason: str | None = None


class EventList(Reply):
    """`next_cursor` is null here: `after` is the sequence to ask from next; `ended` = nothing will follow."""

    items: list[RunEvent]
    next_cursor: str | None
    after: int
    ended: bool
    status: RunStatus


class OutputRequest(Request):
    """The output of a run, or of one of its steps. Read a large one from `offset` on, page by page.

    With `wait_ms` the answer comes when the run has ended, or when the time is over.
    """

    run_id: RunId
    step: Annotated[Name, Meta(description="the output of this step")] | None = None
    offset: Annotated[int, Meta(ge=0, description="where to begin in the JSON text, in bytes")] = 0
    wait_ms: Annotated[
        int, Meta(ge=0, le=limits.WATCH_WAIT_MS_MAX, description="how long to wait for the end, in milliseconds")
    ] = 0


class Output(Reply):
    """A small output stands whole in `output`. A large one comes as `chunk` (base64 of its JSON text) from `offset`;
    ask again with `next_offset` until that is null."""

    run_id: RunId
    status: RunStatus
    output: Json
    size: int
    offset: int = 0
    chunk: bytes | None = None
    next_offset: int | None = None
    error: Failure | None = None


class CancelRequest(Request):
    run_id: RunId
    reason: Annotated[str, Meta(max_length=1000, description="why; it is kept with the run")] = ""
    request_id: RequestId | None = None


class CancelReply(Reply):
    run_id: RunId
    status: RunStatus


class RetryRequest(Request):
    """Start a new run of an ended one, of the same version and input. `reuse`: take over what had completed."""

    run_id: RunId
    reuse: Annotated[bool, Meta(description="take over what had completed")] = True
    request_id: RequestId | None = None


class RetryReply(Reply):
    run_id: RunId
    retry_of: RunId
    created: bool
