"""Requests and replies of `worker`: how a worker gets its queues, and who works."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from dagnats_core import ids
from dagnats_micro.schemas.common import Cursor, Limit, Name, Reply, Request, TaskName, Timestamp, matching

WorkerId = Annotated[str, matching(ids.NAME_PATTERN)]


class TaskType(Request):
    task: TaskName
    group: Name | None = None
    max_concurrent: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class ConnectRequest(Request):
    """Ask for the queues of these task types; they are made when they do not exist."""

    worker_id: WorkerId
    tasks: Annotated[list[TaskType], Meta(min_length=1, max_length=256)]


class Queue(Reply):
    """One consumer to pull from. There is one a shard for each task type and group."""

    task: str
    group: str | None
    token: str
    stream: str
    consumer: str
    domain: str | None


class ConnectReply(Reply):
    site: str
    queues: list[Queue]
    ack_wait_ms: int
    max_ack_pending: int
    deliveries_before_lost: int
    claim_after_ms: int
    inline_bytes_max: int
    payload_chunk_bytes_max: int
    version: str


class BeatRequest(Request):
    """Say that the worker lives. `stopping` takes it off the list."""

    worker_id: WorkerId
    tasks: Annotated[list[TaskType], Meta(max_length=256)]
    running: Annotated[int, Meta(ge=0)] = 0
    max_concurrent: Annotated[int, Meta(ge=1)] = 1
    hostname: Annotated[str, Meta(max_length=256)] = ""
    pid: Annotated[int, Meta(ge=0)] = 0
    language: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[str, Meta(max_length=64)] = ""
    started_at: Annotated[str, Meta(max_length=64)] = ""
    stopping: bool = False


class BeatReply(Reply):
    worker_id: str


class WorkerListRequest(Request):
    task: Annotated[TaskName, Meta(description="workers that work on this task")] | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class WorkerItem(Reply):
    worker_id: str
    tasks: list[str]
    running: int
    max_concurrent: int
    hostname: str
    pid: int
    language: str
    version: str
    started_at: Timestamp | None
    last_seen: Timestamp


class WorkerList(Reply):
    items: list[WorkerItem]
    next_cursor: str | None
