"""What workers saw, written by themselves into files: each start of a handler, each answer to a report.

A line is on its way to the file before the worker goes on, so a killed worker has told everything that it did, but for
the very last thing. The checker holds these files against the log. Nothing here knows the engine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from dagnats.worker.reporter import Reporter, Sending
from dagnats_core.run.messages import ReportAnswer


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """A handler started. `token` is unique to this execution, and stands in its outcome."""

    run_id: str
    step: str
    attempt: int
    worker: str
    token: str
    at: int


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """A report was answered. `asked_at`: before it was first sent. `token`: of the outcome, if it is one."""

    run_id: str
    step: str
    attempt: int
    worker: str
    kind: str
    token: str
    asked_at: int
    answer: str


Seen = Begun | Answered
_decode = msgspec.json.Decoder(Seen).decode


def now_ms() -> int:
    """Milliseconds since 1970: the clock of nats-server too, which runs on this machine."""
    return time.time_ns() // 1_000_000


class Witness:
    """Writes what one worker process sees."""

    def __init__(self, directory: Path) -> None:
        self.worker = str(os.getpid())
        path = directory / f"{self.worker}-{now_ms()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, seen: Seen) -> None:
        os.write(self._file, msgspec.json.encode(seen) + b"\n")

    def listen(self) -> None:
        """Note every answer that a report of this process gets from now on."""
        send, witness = Reporter.send, self

        def noting(self: Reporter, subject: str, body: bytes, done: Callable[[ReportAnswer], None]) -> Sending:
            asked_at = now_ms()

            def on_answer(answer: ReportAnswer) -> None:
                witness.note(witness._answered(subject, body, asked_at, answer))
                done(answer)

            return send(self, subject, body, on_answer)

        Reporter.send = noting  # type: ignore[method-assign]

    def _answered(self, subject: str, body: bytes, asked_at: int, answer: ReportAnswer) -> Answered:
        *_, run_id, step = subject.split(".")
        report = msgspec.json.decode(body)
        token = token_of(report.get("output"), report.get("error"))
        return Answered(run_id, step, report["attempt"], self.worker, report["kind"], token, asked_at, answer.answer)


def token_of(output: object, error: object) -> str:
    """The execution that an outcome came from; empty if no handler of ours made it."""
    if isinstance(output, dict):
        return str(output.get("token", ""))
    if isinstance(error, dict) and error.get("code") == "meant":
        return str(error["message"])
    return ""


def read_all(directory: Path) -> list[Seen]:
    """All that all workers have seen, in the order of each."""
    lines = [line for path in sorted(directory.iterdir()) for line in path.read_bytes().splitlines(keepends=True)]
    return [_decode(line) for line in lines if line.endswith(b"\n")]
