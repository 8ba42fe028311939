"""Requests and replies of `dlq`: what failed for good, with its cause."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from dagnats_micro.schemas.common import (
    Cursor,
    Failure,
    Limit,
    Name,
    Reply,
    Request,
    RequestId,
    RunId,
    Timestamp,
)


class DeadLetterListRequest(Request):
    """Newest first. Dead letters that were replayed are left out unless `replayed`."""

    workflow: Annotated[Name, Meta(description="of this workflow")] | None = None
    run_id: RunId | None = None
    replayed: Annotated[bool, Meta(description="also those that were replayed")] = False
    limit: Limit = 50
    cursor: Cursor | None = None


class DeadLetter(Reply):
    """`failed`: a step used up its attempts, or the run's timeout passed. `parked`: the engine could not decide."""

    id: str
    kind: Literal["failed", "parked"]
    run_id: RunId
    workflow: str
    version: int
    step: str | None
    task: str | None
    attempts: int
    error: Failure
    created_at: Timestamp
    replayed_by: RunId | None = None


class DeadLetterList(Reply):
    items: list[DeadLetter]
    next_cursor: str | None


class ReplayRequest(Request):
    """Start a new run (`retry_of`) seeded with what had completed. `id` is that of the dead letter (its run id)."""

    id: RunId
    request_id: RequestId | None = None


class ReplayReply(Reply):
    run_id: RunId
    retry_of: RunId
    created: bool
