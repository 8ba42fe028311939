"""Logs of one run, made by hand: right ones, and ways to spoil them."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.chaos.checker import Verdict, check
from tests.chaos.history import Stored, stored
from tests.chaos.load import Acknowledged
from tests.chaos.witness import Answered, Begun, Seen

RUN = "run1"
REQUEST = "request1"
MS_PER_SEQ = 100
"""Message 3 was stored at 300 ms."""
DEPENDENCIES = {"line": {"a": [], "b": ["a"]}, "join": {"a": [], "b": [], "c": ["a", "b"]}}

Event = dict[str, Any]


def completed(step: str, attempt: int = 1, **fields: Any) -> Event:
    return {"type": "step_completed", "step": step, "attempt": attempt, **fields}


def failed(step: str, attempt: int, token: str, retry_at: int = 0) -> Event:
    error = {"code": "meant", "message": token}
    event = {"type": "step_failed", "step": step, "attempt": attempt, "error": error}
    return {**event, "retry_at": retry_at} if retry_at else event


def output(token: str) -> dict[str, Any]:
    return {"token": token}


class Story:
    """The messages of one run, and what workers saw of it. Numbers and sequences count by themselves."""

    def __init__(self, workflow: str = "line") -> None:
        self.messages: list[Stored] = []
        self.seen: list[Seen] = []
        self.acknowledged = [Acknowledged(REQUEST, RUN)]
        self.ended: set[str] = set()
        self.n = 0
        self.after = 1
        self.write("in.start", {"workflow": workflow, "request_id": REQUEST, "input": {"number": 1}})

    # ---- messages

    def write(self, path: str, body: dict[str, Any], run_id: str = RUN) -> Story:
        seq = len(self.messages) + 1
        subject = f"dagnats.local.run.0.{run_id}.{path}"
        self.messages.append(stored(seq, subject, seq * MS_PER_SEQ, msgspec.json.encode(body)))
        return self

    def out(self, path: str, body: dict[str, Any]) -> Story:
        """A decision. `n` and `after` in `body` replace what would be right."""
        self.n = body.get("n", self.n + 1)
        return self.write(path, {"n": self.n, "after": self.after, "at": self.now, **body})

    @property
    def now(self) -> int:
        return (len(self.messages) + 1) * MS_PER_SEQ

    def events(self, *events: Event, **body: Any) -> Story:
        return self.out(f"out.events.{self.n + 1}", {"events": list(events), **body})

    def task(self, step: str, given: Any, *events: Event, attempt: int = 1, at: int = 0, **body: Any) -> Story:
        task = {"step": step, "attempt": attempt, "input": given, "at": at or self.now}
        return self.out(f"out.task.chaos~work.{self.n + 1}", {"events": list(events), "task": task, **body})

    def end(self, status: str, *events: Event, outputs: dict[str, Any] | None = None, **body: Any) -> Story:
        final = {"steps": [{"id": step, "output": value} for step, value in (outputs or {}).items()]}
        whole = [*events, {"type": "run_ended", "status": status}]
        return self.out("out.ended", {"events": whole, "final": final, **body})

    def cancel(self) -> Story:
        self.write("in.cancel", {"at": self.now})
        return self

    # ---- workers

    def begun(self, step: str, token: str, attempt: int = 1, at: int = 0, worker: str = "w") -> Story:
        self.seen.append(Begun(RUN, step, attempt, worker, token, at or self.now))
        return self

    def answered(
        self, step: str, kind: str, answer: str, token: str = "", attempt: int = 1, at: int = 0, worker: str = "w"
    ) -> Story:
        self.seen.append(Answered(RUN, step, attempt, worker, kind, token, at or self.now, answer))
        return self

    # ---- what the checker says

    def verdict(self) -> Verdict:
        return check(self.messages, self.acknowledged, self.seen, DEPENDENCIES, self.ended)


def half() -> Story:
    """a is out with a worker."""
    return Story().task("a", {"number": 1}).begun("a", "ta")


def middle() -> Story:
    """a has completed, b is out with a worker."""
    return half().task("b", output("ta"), completed("a", output_in="task")).begun("b", "tb")


def whole() -> Story:
    """Both steps have completed, and so has the run."""
    return middle().end("completed", completed("b", output_in="final"), outputs={"b": output("tb")})


def waiting(retry_at: int = 0) -> Story:
    """The first attempt of a has failed."""
    return half().events(failed("a", 1, "ta", retry_at=retry_at or 1))
