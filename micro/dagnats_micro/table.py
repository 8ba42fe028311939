"""The endpoint table: the one source of every front door. A new operation is one row here and one handler."""

from __future__ import annotations

from typing import Any

from dagnats_micro.endpoint import Cli, Endpoint, Http
from dagnats_micro.schemas import dlq, payload, run, system, wf, worker
from dagnats_micro.schemas.common import Count, Empty

WF_REGISTER = Endpoint(
    "wf", "register", "Register a definition; the same content is the same version",
    wf.RegisterRequest, wf.RegisterReply, Http("POST", "/workflows", 201, body="definition"),
    Cli(("definition",)), ("too_large", "conflict"), mutating=True, role="operator",
)  # fmt: skip
WF_LIST = Endpoint(
    "wf", "list", "List workflows by name",
    wf.WorkflowListRequest, wf.WorkflowList, Http("GET", "/workflows"),
    Cli((), ("name", "version", "label", "steps", "created_at")),
)  # fmt: skip
WF_GET = Endpoint(
    "wf", "get", "Show a workflow's current version, or a given one",
    wf.WorkflowRequest, wf.Workflow, Http("GET", "/workflows/{name}"), Cli(("name",)), ("not_found",),
)  # fmt: skip
WF_VERSIONS = Endpoint(
    "wf", "versions", "List the versions of a workflow, newest first",
    wf.VersionsRequest, wf.VersionList, Http("GET", "/workflows/{name}/versions"),
    Cli(("name",), ("version", "hash", "label", "current", "created_at")), ("not_found",),
)  # fmt: skip
WF_VALIDATE = Endpoint(
    "wf", "validate", "Check a definition and report every problem at once, without registering it",
    wf.ValidateRequest, wf.ValidateReply, Http("POST", "/workflows/validate", body="definition"),
    Cli(("definition",)), ("too_large",),
)  # fmt: skip
WF_DELETE = Endpoint(
    "wf", "delete", "Delete a workflow; runs in flight go on",
    wf.DeleteRequest, wf.DeleteReply, Http("DELETE", "/workflows/{name}"),
    Cli(("name",)), ("not_found", "conflict"), mutating=True, role="operator",
)  # fmt: skip
WF_START = Endpoint(
    "wf", "start", "Start a run",
    wf.StartRequest, wf.StartReply, Http("POST", "/runs", 201),
    Cli(("workflow",)), ("not_found", "conflict", "too_large", "storage_full"), mutating=True, role="operator",
)  # fmt: skip

RUN_START_MANY = Endpoint(
    "run", "start-many", "Start one run for each of many inputs",
    run.StartManyRequest, run.StartManyReply, Http("POST", "/runs/bulk", 201),
    Cli(("workflow",), ("run_id", "created", "error")), ("not_found", "too_large", "storage_full"),
    mutating=True, role="operator",
)  # fmt: skip
RUN_GET = Endpoint(
    "run", "get", "Show a run with its steps",
    run.RunRequest, run.Run, Http("GET", "/runs/{run_id}"), Cli(("run_id",)), ("not_found",),
)  # fmt: skip
RUN_LIST = Endpoint(
    "run", "list", "List runs, newest first",
    run.RunListRequest, run.RunList, Http("GET", "/runs"),
    Cli((), ("run_id", "workflow", "version", "status", "created_at", "ended_at")),
)  # fmt: skip
RUN_COUNT = Endpoint(
    "run", "count", "Count runs", run.RunCountRequest, Count, Http("GET", "/runs/count"),
)  # fmt: skip
RUN_EVENTS = Endpoint(
    "run", "events", "Read what happened in a run, or wait for what happens next",
    run.EventsRequest, run.EventList, Http("GET", "/runs/{run_id}/events"),
    Cli(("run_id",)), ("not_found",),
)  # fmt: skip
RUN_OUTPUT = Endpoint(
    "run", "output", "Read the output of a run or of one of its steps",
    run.OutputRequest, run.Output, Http("GET", "/runs/{run_id}/output"), Cli(("run_id",)), ("not_found",),
)  # fmt: skip
RUN_CANCEL = Endpoint(
    "run", "cancel", "Cancel a run; its handlers are told",
    run.CancelRequest, run.CancelReply, Http("POST", "/runs/{run_id}/cancel"),
    Cli(("run_id",)), ("not_found", "conflict", "storage_full"), mutating=True, role="operator",
)  # fmt: skip
RUN_RETRY = Endpoint(
    "run", "retry", "Start a new run of an ended one, taking over what had completed",
    run.RetryRequest, run.RetryReply, Http("POST", "/runs/{run_id}/retry", 201),
    Cli(("run_id",)), ("not_found", "conflict", "storage_full"), mutating=True, role="operator",
)  # fmt: skip

