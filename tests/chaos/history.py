"""One run's messages, read as the wire's rules say: what happened, and what of it cannot have happened.

A message of a subject that was written before takes the place of the earlier one, so a second writer shows as numbers
that are out of order, missing, or doubled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tests.chaos.witness import token_of


class Stored(NamedTuple):
    """A message of the run log: `path` is the subject behind the run id, `in.start` or `out.task.t.3`."""

    seq: int
    run_id: str
    path: str
    time_ms: int
    data: bytes


def stored(seq: int, subject: str, time_ms: int, data: bytes) -> Stored:
    tokens = subject.split(".", 5)
    return Stored(seq, tokens[4], tokens[5], time_ms, data)


class History:
    """What the messages of one run say, in the order of the log."""

    def __init__(self, messages: Sequence[Stored], dependencies: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self.problems: list[str] = []
        self.paths = [message.path for message in messages]
        self.started = "in.start" in self.paths
        self.ended = False
        self.request_id = ""
        self.queued_at: dict[tuple[str, int], int] = {}
        """By step and attempt: when the task was stored."""
        self.outcomes: dict[tuple[str, int], tuple[str, str]] = {}
        """By step and attempt: what became of it, and of which execution that is the outcome (empty: of none)."""
        self.started_steps: set[tuple[str, int]] = set()
        self._over_at: dict[tuple[str, int], int] = {}
        self._ended_at: int | None = None
        self._n = 0
        self._after = 0
        self._attempts: dict[str, int] = {}
        self._retry_at: dict[str, int] = {}
        self._outputs: dict[str, Any] = {}
        self._cancel_seq: int | None = None
        if not self.started:
            self.problems.append("messages of a run that has no start")
            return
        start = next(message for message in messages if message.path == "in.start")
        self._start = msgspec.json.decode(start.data)
        self._needs = dependencies[self._start["workflow"]]
        self.request_id = self._start.get("request_id", "")
        for message in messages:
            if message.path == "in.cancel":
                self._cancel_seq = message.seq
            elif message.path.startswith("out."):
                self._read(message)

    def over_at(self, step: str, attempt: int) -> int | None:
        """When the end of this attempt, or of the run, was stored; None if neither was."""
        ends = [at for at in (self._over_at.get((step, attempt)), self._ended_at) if at is not None]
        return min(ends, default=None)

    # ---- one message

    def _read(self, message: Stored) -> None:
        body = msgspec.json.decode(message.data)
        where = f"{message.path}@{message.seq}"
        if self.ended:
            self._wrong(f"{where} after the end")
        if body["n"] != self._n + 1:
            self._wrong(f"{where} is number {body['n']} after number {self._n}")
        if not self._after <= body["after"] < message.seq:
            self._wrong(f"{where} knows inputs up to {body['after']}, the one before up to {self._after}")
        self._n, self._after = body["n"], body["after"]
        for event in body.get("events", []):
            self._event(event, body, message)
        if (task := body.get("task")) is not None:
            self._task(task, message)
        if message.path == "out.ended":
            self.ended = True
            self._ended_at = message.time_ms

    def _event(self, event: dict[str, Any], body: dict[str, Any], message: Stored) -> None:
        kind = event["type"]
        if kind in ("step_completed", "step_failed"):
            self._outcome(event, body, message)
        elif kind == "step_started":
            self._of_current(event)
            self.started_steps.add((event["step"], event["attempt"]))
        elif kind == "run_ended":
            self._run_ended(event)
        else:
            self._wrong(f"{kind}, which no run here calls for: {event}")

    def _outcome(self, event: dict[str, Any], body: dict[str, Any], message: Stored) -> None:
        step, attempt = event["step"], event["attempt"]
        kind = event["type"].removeprefix("step_")
        self._of_current(event)
        output = _output(event, body) if kind == "completed" else None
        self.outcomes[step, attempt] = (kind, token_of(output, event.get("error")))
        self._over_at.setdefault((step, attempt), message.time_ms)
        if kind == "completed":
            self._outputs[step] = output
        elif "retry_at" in event:
            self._retry_at[step] = event["retry_at"]

    def _of_current(self, event: dict[str, Any]) -> None:
        """It speaks of the attempt that is out."""
        step, attempt = event["step"], event["attempt"]
        what = f"{event['type']} of {step}.{attempt}"
        if self._attempts.get(step) != attempt:
            self._wrong(f"{what}; handed out was {step}.{self._attempts.get(step)}")
        if (step, attempt) in self._over_at:
            self._wrong(f"{what}, whose outcome was {self.outcomes[step, attempt]}")
        if step in self._outputs:
            self._wrong(f"{what}, which had completed")

    def _run_ended(self, event: dict[str, Any]) -> None:
        status = event["status"]
        if status == "cancelled" and (self._cancel_seq is None or self._cancel_seq > self._after):
            self._wrong("cancelled, and nobody had asked for it")
        if status == "completed" and (left := sorted(self._needs.keys() - self._outputs.keys())):
            self._wrong(f"completed without {left}")
        if status == "failed":
            self._wrong(f"failed, which no run here has a reason for: {event.get('error')}")

    def _task(self, task: dict[str, Any], message: Stored) -> None:
        step, attempt = task["step"], task["attempt"]
        what = f"{step}.{attempt} handed out"
        before = self._attempts.get(step, 0)
        if attempt != before + 1:
            self._wrong(f"{what} after {step}.{before}")
        if before and (step, before) not in self._over_at:
            self._wrong(f"{what} while {step}.{before} was out")
        if step in self._outputs:
            self._wrong(f"{what}, which had completed")
        if task["at"] < self._retry_at.pop(step, 0):
            self._wrong(f"{what} before its delay was over")
        if missing := [need for need in self._needs[step] if need not in self._outputs]:
            self._wrong(f"{what} before {missing} completed")
        elif len(self._needs[step]) < 2:
            given = self._outputs[self._needs[step][0]] if self._needs[step] else self._start["input"]
            if task.get("input") != given:
                self._wrong(f"{what} with the input {task.get('input')}, which should be {given}")
        self._attempts[step] = attempt
        self.queued_at[step, attempt] = message.time_ms

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)


def _output(event: dict[str, Any], body: dict[str, Any]) -> Any:
    """The output of a completion, which stands once in its message: in the event, the task, or the final record."""
    where = event.get("output_in", "")
    if where == "task":
        return body["task"].get("input")
    if where == "final":
        return next(step.get("output") for step in body["final"]["steps"] if step["id"] == event["step"])
    return event.get("output")
