"""The plan: order, both directions of the graph, times in ms, what is read, and that it is immutable."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from dagnats_core.flow.backoff import Backoff
from dagnats_core.flow.plan import Plan, compile_plan
from dagnats_core.flow.validate import validate


def plan_of(data: dict[str, Any]) -> Plan:
    definition, problems, _ = validate(data)
    assert problems == []
    assert definition is not None
    return compile_plan(definition)


DIAMOND: dict[str, Any] = {
    "name": "w",
    "timeout": "1h",
    "default_retry": {"max_attempts": 2},
    "input_schema": {"type": "object"},
    "steps": [
        {
            "id": "d",
            "task": "t",
            "depends_on": ["b", "c"],
            "when": "steps.a.output.n > 1 || input.all",
            "timeout": "30s",
        },
        {"id": "b", "task": "t", "depends_on": ["a"], "retry": {"max_attempts": 5}, "queue_timeout": "1m"},
        {"id": "c", "task": "t", "depends_on": ["a"], "worker_group": "big", "metadata": {"k": "v"}},
        {"id": "a", "task": "t.x"},
        {"id": "alone", "task": "t"},
    ],
}


def test_steps_stand_in_topological_order() -> None:
    plan = plan_of(DIAMOND)
    assert list(plan.steps) == ["a", "alone", "b", "c", "d"]
    assert (plan.roots, plan.terminal) == (("a", "alone"), ("d", "alone"))
    assert plan.steps["a"].dependents == ("b", "c")
    assert plan.steps["d"].depends_on == ("b", "c")


def test_times_and_policies_are_ready() -> None:
    plan = plan_of(DIAMOND)
    assert plan.timeout_ms == 3_600_000
    assert (plan.steps["d"].timeout_ms, plan.steps["d"].queue_timeout_ms) == (30_000, 0)
    assert plan.steps["b"].queue_timeout_ms == 60_000
    assert plan.steps["b"].retry == Backoff(5)
    assert plan.steps["c"].retry == Backoff(2)
    assert (plan.steps["c"].worker_group, plan.steps["c"].metadata) == ("big", {"k": "v"})


def test_it_says_what_conditions_and_inputs_read() -> None:
    steps = plan_of(DIAMOND).steps
    assert (steps["d"].conditional, steps["d"].condition_reads, steps["d"].condition_reads_input) == (
        True,
        ("a",),
        True,
    )
    assert (steps["d"].mapped, steps["d"].input_reads, steps["d"].input_reads_input) == (False, ("b", "c"), False)
    assert (steps["a"].input_reads, steps["a"].input_reads_input) == ((), True)


def test_schemas_are_compiled() -> None:
    plan = plan_of(DIAMOND)
    assert plan.input_schema is not None
    assert plan.input_schema.check(Raw(b"{}")) == []
    assert plan.input_schema.check(Raw(b"[]")) != []
    assert plan.output_schema is None


def test_it_cannot_be_changed() -> None:
    plan = plan_of(DIAMOND)
    with pytest.raises(AttributeError):
        plan.timeout_ms = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        plan.steps["a"].task = "x"  # type: ignore[misc]
