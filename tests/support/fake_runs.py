"""Runs for `FakeApi`: a test says what happens in them, watchers see it by `run.get` and `run.events`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from dagnats_core.errors import NotFound
from dagnats_micro.schemas import run, wf
from dagnats_micro.schemas.common import Failure
from tests.support.fake_api import FakeApi


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FakeRun:
    """One run. `tell` adds an event, and moves steps and status as the event says."""

    def __init__(self, run_id: str, workflow: str, steps: dict[str, str]) -> None:
        nothing: dict[str, Any] = {"worker_id": None, "error": None, "started_at": None, "ended_at": None}
        self.view = run.Run(
            run_id=run_id, workflow=workflow, version=1, status="pending", input=None, output=None, error=None,
            steps=[run.Step(id=id, task=task, status="pending", attempt=0, **nothing) for id, task in steps.items()],
            tags=[], created_at=timestamp(), started_at=None, ended_at=None,
        )  # fmt: skip
        self.events: list[run.RunEvent] = []
        self.outputs: dict[str | None, Any] = {}
        self.watched = asyncio.Event()
        """Set when somebody asks for its events."""
        self._news = asyncio.Condition()

    async def tell(self, type: str, step: str | None = None, **fields: Any) -> None:
        event = run.RunEvent(seq=len(self.events) + 1, type=type, at=timestamp(), step=step, **fields)
        self.events.append(event)
        self._move(event)
        async with self._news:
            self._news.notify_all()

    async def end(self, output: Any = None, error: Failure | None = None, status: str = "") -> None:
        """End it as completed with `output`, or as failed with `error`."""
        self.outputs[None] = output
        self.view = msgspec.structs.replace(self.view, output=output, ended_at=timestamp(), error=error)
        await self.tell("run_ended", status=status or ("failed" if error else "completed"), error=error)

    def _move(self, event: run.RunEvent) -> None:
        status: Any = event.status or "running"
        self.view = msgspec.structs.replace(self.view, status=status)
        after = {"step_queued": "queued", "step_started": "running", "step_completed": "completed"}
        after |= {"step_skipped": "skipped", "step_failed": "waiting" if event.retry_at else "failed"}
        for step in self.view.steps:
            if step.id == event.step:
                moved: Any = after[event.type]
                step.status, step.attempt, step.error = moved, event.attempt or step.attempt, event.error
                if moved in ("completed", "failed"):
                    step.started_at, step.ended_at = step.started_at or event.at, event.at
                elif moved == "running":
                    step.started_at = event.at

    async def events_after(self, request: run.EventsRequest) -> run.EventList:
        self.watched.set()
        async with self._news:
            try:
                wait_s = request.wait_ms / 1000
                await asyncio.wait_for(
                    self._news.wait_for(lambda: len(self.events) > request.after or self.ended), wait_s
                )
            except TimeoutError:
                pass
        items = self.events[request.after :]
        after = items[-1].seq if items else request.after
        return run.EventList(items=items, next_cursor=None, after=after, ended=self.ended, status=self.view.status)

    @property
    def ended(self) -> bool:
        return self.view.ended_at is not None


class FakeRuns:
    """Answers `run-get`, `run-events`, `run-list`, `run-output` and `wf-start` of a `FakeApi` from the runs put in."""

    def __init__(self, api: FakeApi) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.next: list[FakeRun] = []
        api.answers |= {
            "run-get": lambda request: self._one(request.run_id).view,
            "run-events": lambda request: self._one(request.run_id).events_after(request),
            "run-output": self._output,
            "run-list": self._list,
            "wf-start": self._start,
        }

    def add(self, made: FakeRun) -> FakeRun:
        self.runs[made.view.run_id] = made
        return made

    def start_next(self, made: FakeRun) -> FakeRun:
        """The run that the next `wf.start` starts."""
        self.next.append(made)
        return made

    def _one(self, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise NotFound(f"no run {run_id}")
        return self.runs[run_id]

    def _start(self, request: wf.StartRequest) -> wf.StartReply:
        if not self.next:
            raise NotFound(f"no workflow {request.workflow}")
        view = self.add(self.next.pop(0)).view
        return wf.StartReply(
            run_id=view.run_id, workflow=request.workflow, version=1, status=view.status, created=True,
            created_at=view.created_at,
        )  # fmt: skip

    def _list(self, request: run.RunListRequest) -> run.RunList:
        fitting = [one.view for id, one in self.runs.items() if id.startswith(request.prefix or "")]
        items = [msgspec.convert(view, run.RunItem, from_attributes=True) for view in reversed(fitting)]
        more = "next" if len(items) > request.limit else None
        return run.RunList(items=items[: request.limit], next_cursor=more)

    def _output(self, request: run.OutputRequest) -> run.Output:
        found = self._one(request.run_id)
        data = msgspec.json.encode(found.outputs.get(request.step))
        base: dict[str, Any] = {"run_id": request.run_id, "status": found.view.status, "size": len(data)}
        if len(data) <= 1000:
            return run.Output(output=msgspec.json.decode(data), error=found.view.error, **base)
        chunk = data[request.offset : request.offset + 1000]
        after = request.offset + len(chunk)
        following = after if after < len(data) else None
        return run.Output(output=None, offset=request.offset, chunk=chunk, next_offset=following, **base)
