"""Requests and replies of `wf`: definitions and starts."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dagnats_micro.schemas.common import (
    Cursor,
    Json,
    Limit,
    Name,
    PayloadRef,
    Problem,
    Reply,
    Request,
    RequestId,
    RunId,
    Tags,
    Timestamp,
)


class RegisterRequest(Request):
    """Register a definition. `by: worker` adds unknown content but never points `current` back to known content."""

    definition: Annotated[Json, Meta(description="a definition as a JSON object, or as text in YAML or JSON")]
    by: Literal["user", "worker"] = "user"
    request_id: RequestId | None = None


class Warning(Reply):
    code: str
    path: str
    message: str


class RegisterReply(Reply):
    name: str
    version: int
    hash: str
    created: Annotated[bool, Meta(description="false: this content was known already")]
    current: Annotated[bool, Meta(description="new runs use this version")]
    warnings: list[Warning]


class ValidateRequest(Request):
    definition: Json


class ValidateReply(Reply):
    valid: bool
    problems: list[Problem]
    warnings: list[Warning]


class WorkflowListRequest(Request):
    limit: Limit = 50
    cursor: Cursor | None = None


class WorkflowItem(Reply):
    name: str
    version: int
    hash: str
    label: Annotated[str, Meta(description="the definition's own `version` text")]
    steps: int
    created_at: Timestamp


class WorkflowList(Reply):
    items: list[WorkflowItem]
    next_cursor: str | None


class WorkflowRequest(Request):
    name: Name
    version: Annotated[int, Meta(ge=1, description="this version instead of the current one")] | None = None


class Workflow(Reply):
    name: str
    version: int
    hash: str
    label: str
    current: bool
    created_at: Timestamp
    definition: Json


class VersionsRequest(Request):
    name: Name
    limit: Limit = 50
    cursor: Cursor | None = None


class VersionItem(Reply):
    version: int
    hash: str
    label: str
    current: bool
    created_at: Timestamp


class VersionList(Reply):
    items: list[VersionItem]
    next_cursor: str | None


class DeleteRequest(Request):
    name: Name
    request_id: RequestId | None = None


class DeleteReply(Reply):
    name: str
    deleted: bool


class StartRequest(Request):
    """Start a run. With `request_id` the run id follows from workflow and request id."""

    workflow: Name
    input: Json = None
    input_ref: PayloadRef | None = None
    request_id: RequestId | None = None
    tags: Tags = msgspec.field(default_factory=list)
    version: Annotated[int, Meta(ge=1, description="this version instead of the current one")] | None = None


class StartReply(Reply):
    run_id: RunId
    workflow: str
    version: int
    status: str
    created: Annotated[bool, Meta(description="false: this request id had started the run already")]
    created_at: Timestamp
