"""What a decision costs: what it changes, not what the run holds. Counted in lines that run, so that it is exact."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from dagnats_core.flow.model import Definition, RetryPolicy, Step
from dagnats_core.run import decide, fold, state
from tests.property.run_play import Play

COUNTED = {module.__file__ for module in (decide, fold, state)}


def lines_of(work: Callable[[], None]) -> int:
    """How many lines of the pure core `work` runs; each turn of a loop counts."""
    count = 0

    def on_line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return on_line

    def on_call(frame: FrameType, event: str, arg: Any) -> Any:
        return on_line if frame.f_code.co_filename in COUNTED else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def fan(width: int, **fields: Any) -> Play:
    """A run whose `width` steps are out with workers."""
    middle = [Step(id=f"b{i}", task="t", depends_on=("a",), **fields) for i in range(width)]
    last = Step(id="z", task="t", depends_on=tuple(step.id for step in middle))
    play = Play(Definition(name="fan", steps=(Step(id="a", task="t"), *middle, last), timeout="1h"))
    play.move(("complete", 0, 1))
    return play


@pytest.mark.parametrize(
    "fields",
    [{}, {"queue_timeout": "1m"}, {"timeout": "1m", "retry": RetryPolicy(max_attempts=3, initial_delay="10s")}],
    ids=["plain", "queue-timeouts", "retries"],
)
@pytest.mark.parametrize("kind", ["completed", "started", "failed"])
def test_a_report_costs_the_same_in_a_wide_run(fields: dict[str, Any], kind: str) -> None:
    if kind == "failed" and "retry" not in fields:
        fields = {**fields, "retry": RetryPolicy(max_attempts=3, initial_delay="10s")}

    def cost(width: int) -> int:
        play = fan(width, **fields)
        for i in range(5):
            play.decide(play.outcome(f"b{i}", kind, 1))
        return lines_of(lambda: [play.decide(play.outcome(f"b{i}", kind, 1)) for i in range(5, 15)] and None)

    assert cost(600) <= 1.2 * cost(60)


def test_a_fold_costs_what_the_log_holds() -> None:
    def cost(width: int) -> float:
        play = fan(width)
        for i in range(width):
            play.decide(play.outcome(f"b{i}", "completed", 1))
        return lines_of(lambda: play.folded() and None) / width

    assert cost(600) <= 1.2 * cost(60)
