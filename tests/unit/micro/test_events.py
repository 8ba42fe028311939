"""Events as the log tells them, and pages that never split a message."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dagnats_core import limits
from dagnats_core.run import messages as m
from dagnats_micro.events import History, events_of, events_of_record
from dagnats_micro.schemas.run import RunEvent

TASK = m.Task("r", "b", "t", 1, "n", "w", 1500)


def told(kind: str, body: object) -> list[tuple[object, ...]]:
    return [(event.type, event.step, event.attempt) for event in events_of(7, kind, m.encode(body))]


def decision(*events: m.Event, task: m.Task | None = None) -> m.Decision:
    return m.Decision(v=1, n=1, after=1, at=2000, events=list(events), task=task)


def test_each_message_tells_its_events_in_their_order() -> None:
    start = m.Start(v=1, at=1000, workflow="w", version=1, hash="h")
    assert told("in.start", start) == [("run_created", None, None)]
    assert told("in.cancel", m.Cancel(v=1, at=1)) == [("run_cancel_requested", None, None)]
    assert told("in.timer", m.TimerFired(v=1, due=1)) == [("timer_fired", None, None)]
    body = decision(m.StepCompleted("a", 2), m.StepSkipped("c", "when"), task=TASK)
    expected = [("step_completed", "a", 2), ("step_skipped", "c", None), ("step_queued", "b", 1)]
    assert told("out.task", body) == expected
    assert told("out.parked", decision(m.RunParked(m.ErrorInfo("x", "y")))) == [("run_parked", None, None)]


def test_schedules_and_snapshots_tell_nothing() -> None:
    assert events_of(1, "timer", b'{"v":1,"due":1}') == []
    assert events_of(1, "out.snapshot", b"{}") == []


def test_an_event_says_when_how_long_and_why() -> None:
    error = m.ErrorInfo("boom", "no", "a")
    failed = m.StepFailed("a", 1, error, "w1", started_at=1000, ended_at=1250, retry_at=3000)
    (event,) = events_of(7, "out.events", m.encode(decision(failed)))
    assert (event.seq, event.at, event.duration_ms) == (7, "1970-01-01T00:00:01.250Z", 250)
    assert event.retry_at == "1970-01-01T00:00:03.000Z"
    assert event.error is not None
    assert (event.error.code, event.worker_id) == ("boom", "w1")


def test_history_knows_the_status_and_the_end() -> None:
    history = History()
    history.take(1, "in.start", m.encode(m.Start(v=1, at=1, workflow="w", version=1, hash="h")))
    assert (history.status, history.ended) == ("pending", False)
    history.take(2, "out.task", m.encode(decision(task=TASK)))
    assert (history.status, history.ended) == ("running", False)
    history.take(3, "out.parked", m.encode(decision(m.RunParked(m.ErrorInfo("x", "y")))))
    assert (history.status, history.ended) == ("paused", False)
    history.take(4, "out.ended", m.encode(decision(m.RunEnded("cancelled"))))
    assert (history.status, history.ended) == ("cancelled", True)


def test_an_archived_record_tells_each_end_once_and_the_end_last() -> None:
    steps = [
        m.FinalStep(id="b", task="t", status="failed", attempt=2, error=m.ErrorInfo("x", "y"), ended_at=30),
        m.FinalStep(id="a", task="t", status="completed", attempt=1, started_at=10, ended_at=20),
        m.FinalStep(id="c", task="t", status="cancelled", ended_at=40),
    ]
    final = m.FinalRun("r", "w", 1, "h", "failed", 5, steps, ended_at=40)
    events = events_of_record(99, final)
    assert [(event.type, event.step) for event in events] == [
        ("run_created", None), ("step_completed", "a"), ("step_failed", "b"), ("run_ended", None),
    ]  # fmt: skip
    assert {event.seq for event in events} == {99}


groups = st.lists(st.integers(1, 5), max_size=12)


@given(groups, st.integers(1, 7))
def test_pages_together_are_the_history_and_no_message_is_split(sizes: list[int], limit: int) -> None:
    history = History()
    for seq, size in enumerate(sizes, 1):
        history.add([RunEvent(seq=seq * 10, type="step_queued", at="", step=str(n)) for n in range(size)])
    after, pages = 0, []
    while True:
        page = history.page(after, limit)
        if not page.items:
            break
        seen = [item.seq for item in page.items]
        assert len(page.items) <= limit or len(set(seen)) == 1
        pages.append(seen)
        after = page.after
    assert [seq for page in pages for seq in page] == [n * 10 for n, size in enumerate(sizes, 1) for _ in range(size)]
    for one, following in pairwise(pages):
        assert one[-1] < following[0]


def test_a_page_is_bounded_in_bytes() -> None:
    history = History()
    for seq in range(1, 9):
        reason = "x" * (limits.PAGE_BYTES_MAX // 3)
        history.add([RunEvent(seq=seq, type="step_skipped", at="", reason=reason)])
    assert [item.seq for item in history.page(0, 100).items] == [1, 2]