DLQ_LIST = Endpoint(
    "dlq", "list", "List dead letters: what failed for good, and why",
    dlq.DeadLetterListRequest, dlq.DeadLetterList, Http("GET", "/dlq"),
    Cli((), ("id", "kind", "workflow", "step", "attempts", "error", "created_at")),
)  # fmt: skip
DLQ_REPLAY = Endpoint(
    "dlq", "replay", "Run a dead letter again, from where it failed",
    dlq.ReplayRequest, dlq.ReplayReply, Http("POST", "/dlq/{id}/replay", 201),
    Cli(("id",)), ("not_found", "conflict", "storage_full"), mutating=True, role="operator",
)  # fmt: skip

WORKER_CONNECT = Endpoint(
    "worker", "connect", "Get the queues of task types",
    worker.ConnectRequest, worker.ConnectReply, Http("POST", "/workers/connect"), None, mutating=True, role="worker",
)  # fmt: skip
WORKER_BEAT = Endpoint(
    "worker", "beat", "Say that a worker lives",
    worker.BeatRequest, worker.BeatReply, Http("POST", "/workers/{worker_id}/beat"), None, mutating=True, role="worker",
)  # fmt: skip
WORKER_LIST = Endpoint(
    "worker", "list", "List the workers that live",
    worker.WorkerListRequest, worker.WorkerList, Http("GET", "/workers"),
    Cli((), ("worker_id", "tasks", "running", "max_concurrent", "hostname", "last_seen")),
)  # fmt: skip

PAYLOAD_PUT = Endpoint(
    "payload", "put", "Store a chunk of a large value",
    payload.PutRequest, payload.PutReply, Http("PUT", "/payloads/{id}/{index}"), None,
    ("too_large", "conflict", "storage_full"), mutating=True, role="worker",
)  # fmt: skip
PAYLOAD_GET = Endpoint(
    "payload", "get", "Read a chunk of a large value",
    payload.GetRequest, payload.GetReply, Http("GET", "/payloads/{id}/{index}"), None, ("not_found",), role="worker",
)  # fmt: skip

SYSTEM_INFO = Endpoint(
    "system", "info", "Say which site this is and what it guarantees", Empty, system.Info, Http("GET", "/system/info"),
)  # fmt: skip
SYSTEM_HEALTH = Endpoint(
    "system", "health", "Say how each component is", Empty, system.Health, Http("GET", "/system/health"),
    Cli((), ("name", "status", "cause")),
)  # fmt: skip

ENDPOINTS: tuple[Endpoint[Any, Any], ...] = (
    WF_REGISTER, WF_LIST, WF_GET, WF_VERSIONS, WF_VALIDATE, WF_DELETE, WF_START,
    RUN_START_MANY, RUN_GET, RUN_LIST, RUN_COUNT, RUN_EVENTS, RUN_OUTPUT, RUN_CANCEL, RUN_RETRY,
    DLQ_LIST, DLQ_REPLAY, WORKER_CONNECT, WORKER_BEAT, WORKER_LIST, PAYLOAD_PUT, PAYLOAD_GET,
    SYSTEM_INFO, SYSTEM_HEALTH,
)  # fmt: skip
"""Every operation, in the order in which documents list them."""

BY_NAME: dict[str, Endpoint[Any, Any]] = {endpoint.name: endpoint for endpoint in ENDPOINTS}
