"""Replies as the API gives them."""

from __future__ import annotations

from dagnats_micro.schemas import run, wf

RUN_ID = "0" * 28
AT = "2026-11-23T10:00:00.000Z"


def started(*, created: bool = True) -> wf.StartReply:
    return wf.StartReply(run_id=RUN_ID, workflow="greet", version=1, status="pending", created=created, created_at=AT)


def workflow(name: str) -> wf.Workflow:
    return wf.Workflow(name=name, version=1, hash="h", label="", current=True, created_at=AT, definition={"name": name})


def registered(*, created: bool = True) -> wf.RegisterReply:
    return wf.RegisterReply(name="greet", version=1, hash="h", created=created, current=True, warnings=[])


def event(seq: int, kind: str = "step_queued") -> run.RunEvent:
    return run.RunEvent(seq=seq, type=kind, at=AT)


def events(*items: run.RunEvent, after: int, ended: bool = False) -> run.EventList:
    status: run.RunStatus = "completed" if ended else "running"
    return run.EventList(items=list(items), next_cursor=None, after=after, ended=ended, status=status)
