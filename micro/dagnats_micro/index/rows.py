"""What the index knows of a run, from the messages that say it; and the rows that wait to be written. Pure.

Only run-level messages are read, so a run is `running` from its start until it ends or is parked: `pending` (not yet
taken up by an engine, a matter of milliseconds) cannot be told from it here.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from dagnats_core import limits
from dagnats_core.run import messages as m
from dagnats_micro.index.store import DeadRow, RunRow

LIVE = "running"
LIST_MESSAGE_CHARS_MAX = 300
"""An error's text is cut here in the rows of lists; the run itself has all of it."""
_COPIED_FROM = b"\r\nNats-Stream-Source: "
"""The server's header of a sourced message: stream, sequence, filter, transform, origin subject, the source's hash."""


class _Start(msgspec.Struct):
    at: int
    workflow: str
    version: int
    tags: Raw | UnsetType = UNSET
    retry_of: str = ""


class _Final(msgspec.Struct):
    workflow: str
    version: int
    status: str
    created_at: int
    ended_at: int
    error: m.ErrorInfo | None = None
    tags: Raw | UnsetType = UNSET
    retry_of: str = ""


class _Ended(msgspec.Struct):
    final: _Final | None = None
    final_ref: m.Ref | None = None


_decode_start = msgspec.json.Decoder(_Start).decode
_decode_ended = msgspec.json.Decoder(_Ended).decode


class Copy(NamedTuple):
    """An archived end: its run, its sequence in the archive, and the one that it had in the run log."""

    run_id: str
    seq: int
    ended_seq: int


class Rows:
    """Rows by run id, the last word of each; and how far each stream has been read."""

    def __init__(self, positions: dict[str, int]) -> None:
        self.runs: dict[str, RunRow] = {}
        self.dead: dict[str, DeadRow] = {}
        self.archived: dict[str, int] = {}
        self.large: list[tuple[m.Ref, int | None]] = []
        """Final records that stand in the payload store, with their archive sequence if that is known."""
        self.positions = positions

    def __len__(self) -> int:
        return len(self.runs) + len(self.archived)

    def take_message(self, stream: str, subject: str, seq: int, data: bytes) -> str | None:
        """A message of the run log: `in.start`, `out.ended` or `out.parked`. The run's id if it has ended."""
        self.positions[stream] = seq
        tokens = subject.split(".")
        run_id, kind = tokens[4], tokens[6]
        if kind == "start":
            if run_id not in self.runs:
                start = _decode_start(data)
                tags = _text(start.tags)
                self.runs[run_id] = RunRow(
                    run_id,
                    start.workflow,
                    start.version,
                    LIVE,
                    start.at,
                    0,
                    None,
                    tags,
                    start.retry_of or None,
                )
        elif kind == "ended":
            self.take_end(run_id, data, self.archived.pop(run_id, None))
            return run_id
        else:
            self._park(run_id, m.decode_decision(data))
        return None

    def take_copy(self, stream: str, copy: Copy) -> None:
        """An archived end of which only the headers were read."""
        self.positions[stream] = copy.seq
        row = self.runs.get(copy.run_id)
        if row is not None and row.ended_at:
            row.archive_seq = copy.seq
        else:
            self.archived[copy.run_id] = copy.seq

    def take_end(self, run_id: str, data: bytes, archive_seq: int | None) -> None:
        """The body of `out.ended`, from the log or from the archive."""
        ended = _decode_ended(data)
        if ended.final is None:
            if ended.final_ref is not None:
                self.large.append((ended.final_ref, archive_seq))
            return
        if ended.final.status == "failed":
            final = m.decode_decision(data).final
            assert final is not None
            self.dead[run_id] = _dead_of(run_id, final)
        else:
            self.dead.pop(run_id, None)
        self._end(run_id, ended.final, archive_seq)

    def take_final(self, final: m.FinalRun, archive_seq: int | None) -> None:
        """A final record that stood in the payload store."""
        if final.status == "failed":
            self.dead[final.run_id] = _dead_of(final.run_id, final)
        self._end(final.run_id, final, archive_seq)

    def _end(self, run_id: str, final: _Final | m.FinalRun, archive_seq: int | None) -> None:
        tags = _text(final.tags) if isinstance(final, _Final) else _tags_text(final.tags)
        error = _error_text(final.error, LIST_MESSAGE_CHARS_MAX) if final.error is not None else None
        self.runs[run_id] = RunRow(
            run_id, final.workflow, final.version, final.status, final.created_at, final.ended_at, error, tags,
            final.retry_of or None, archive_seq,
        )  # fmt: skip

    def _park(self, run_id: str, decision: m.Decision) -> None:
        error = m.ErrorInfo("parked", "the run is parked")
        for event in decision.events:
            if isinstance(event, m.RunParked):
                error = event.error
        step = error.step or None
        text = _error_text(error, limits.ERROR_MESSAGE_CHARS_MAX)
        self.dead[run_id] = DeadRow(run_id, "parked", step, None, 0, text, decision.at)
        row = self.runs.get(run_id)
        if row is not None and not row.ended_at:
            row.status, row.error = "paused", _error_text(error, LIST_MESSAGE_CHARS_MAX)


def copy_of(headers: bytes, seq: int) -> Copy | None:
    """What a message of the archive is a copy of; None for something else (put there by hand)."""
    start = headers.find(_COPIED_FROM)
    if start < 0:
        return None
    words = headers[start + len(_COPIED_FROM) : headers.find(b"\r\n", start + 2)].split(b" ")
    tokens = words[4].split(b".") if len(words) > 4 else []
    return Copy(tokens[4].decode(), seq, int(words[1])) if len(tokens) == 7 and tokens[2] == b"run" else None


def _dead_of(run_id: str, final: m.FinalRun) -> DeadRow:
    error = final.error or m.ErrorInfo("failed", "the run failed")
    step = next((step for step in final.steps if step.id == error.step), None)
    text = _error_text(error, limits.ERROR_MESSAGE_CHARS_MAX)
    if step is None:
        return DeadRow(run_id, "failed", error.step or None, None, 0, text, final.ended_at)
    return DeadRow(run_id, "failed", step.id, step.task, step.attempt, text, final.ended_at)


def _error_text(error: m.ErrorInfo, chars_max: int) -> str:
    return m.encode(m.ErrorInfo(error.code, error.message[:chars_max], error.step)).decode()


def _text(tags: Raw | UnsetType) -> str | None:
    if tags is UNSET:
        return None
    text = bytes(tags).decode()
    return None if text in ("[]", "{}") else text


def _tags_text(tags: m.Labels) -> str | None:
    return m.encode(tags).decode() if tags else None
