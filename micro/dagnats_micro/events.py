"""What happened in a run, told from the messages of its log, or from its archived record; and pages of that. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from dagnats_core import limits
from dagnats_core.run import messages as m
from dagnats_micro.present import failure, timestamp, timestamp_or_none
from dagnats_micro.schemas.run import RunEvent, RunStatus

_encode = msgspec.json.Encoder().encode


class Page(NamedTuple):
    """Some events. `after`: the sequence to ask from next. `ended`: nothing will follow."""

    items: list[RunEvent]
    after: int
    ended: bool
    status: RunStatus


class History:
    """Grows by messages. Several events may share a sequence: a message is never split over two pages."""

    def __init__(self) -> None:
        self._groups: list[list[RunEvent]] = []
        self.last_seq = 0
        self.status: RunStatus = "pending"
        self.ended = False

    def take(self, seq: int, kind: str, data: bytes) -> bool:
        """Take in a message of the log; whether it tells anything."""
        self.last_seq = max(self.last_seq, seq)
        return self.add(events_of(seq, kind, data))

    def add(self, events: list[RunEvent]) -> bool:
        """Take in the events of one message; whether there are any."""
        for event in events:
            if event.status is not None:
                self.status = event.status  # type: ignore[assignment]
            elif self.status == "pending" and event.type.startswith("step_"):
                self.status = "running"
            self.ended = self.ended or event.type == "run_ended"
        if events:
            self._groups.append(events)
        return bool(events)

    def page(self, after: int, limit: int) -> Page:
        """What is behind the sequence `after`: a message at least, more as `limit` and a page's bytes allow."""
        items: list[RunEvent] = []
        size = 0
        for group in self._groups:
            if group[0].seq <= after:
                continue
            size += len(_encode(group))
            if items and (len(items) + len(group) > limit or size > limits.PAGE_BYTES_MAX):
                return Page(items, items[-1].seq, False, self.status)
            items += group
        return Page(items, items[-1].seq if items else after, self.ended, self.status)


# ---- how a message is told


def events_of(seq: int, kind: str, data: bytes) -> list[RunEvent]:
    """The events that one message of the run log tells; all have its sequence. None for timers and snapshots."""
    if kind == "in.start":
        return [RunEvent(seq=seq, type="run_created", at=timestamp(m.decode_start(data).at))]
    if kind == "in.cancel":
        cancel = m.decode_cancel(data)
        at = timestamp(cancel.at)
        return [RunEvent(seq=seq, type="run_cancel_requested", at=at, reason=cancel.reason or None)]
    if kind == "in.timer":
        return [RunEvent(seq=seq, type="timer_fired", at=timestamp(m.decode_timer(data).due))]
    if not kind.startswith("out.") or kind == "out.snapshot":
        return []
    decision = m.decode_decision(data)
    events = [_TOLD[type(event)](seq, decision.at, event) for event in decision.events]
    if decision.task is not None:
        task = decision.task
        events.append(
            RunEvent(seq=seq, type="step_queued", at=timestamp(task.at), step=task.step, attempt=task.attempt)
        )
    return events


def events_of_record(seq: int, final: m.FinalRun) -> list[RunEvent]:
    """What an archived record still tells: the last attempt of each step, and the end. All have the sequence `seq`."""
    events = [RunEvent(seq=seq, type="run_created", at=timestamp(final.created_at))]
    ended = [step for step in final.steps if step.ended_at and step.status in _ENDS]
    for step in sorted(ended, key=lambda step: step.ended_at):
        events.append(
            RunEvent(
                seq=seq,
                type=_ENDS[step.status],
                at=timestamp(step.ended_at),
                step=step.id,
                attempt=step.attempt or None,
                worker_id=step.worker_id or None,
                error=failure(step.error),
                duration_ms=_duration(step.started_at, step.ended_at),
            )
        )
    at = timestamp(final.ended_at)
    events.append(RunEvent(seq=seq, type="run_ended", at=at, status=final.status, error=failure(final.error)))
    return events


_ENDS = {"completed": "step_completed", "failed": "step_failed", "skipped": "step_skipped"}


def _duration(started_at: int, ended_at: int) -> int | None:
    return max(0, ended_at - started_at) if started_at and ended_at else None


def _started(seq: int, at: int, event: m.StepStarted) -> RunEvent:
    return RunEvent(
        seq=seq,
        type="step_started",
        at=timestamp(event.started_at or at),
        step=event.step,
        attempt=event.attempt,
        worker_id=event.worker_id,
    )


def _completed(seq: int, at: int, event: m.StepCompleted) -> RunEvent:
    return RunEvent(
        seq=seq,
        type="step_completed",
        at=timestamp(event.ended_at or at),
        step=event.step,
        attempt=event.attempt,
        worker_id=event.worker_id or None,
        duration_ms=_duration(event.started_at, event.ended_at),
    )


def _failed(seq: int, at: int, event: m.StepFailed) -> RunEvent:
    return RunEvent(
        seq=seq,
        type="step_failed",
        at=timestamp(event.ended_at or at),
        step=event.step,
        attempt=event.attempt,
        worker_id=event.worker_id or None,
        error=failure(event.error),
        duration_ms=_duration(event.started_at, event.ended_at),
        retry_at=timestamp_or_none(event.retry_at),
    )


def _skipped(seq: int, at: int, event: m.StepSkipped) -> RunEvent:
    return RunEvent(seq=seq, type="step_skipped", at=timestamp(at), step=event.step, reason=event.reason)


def _run_ended(seq: int, at: int, event: m.RunEnded) -> RunEvent:
    at_text = timestamp(at)
    return RunEvent(seq=seq, type="run_ended", at=at_text, status=event.status, error=failure(event.error))


def _run_parked(seq: int, at: int, event: m.RunParked) -> RunEvent:
    at_text = timestamp(at)
    return RunEvent(seq=seq, type="run_parked", at=at_text, status="paused", error=failure(event.error))


_TOLD: dict[type, Callable[[int, int, Any], RunEvent]] = {
    m.StepStarted: _started,
    m.StepCompleted: _completed,
    m.StepFailed: _failed,
    m.StepSkipped: _skipped,
    m.RunEnded: _run_ended,
    m.RunParked: _run_parked,
}
"""The one table of how an event is told."""
