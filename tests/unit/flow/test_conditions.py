"""When a step is skipped, and that a condition that cannot be evaluated is an error."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from dagnats_core.flow.conditions import should_skip
from dagnats_core.flow.expressions import ExpressionFailed
from dagnats_core.flow.model import Definition, SkipIf, Step
from dagnats_core.flow.plan import StepPlan, compile_plan


def plan_of(when: str | None = None, skip_if: SkipIf | None = None) -> StepPlan:
    step = Step(id="b", task="t", depends_on=("a",), when=when, skip_if=skip_if)
    return compile_plan(Definition(name="w", steps=(Step(id="a", task="t"), step))).steps["b"]


def reason(step: StepPlan, output: bytes = b"null") -> str | None:
    return should_skip(step, Raw(b'{"n": 1}'), {"a": Raw(output)})


def test_a_step_without_conditions_is_not_skipped() -> None:
    step = plan_of()
    assert not step.conditional
    assert reason(step) is None


def test_when_false_skips() -> None:
    step = plan_of("steps.a.output.n > input.n")
    assert (step.conditional, step.condition_reads, step.condition_reads_input) == (True, ("a",), True)
    assert reason(step, b'{"n": 2}') is None
    assert reason(step, b'{"n": 1}') == "when is false: steps.a.output.n > input.n"


@pytest.mark.parametrize("output", [b'{"n": 3}', b'{"n": null}', b'{"n": "true"}'])
def test_when_must_give_true_or_false(output: bytes) -> None:
    with pytest.raises(ExpressionFailed, match="true or false"):
        reason(plan_of("steps.a.output.n"), output)


def test_when_that_fails_is_an_error() -> None:
    with pytest.raises(ExpressionFailed, match=r"^when: steps\.a\.output has no key 'n'$"):
        reason(plan_of("steps.a.output.n > 1"), b"{}")


@pytest.mark.parametrize(
    ("output", "op", "value", "skipped"),
    [
        (b'{"f": {"g": 3}}', "==", 3, True),
        (b'{"f": {"g": 3}}', "==", 3.0, True),
        (b'{"f": {"g": 3}}', "!=", 3, False),
        (b'{"f": {"g": 3}}', "<", 4, True),
        (b'{"f": {"g": 3}}', "<=", 2.5, False),
        (b'{"f": {"g": 3}}', ">", 2, True),
        (b'{"f": {"g": 3}}', ">=", 3, True),
        (b'{"f": {"g": "b"}}', ">", "a", True),
        (b'{"f": {"g": true}}', "==", True, True),
        (b'{"f": {"g": true}}', "==", 1, False),
        (b'{"f": {"g": 1}}', "==", True, False),
        (b'{"f": {"g": "3"}}', "==", 3, False),
        (b'{"f": {}}', "==", None, True),
        (b'{"f": 3}', "==", None, True),
        (b"{}", "!=", "x", True),
        (b"null", "==", None, True),
        (b'{"f.g": 3}', "==", 3, False),
    ],
)
def test_skip_if_compares_a_field(output: bytes, op: Any, value: Any, skipped: bool) -> None:
    step = plan_of(skip_if=SkipIf(step_id="a", field="f.g", op=op, value=value))
    assert (step.condition_reads, step.condition_reads_input) == (("a",), False)
    assert (reason(step, output) is not None) is skipped


@pytest.mark.parametrize("output", [b"{}", b'{"f": "3"}', b'{"f": null}', b'{"f": [3]}', b'{"f": true}'])
def test_what_has_no_order_is_an_error(output: bytes) -> None:
    step = plan_of(skip_if=SkipIf(step_id="a", field="f", op="<", value=3))
    with pytest.raises(ExpressionFailed, match="skip_if: < is not defined for"):
        reason(step, output)


def test_the_reason_tells_the_comparison() -> None:
    step = plan_of(skip_if=SkipIf(step_id="a", field="f", op="==", value="x"))
    assert reason(step, b'{"f": "x"}') == "skip_if is true: steps.a.output.f == 'x'"


def test_either_condition_skips() -> None:
    step = plan_of("steps.a.output.f > 0", SkipIf(step_id="a", field="f", op="==", value=1))
    assert reason(step, b'{"f": 0}') == "when is false: steps.a.output.f > 0"
    assert reason(step, b'{"f": 1}') == "skip_if is true: steps.a.output.f == 1"
    assert reason(step, b'{"f": 2}') is None
