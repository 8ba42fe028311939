"""A handler that asks to be tried again at a time is heard: up to the policy's attempts, or the bound without one."""

from __future__ import annotations

import pytest
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.flow.plan import compile_plan
from dagnats_core.flow.validate import validate
from dagnats_core.run import messages as m
from dagnats_core.run.decide import Outcome, decide, minter
from dagnats_core.run.state import RunState, fire_timer, start_run

MINT = minter(b"secret")


def started(retry: dict[str, object] | None) -> RunState:
    step = {"id": "a", "task": "t"} | ({"retry": retry} if retry else {})
    definition, problems, _ = validate({"name": "asked", "steps": [step]})
    assert definition is not None, problems
    state = RunState("0" * 28)
    start_run(state, 1, m.Start(m.FORMAT, 1000, "asked", 1, "h", input=Raw(b"1")), compile_plan(definition))
    decide(state, 1000, MINT)
    return state


def ask(state: RunState, after_ms: int) -> None:
    step = state.steps["a"]
    error = m.ErrorInfo("retry", "later")
    report = m.Report(m.FORMAT, "failed", step.attempt, step.nonce, error=error, retry_after_ms=after_ms)
    decide(state, state.now, MINT, [Outcome("a", report, "d")])


@pytest.mark.parametrize(("retry", "attempts"), [(None, limits.ASKED_ATTEMPTS_MAX), ({"max_attempts": 3}, 3)])
def test_it_is_heard_until_the_attempts_are_used_up(retry: dict[str, object] | None, attempts: int) -> None:
    state = started(retry)
    for attempt in range(1, attempts):
        assert state.steps["a"].attempt == attempt
        ask(state, 500)
        assert state.steps["a"].status == "waiting"
        fire_timer(state, attempt + 1, m.TimerFired(m.FORMAT, state.steps["a"].due))
        decide(state, state.now, MINT)
    ask(state, 500)
    assert state.status == "failed"


def test_a_plain_failure_without_a_policy_is_final() -> None:
    state = started(None)
    ask(state, -1)
    assert state.status == "failed"
