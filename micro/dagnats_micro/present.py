"""What stands in the log and in the index, as callers see it. Pure; only here milliseconds become RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem
from dagnats_core.flow.durations import parse_duration
from dagnats_core.run import messages as m
from dagnats_core.run import views
from dagnats_micro.index.query import DeadLetterRow
from dagnats_micro.index.store import RunRow
from dagnats_micro.schemas import dlq, run
from dagnats_micro.schemas.common import Failure, PayloadRef

CUT_MESSAGE_CHARS = 200
"""Errors of steps are cut to this when a run with all of them would not fit a message."""

_DATE_CHARS = len("2026-11-23")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(m.ErrorInfo).decode
_decode_tags = msgspec.json.Decoder(list[str] | dict[str, str]).decode


# ---- times


def timestamp(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-11-23T12:00:00.000Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=1024)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp_or_none(ms: int) -> str | None:
    """None for 0: it has not happened."""
    return timestamp(ms) if ms else None


def time_ms(text: str, now_ms: int, path: str) -> int:
    """Milliseconds of an RFC 3339 time, or of a duration before `now_ms`. Raises Invalid naming `path`."""
    try:
        if len(text) < _DATE_CHARS or not text[:4].isdigit():
            return now_ms - parse_duration(text)
        time = datetime.fromisoformat(text)
        return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError, Invalid) as error:
        problem = Problem(path, "time", "an RFC 3339 time or a duration is wanted, as in 2026-11-23T12:00:00Z or 24h")
        raise Invalid(f"{path} {text[:80]!r} is not a time", [problem]) from error


# ---- parts


def failure(error: m.ErrorInfo | None) -> Failure | None:
    if error is None:
        return None
    details: Any = None if error.details is UNSET else error.details
    return Failure(code=error.code, message=error.message, step=error.step or None, details=details)


def payload_ref(ref: m.Ref | None) -> PayloadRef | None:
    return PayloadRef(id=ref.id, size=ref.size, sha256=ref.sha256) if ref is not None else None


def step_of(step: m.FinalStep) -> run.Step:
    return run.Step(
        id=step.id,
        task=step.task,
        status=step.status,
        attempt=step.attempt,
        worker_id=step.worker_id or None,
        error=failure(step.error),
        started_at=timestamp_or_none(step.started_at),
        ended_at=timestamp_or_none(step.ended_at),
        retry_at=timestamp_or_none(step.due),
    )


# ---- runs


def run_of(final: m.FinalRun) -> run.Run:
    """A run, whole, in a form that fits one message."""
    output = views.output_of(final)
    size = size_of(output)
    inline = isinstance(output, Raw) and size <= limits.INLINE_BYTES_MAX
    reply = run.Run(
        run_id=final.run_id,
        workflow=final.workflow,
        version=final.version,
        status=final.status,
        input=None if final.input is UNSET else final.input,
        output=output if inline else None,
        error=failure(final.error),
        steps=[step_of(step) for step in final.steps],
        tags=final.tags,
        created_at=timestamp(final.created_at),
        started_at=timestamp_or_none(final.started_at),
        ended_at=timestamp_or_none(final.ended_at),
        hash=final.hash,
        request_id=final.request_id or None,
        retry_of=final.retry_of or None,
        input_ref=payload_ref(final.input_ref),
        output_ref=payload_ref(output) if isinstance(output, m.Ref) else None,
        output_size=None if inline or output is None else size,
    )
    return _fitting(reply, size if inline else None)


def _fitting(reply: run.Run, output_size: int | None) -> run.Run:
    """`reply`, with errors of steps cut, and then values left out, as far as a message needs it."""
    if len(_encode(reply)) <= limits.MESSAGE_BYTES_MAX:
        return reply
    for step in reply.steps:
        if step.error is not None:
            step.error.message, step.error.details = step.error.message[:CUT_MESSAGE_CHARS], None
    if len(_encode(reply)) > limits.MESSAGE_BYTES_MAX:
        reply.output, reply.output_size = None, output_size or reply.output_size
    if len(_encode(reply)) > limits.MESSAGE_BYTES_MAX:
        reply.input = None
    return reply


Output = Raw | m.Ref | dict[str, m.Value] | None
"""A run's output as `views.output_of` gives it."""


def segments_of(output: Output) -> list[bytes | m.Ref]:
    """The JSON text of an output, in order, some of it still in the payload store."""
    if output is None:
        return []
    if isinstance(output, m.Ref):
        return [output]
    if isinstance(output, Raw):
        return [bytes(output)]
    segments: list[bytes | m.Ref] = []
    for step_id, value in output.items():
        segments.append(b'%s"%s":' % (b"," if segments else b"{", step_id.encode()))
        segments.append(value if isinstance(value, m.Ref) else bytes(value))
    return [*segments, b"}"]


def size_of(output: Output) -> int:
    """Bytes of an output's JSON text."""
    return sum(part.size if isinstance(part, m.Ref) else len(part) for part in segments_of(output))


def item_of(row: RunRow) -> run.RunItem:
    return run.RunItem(
        run_id=row.run_id,
        workflow=row.workflow,
        version=row.version,
        status=row.status,  # type: ignore[arg-type]
        error=failure(_decode_error(row.error)) if row.error else None,
        tags=_decode_tags(row.tags) if row.tags else [],
        created_at=timestamp(row.created_at),
        ended_at=timestamp_or_none(row.ended_at),
        retry_of=row.retry_of,
    )


def dead_letter_of(row: DeadLetterRow) -> dlq.DeadLetter:
    error = failure(_decode_error(row.error))
    assert error is not None
    return dlq.DeadLetter(
        id=row.run_id,
        kind=row.kind,  # type: ignore[arg-type]
        run_id=row.run_id,
        workflow=row.workflow,
        version=row.version,
        step=row.step,
        task=row.task,
        attempts=row.attempts,
        error=error,
        created_at=timestamp(row.at),
        replayed_by=row.replayed_by,
    )
