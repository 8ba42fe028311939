"""Validation: everything that is wrong, at once, with its path."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dagnats_core import limits
from dagnats_core.flow.plan import compile_plan
from dagnats_core.flow.validate import validate


def problems_of(data: Any) -> dict[str, str]:
    """{path: rule}, and that there is no definition."""
    definition, problems, _ = validate(data)
    assert definition is None
    assert problems
    assert all(problem.message for problem in problems)
    return {problem.path: problem.rule for problem in problems}


def message_of(data: Any, path: str) -> str:
    return next(problem.message for problem in validate(data)[1] if problem.path == path)


def workflow(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "w", "steps": [{"task": "t", **step} for step in steps], **fields}


def step(**fields: Any) -> dict[str, Any]:
    return workflow({"id": "a", **fields})


def test_the_smallest_definition() -> None:
    definition, problems, warnings = validate({"name": "w", "steps": [{"id": "a", "task": "t"}]})
    assert (problems, warnings) == ([], [])
    assert definition is not None
    assert definition.steps[0].depends_on == ()


def test_a_definition_with_every_field() -> None:
    retry = {"max_attempts": 3, "strategy": "exponential", "initial_delay": "1s", "max_delay": "1m", "multiplier": 3}
    definition, problems, warnings = validate(
        {
            "name": "word-count_1",
            "version": "2026-11",
            "timeout": "PT1H",
            "default_retry": retry,
            "input_schema": {"type": "object", "required": ["path"]},
            "output_schema": True,
            "steps": [
                {"id": "split", "task": "text.split", "type": "normal", "retries": 2},
                {
                    "id": "count-0",
                    "task": "text.count",
                    "depends_on": ["split"],
                    "input": {"part": "steps.split.output.parts[0]", "n": 3},
                    "when": "size(steps.split.output.parts) > 0",
                    "skip_if": {"step_id": "split", "field": "parts", "op": "==", "value": None},
                    "timeout": 30_000_000_000,
                    "queue_timeout": "5m",
                    "retry": {**retry, "jitter": 0.2},
                    "metadata": {"owner": "words", "a key": ""},
                    "worker_group": "big",
                },
            ],
        }
    )
    assert problems == []
    assert [warning.code for warning in warnings] == ["retries_unused"]
    assert definition is not None
    count = definition.steps[1]
    assert (definition.timeout, count.timeout, count.queue_timeout) == ("1h", "30s", "5m")
    assert count.retry is not None
    assert (count.retry.multiplier, count.retry.jitter) == (3.0, 0.2)


def test_all_problems_come_at_once() -> None:
    data = {
        "name": "a b",
        "vers": "1",
        "version": 1.1,
        "timeout": 30,
        "default_retry": {"max_attempts": 0, "jitter": 2, "inital_delay": "1s"},
        "input_schema": {"type": "integr"},
        "steps": [
            {"id": "a", "task": "x", "depends_on": ["b", "zz"]},
            {"id": "b", "task": "x y", "depends_on": ["a"]},
            {"id": "a"},
            7,
            {"id": "d", "task": "t", "input": {"x": "1 +", "y": ["steps.b.output", "steps.no.output"]}, "when": "1"},
        ],
    }
    assert problems_of(data) == {
        "name": "name",
        "vers": "unknown",
        "version": "type",
        "timeout": "duration",
        "default_retry.max_attempts": "range",
        "default_retry.jitter": "range",
        "default_retry.inital_delay": "unknown",
        "input_schema.type": "anyOf",
        "steps[0].depends_on[1]": "unknown_step",
        "steps[0].depends_on": "cycle",
        "steps[1].task": "name",
        "steps[2].task": "required",
        "steps[2].id": "duplicate",
        "steps[3]": "type",
        "steps[4].input.x": "expression",
        "steps[4].input.y[0]": "not_an_ancestor",
        "steps[4].input.y[1]": "unknown_step",
        "steps[4].when": "type",
    }


@pytest.mark.parametrize("data", [None, 1, "w", [], [{}], True])
def test_what_is_no_object_is_refused(data: Any) -> None:
    assert problems_of(data) == {"": "type"}


@pytest.mark.parametrize(
    ("data", "path", "rule"),
    [
        ({"steps": [{"id": "a", "task": "t"}]}, "name", "required"),
        ({"name": "w"}, "steps", "required"),
        ({"name": "w", "steps": []}, "steps", "length"),
        ({"name": "w", "steps": {}}, "steps", "type"),
        ({"name": "w", "steps": None}, "steps", "required"),
        (workflow({"id": "a"}, version="x" * 200), "version", "length"),
        (workflow({"id": "a"}, timeout="0s"), "timeout", "range"),
        (workflow({"id": "a"}, timeout=True), "timeout", "duration"),
        (workflow({"id": "a"}, timeout="2y"), "timeout", "duration"),
        (step(type="map"), "steps[0].type", "choice"),
        (step(task="a..b"), "steps[0].task", "name"),
        (step(id="a.b"), "steps[0].id", "name"),
        (step(id="x" * 65), "steps[0].id", "name"),
        (step(id=1), "steps[0].id", "type"),
        (step(worker_group="a b"), "steps[0].worker_group", "name"),
        (step(depends_on="a"), "steps[0].depends_on", "type"),
        (step(depends_on=[1]), "steps[0].depends_on[0]", "type"),
        (step(depends_on=["a"]), "steps[0].depends_on", "cycle"),
        (step(retries=-1), "steps[0].retries", "range"),
        (step(retries=1.5), "steps[0].retries", "type"),
        (step(retries=True), "steps[0].retries", "type"),
        (step(retry={}), "steps[0].retry.max_attempts", "required"),
        (step(retry=3), "steps[0].retry", "type"),
        (step(retry={"max_attempts": 3, "jitter": True}), "steps[0].retry.jitter", "type"),
        (step(retry={"max_attempts": 3, "multiplier": 0.5}), "steps[0].retry.multiplier", "range"),
        (step(retry={"max_attempts": 3, "strategy": "random"}), "steps[0].retry.strategy", "choice"),
        (step(retry={"max_attempts": 3, "initial_delay": "2d"}), "steps[0].retry.initial_delay", "range"),
        (
            step(retry={"max_attempts": 3, "initial_delay": "10s", "max_delay": "1s"}),
            "steps[0].retry.max_delay",
            "range",
        ),
        (step(retry={"max_attempts": 3}, retries=2), "steps[0].retries", "conflict"),
        (step(metadata={"k": 1}), "steps[0].metadata.k", "type"),
        (step(metadata={"a key": 1}), 'steps[0].metadata["a key"]', "type"),
        (step(metadata={"k": "x" * limits.METADATA_BYTES_MAX}), "steps[0].metadata", "length"),
        (step(metadata={str(i): "" for i in range(65)}), "steps[0].metadata", "length"),
        (step(when=True), "steps[0].when", "type"),
        (step(when="'yes'"), "steps[0].when", "type"),
        (step(when="x" * 5000), "steps[0].when", "length"),
        (step(input="input."), "steps[0].input", "expression"),
        (step(input=["1u"]), "steps[0].input[0]", "expression"),
        (step(input="steps.a.output"), "steps[0].input", "not_an_ancestor"),
        (
            step(skip_if={"step_id": "a", "field": "f", "op": "==", "value": 1}),
            "steps[0].skip_if.step_id",
            "not_an_ancestor",
        ),
        (
            step(skip_if={"step_id": "b", "field": "f", "op": "==", "value": 1}),
            "steps[0].skip_if.step_id",
            "unknown_step",
        ),
        (step(skip_if={"step_id": "a", "field": "f", "op": "=", "value": 1}), "steps[0].skip_if.op", "choice"),
        (step(skip_if={"step_id": "a", "field": "f", "op": "=="}), "steps[0].skip_if.value", "required"),
        (step(skip_if={"step_id": "a", "field": "", "op": "==", "value": 1}), "steps[0].skip_if.field", "length"),
        (step(skip_if={"step_id": "a", "field": "f", "op": "<", "value": None}), "steps[0].skip_if.value", "type"),
        (step(skip_if={"step_id": "a", "field": "f", "op": "==", "value": [1]}), "steps[0].skip_if.value", "type"),
        (workflow({"id": "a"}, output_schema=3), "output_schema", "schema"),
        (workflow({"id": "a"}, output_schema={"$ref": "http://x"}), "output_schema.$ref", "schema"),
        (workflow({"id": "a"}, concurrency={"max_runs": 1}), "concurrency", "unknown"),
        (step(input={"x": float("nan")}), "steps[0].input.x", "type"),
        (step(input={"x": {1, 2}}), "steps[0].input.x", "type"),
        (step(input={1: 2}), "steps[0].input", "type"),
        (step(input={"x": "\ud800"}), "steps[0].input.x", "type"),
        (step(input={"\ud800": 1}), "steps[0].input", "type"),
    ],
)
def test_each_rule_names_its_path(data: Any, path: str, rule: str) -> None:
    assert problems_of(data).get(path) == rule


def test_an_unknown_field_suggests_the_nearest() -> None:
    assert message_of(step(depend_on=["b"]), "steps[0].depend_on") == "is not a field here; did you mean depends_on?"
    assert "the fields are id, task" in message_of(step(zzz=1), "steps[0].zzz")


def test_a_cycle_is_named() -> None:
    data = workflow(
        {"id": "a", "depends_on": ["c"]}, {"id": "b", "depends_on": ["a"]}, {"id": "c", "depends_on": ["b"]}
    )
    assert message_of(data, "steps[0].depends_on") == "depends on itself: a → c → b → a"


def test_an_expression_may_use_any_ancestor_and_no_other_step() -> None:
    steps = [{"id": "a"}, {"id": "b", "depends_on": ["a"]}, {"id": "side", "depends_on": ["a"]}]
    fine = workflow(*steps, {"id": "c", "depends_on": ["b"], "input": {"x": "steps.a.output", "y": "steps.b.output"}})
    assert validate(fine)[1] == []
    early = workflow(*steps, {"id": "c", "depends_on": ["b"], "input": "steps.side.output"})
    assert message_of(early, "steps[3].input") == '"side" may not have ended yet: make it a dependency of "c"'


def test_what_stands_behind_a_cycle_is_not_blamed_for_it() -> None:
    data = workflow(
        {"id": "a", "depends_on": ["b"]},
        {"id": "b", "depends_on": ["a"]},
        {"id": "c", "depends_on": ["b"], "input": "steps.a.output"},
    )
    assert problems_of(data) == {"steps[0].depends_on": "cycle"}


def test_a_null_is_a_field_left_out() -> None:
    definition, problems, _ = validate(step(timeout=None, retry=None, input=None, metadata=None, depends_on=None))
    assert problems == []
    assert definition == validate(step())[0]


def test_depth_is_refused_before_anything_reads_it() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert set(problems_of(step(input=deep)).values()) == {"depth"}


def test_the_number_of_problems_is_bounded() -> None:
    data = workflow(*({"id": "a b"} for _ in range(500)))
    _, problems, _ = validate(data)
    assert len(problems) == limits.PROBLEMS_MAX + 1
    assert problems[-1].message == f"and {500 - limits.PROBLEMS_MAX} more problems"


def test_the_number_of_steps_is_bounded() -> None:
    assert validate(workflow(*({"id": f"s{i}"} for i in range(limits.STEPS_MAX))))[1] == []
    assert problems_of(workflow(*({"id": f"s{i}"} for i in range(limits.STEPS_MAX + 1)))) == {"steps": "length"}


def test_the_number_of_expressions_is_bounded() -> None:
    assert problems_of(step(input=["input"] * (limits.EXPRESSIONS_MAX + 1))) == {"steps": "length"}


def test_size_is_bounded() -> None:
    assert problems_of(step(input={"x" * limits.DEFINITION_BYTES_MAX: 1})) == {"": "size"}


def test_a_thousand_steps_are_ready_to_run_in_a_moment() -> None:
    count = limits.STEPS_MAX - 2
    data = workflow(
        {"id": "split"},
        *({"id": f"n{i}", "depends_on": ["split"], "input": {"x": f"steps.split.output[{i}].y"}} for i in range(count)),
        {"id": "join", "depends_on": [f"n{i}" for i in range(count)], "when": "size(steps.split.output) > 0"},
    )
    began = time.process_time()
    definition, problems, _ = validate(data)
    assert problems == []
    assert definition is not None
    plan = compile_plan(definition)
    assert time.process_time() - began < 1.0  # 0.15 s on a machine that does nothing else
    assert len(plan.steps) == limits.STEPS_MAX
