"""What the index makes of messages, in whatever order log and archive bring them."""

from __future__ import annotations

import itertools

import msgspec
from msgspec import Raw

from dagnats_core import ids
from dagnats_core.bus.subjects import Subjects
from dagnats_core.run import messages as m
from dagnats_micro.index.rows import LIVE, Copy, Rows, copy_of
from dagnats_micro.index.store import RunRow

RUN = ids.new_run_id(1_700_000_000_000, 5, 16)
P = ids.partition_of(RUN)
SUBJECTS = Subjects("s")
START = m.Start(v=1, at=10, workflow="w", version=2, hash="x", input=Raw(b'{"a":[1,2]}'), tags=["a"], retry_of="old")


def final_of(status: m.RunStatus, error: m.ErrorInfo | None = None) -> m.FinalRun:
    steps = [m.FinalStep(id="a", task="t.x", status="failed" if error else "completed", attempt=3)]
    return m.FinalRun(
        run_id=RUN, workflow="w", version=2, hash="x", status=status, created_at=10, ended_at=50, steps=steps,
        error=error, tags=["a"], retry_of="old",
    )  # fmt: skip


def end_of(final: m.FinalRun) -> bytes:
    return m.encode(m.Decision(v=1, n=3, after=1, at=50, final=final))


def row(status: str, ended_at: int = 50, error: str | None = None, archive_seq: int | None = None) -> RunRow:
    return RunRow(RUN, "w", 2, status, 10, ended_at, error, '["a"]', "old", archive_seq)


def start(rows: Rows) -> None:
    rows.take_message("log", SUBJECTS.start(P, RUN), 1, m.encode(START))


def end(rows: Rows) -> None:
    rows.take_message("log", SUBJECTS.ended(P, RUN), 5, end_of(final_of("completed")))


def copy(rows: Rows) -> None:
    rows.take_copy("archive", Copy(RUN, 77, 5))


def test_a_start_is_a_live_run() -> None:
    rows = Rows({})
    start(rows)
    assert rows.runs == {RUN: row(LIVE, ended_at=0)}
    assert rows.positions == {"log": 1}


def test_start_end_and_copy_are_one_row_in_whatever_order_they_come() -> None:
    for order in itertools.permutations([start, end, copy]):
        rows = Rows({})
        for take in order:
            take(rows)
        assert rows.runs == {RUN: row("completed", archive_seq=77)}, order
        assert not rows.archived


def test_a_copy_of_a_run_that_ended_before_waits_for_the_file() -> None:
    rows = Rows({})
    copy(rows)
    assert rows.archived == {RUN: 77}
    assert rows.positions == {"archive": 77}


def test_a_failed_run_is_a_dead_letter_with_step_task_and_attempts() -> None:
    rows = Rows({})
    error = m.ErrorInfo("boom", "x" * 1000, "a")
    rows.take_message("log", SUBJECTS.ended(P, RUN), 5, end_of(final_of("failed", error)))
    dead = rows.dead[RUN]
    assert (dead.kind, dead.step, dead.task, dead.attempts, dead.at) == ("failed", "a", "t.x", 3, 50)
    assert msgspec.json.decode(dead.error)["message"] == "x" * 1000
    shown = rows.runs[RUN].error
    assert shown is not None
    assert len(msgspec.json.decode(shown)["message"]) == 300


def test_a_run_that_failed_as_a_whole_has_no_step() -> None:
    rows = Rows({})
    final = final_of("failed", m.ErrorInfo("run_timeout", "late"))
    rows.take_message("log", SUBJECTS.ended(P, RUN), 5, end_of(final))
    assert (rows.dead[RUN].step, rows.dead[RUN].task, rows.dead[RUN].attempts) == (None, None, 0)


def test_a_parked_run_is_paused_and_dead_until_it_ends() -> None:
    rows = Rows({})
    start(rows)
    parked = m.Decision(v=1, n=1, after=1, at=20, events=[m.RunParked(m.ErrorInfo("parked", "broken", "a"))])
    rows.take_message("log", SUBJECTS.parked(P, RUN, 1), 3, m.encode(parked))
    assert rows.runs[RUN].status == "paused"
    assert (rows.dead[RUN].kind, rows.dead[RUN].step, rows.dead[RUN].at) == ("parked", "a", 20)
    end(rows)
    assert rows.dead == {}
    assert rows.runs[RUN].status == "completed"


def test_a_large_record_is_named_and_taken_when_it_has_been_fetched() -> None:
    rows = Rows({})
    ref = m.Ref("p" * 26, 10, "0" * 64)
    body = m.encode(m.Decision(v=1, n=3, after=1, at=50, events=[m.RunEnded("completed")], final_ref=ref))
    start(rows)
    rows.take_message("log", SUBJECTS.ended(P, RUN), 5, body)
    assert rows.large == [(ref, None)]
    rows.take_final(final_of("completed"), 8)
    assert rows.runs == {RUN: row("completed", archive_seq=8)}


def test_a_copy_says_where_it_came_from() -> None:
    origin = f"dagnats-s-run-0 41 dagnats.s.run.*.*.out.ended dagnats.s.archive.1 {SUBJECTS.ended(P, RUN)} Si4nrKgv"
    headers = f"NATS/1.0\r\nNats-Stream-Source: {origin}\r\n\r\n".encode()
    assert copy_of(headers, 9) == Copy(RUN, 9, 41)
    assert copy_of(b"NATS/1.0\r\nOther: x\r\n\r\n", 9) is None
    assert copy_of(b"", 9) is None
