"""A watcher's picture of a run follows the events, whatever state it began in; the live screen fits the terminal."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dagnats_cli.live import LiveTable
from dagnats_cli.progress import Progress
from dagnats_micro.schemas import run
from dagnats_micro.schemas.common import Failure

AT = "2026-11-23T12:00:00.000Z"
LATER = "2026-11-23T12:00:05.000Z"


def view(count: int = 2, **fields: object) -> run.Run:
    nothing = {"worker_id": None, "error": None, "started_at": None, "ended_at": None}
    steps = [run.Step(id=f"s{n}", task="t", status="pending", attempt=0, **nothing) for n in range(count)]  # type: ignore[arg-type]
    base = {
        "run_id": "0" * 28, "workflow": "w", "version": 1, "status": "running", "input": None, "output": None,
        "error": None, "steps": steps, "tags": [], "created_at": AT, "started_at": AT, "ended_at": None,
    }  # fmt: skip
    return run.Run(**(base | fields))  # type: ignore[arg-type]


def event(type: str, step: str = "s0", attempt: int = 1, **fields: object) -> run.RunEvent:
    return run.RunEvent(seq=1, type=type, at=AT, step=step, attempt=attempt, **fields)  # type: ignore[arg-type]


def test_a_step_goes_its_way() -> None:
    progress = Progress(view())
    seen = []
    for each in (
        event("step_queued"),
        event("step_started"),
        event("step_failed", error=Failure(code="x", message="m"), retry_at=LATER, duration_ms=7),
        event("step_queued", attempt=2),
        event("step_completed", attempt=2, duration_ms=1500),
    ):
        progress.apply(each)
        line = progress.steps["s0"]
        seen.append((line.status, line.attempt, line.error is not None))
    assert seen == [
        ("queued", 1, False),
        ("running", 1, False),
        ("waiting", 1, True),
        ("queued", 2, True),
        ("completed", 2, False),
    ]
    assert progress.steps["s0"].elapsed_s(0) == 1.5


def test_events_that_are_known_already_change_nothing() -> None:
    progress = Progress(view())
    news = [event("step_queued"), event("step_completed", duration_ms=5), event("step_queued", "s1")]
    for each in news:
        progress.apply(each)
    before = {id: (line.status, line.attempt, line.took_s) for id, line in progress.steps.items()}
    for each in news:
        progress.apply(each)
    assert {id: (line.status, line.attempt, line.took_s) for id, line in progress.steps.items()} == before


def test_events_of_an_earlier_attempt_do_not_bring_it_back() -> None:
    progress = Progress(view())
    progress.apply(event("step_queued", attempt=3))
    progress.apply(event("step_failed", attempt=2, error=Failure(code="x", message="m")))
    assert (progress.steps["s0"].status, progress.steps["s0"].attempt) == ("queued", 3)


def test_what_runs_is_shown_when_not_all_fits() -> None:
    progress = Progress(view(100))
    for number in range(80):
        progress.apply(event("step_queued", f"s{number}"))
        progress.apply(event("step_completed", f"s{number}"))
    progress.apply(event("step_started", "s80"))
    shown = progress.shown(5)
    assert len(shown) == 5
    assert "s80" in [line.id for line in shown]


@given(st.integers(1, 60), st.integers(8, 40), st.integers(50, 120), st.text(max_size=50))
def test_the_live_screen_fits_the_terminal(count: int, height: int, width: int, text: str) -> None:
    progress = Progress(view(count, workflow=text))
    progress.apply(event("step_failed", error=Failure(code="x", message=text)))
    out = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    table = LiveTable(out)
    table.trouble(text)
    lines = out.render_lines(table.screen(progress, 0.0), pad=False)
    assert len(lines) <= height
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)
    assert all(segment.text.isprintable() for line in lines for segment in line)
