"""A run as its watcher knows it: the steps, moved on by events. Pure; times are seconds since the Unix epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dagnats_cli.render import parse_time
from dagnats_micro.schemas import run
from dagnats_micro.schemas.common import Failure

ENDED = frozenset({"completed", "failed", "skipped", "cancelled"})
_NEWS = ("running", "waiting", "queued", "failed", "cancelled", "completed", "skipped", "pending")
"""Which steps are shown when not all fit, the most interesting first."""


@dataclass
class StepLine:
    """One step. `since` is when its status began, `took_s` how long its last attempt worked."""

    id: str
    task: str
    status: str
    attempt: int
    since: float | None = None
    took_s: float | None = None
    retry_at: float | None = None
    error: Failure | None = None

    def elapsed_s(self, now: float) -> float | None:
        """How long it took, or how long it is in its status already."""
        if self.took_s is not None:
            return self.took_s
        if self.status in ("queued", "running") and self.since is not None:
            return max(0.0, now - self.since)
        return None


class Progress:
    """The state of one watched run. Starts from `run.get`; an event that it knows already changes nothing."""

    def __init__(self, view: run.Run) -> None:
        self.run_id = view.run_id
        self.title = f"{view.workflow} v{view.version}"
        self.created = parse_time(view.created_at).timestamp()
        self.parked = False
        self.steps: dict[str, StepLine] = {}
        self.set(view)

    def set(self, view: run.Run) -> None:
        """Take over what `run.get` says."""
        self.status: str = view.status
        self.ended = _seconds(view.ended_at)
        self.error = view.error
        for step in view.steps:
            started, ended = _seconds(step.started_at), _seconds(step.ended_at)
            took_s = ended - started if started is not None and ended is not None else None
            self.steps[step.id] = StepLine(
                step.id, step.task, step.status, step.attempt, started, took_s, _seconds(step.retry_at), step.error
            )

    def apply(self, event: run.RunEvent) -> None:
        """Move on by one event."""
        if event.type == "run_ended":
            self.status = event.status or self.status
            self.ended, self.error = parse_time(event.at).timestamp(), event.error
        elif event.type == "run_parked":
            self.status, self.error, self.parked = "paused", event.error, True
        line = self.steps.get(event.step or "")
        if line is None:
            return
        if self.status == "pending":
            self.status = "running"
        at = parse_time(event.at).timestamp()
        attempt = event.attempt or line.attempt
        if attempt < line.attempt:
            return
        match event.type:
            case "step_queued":
                if attempt > line.attempt or line.status in ("pending", "waiting", "queued"):
                    line.status, line.since, line.took_s, line.retry_at = "queued", at, None, None
            case "step_started":
                if line.status not in ENDED:
                    line.status, line.since, line.took_s = "running", at, None
            case "step_completed":
                line.status, line.error, line.retry_at = "completed", None, None
                line.took_s = _took(event)
            case "step_failed":
                line.status = "failed" if event.retry_at is None else "waiting"
                line.error, line.retry_at, line.took_s = event.error, _seconds(event.retry_at), _took(event)
            case "step_skipped":
                line.status = "skipped"
            case _:
                pass
        line.attempt = attempt

    def counts(self) -> Counter[str]:
        """How many steps there are of each status."""
        return Counter(line.status for line in self.steps.values())

    def errors(self) -> int:
        """How many steps have an error to show."""
        return sum(line.error is not None for line in self.steps.values())

    def shown(self, room: int) -> list[StepLine]:
        """The `room` steps that say most, in the definition's order."""
        lines = list(self.steps.values())
        if len(lines) <= room:
            return lines
        order = sorted(range(len(lines)), key=lambda index: _NEWS.index(lines[index].status))
        return [lines[index] for index in sorted(order[:room])]


def _took(event: run.RunEvent) -> float | None:
    return None if event.duration_ms is None else event.duration_ms / 1000


def _seconds(timestamp: str | None) -> float | None:
    return None if timestamp is None else parse_time(timestamp).timestamp()
