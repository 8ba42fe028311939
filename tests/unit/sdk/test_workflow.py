"""The Python builder: what it makes is what YAML and JSON would say, and all that is wrong comes at once."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from dagnats.workflow import RetryPolicy, Workflow
from dagnats_core.errors import Invalid
from dagnats_core.flow.canonical import canonical
from dagnats_core.flow.validate import validate


def test_the_contracts_example() -> None:
    wf = Workflow("wordcount")
    split = wf.step("split", task="text.split")
    count = [
        wf.step(f"count-{i}", task="text.count", after=[split], input={"part": f"steps.split.output.parts[{i}]"})
        for i in range(3)
    ]
    wf.step("report", task="text.report", after=count)
    assert wf.definition() == {
        "name": "wordcount",
        "steps": [
            {"id": "split", "task": "text.split"},
            *(
                {
                    "id": f"count-{i}",
                    "task": "text.count",
                    "depends_on": ["split"],
                    "input": {"part": f"steps.split.output.parts[{i}]"},
                }
                for i in range(3)
            ),
            {"id": "report", "task": "text.report", "depends_on": ["count-0", "count-1", "count-2"]},
        ],
    }


def test_it_is_the_same_content_as_the_data_that_a_user_would_write() -> None:
    wf = Workflow(
        "w",
        version="1",
        timeout=timedelta(hours=1, minutes=30),
        default_retry=RetryPolicy(
            max_attempts=4, strategy="linear", initial_delay=timedelta(seconds=2), max_delay="1m"
        ),
    )
    a = wf.step("a", task="t", timeout="PT30S", queue_timeout=timedelta(milliseconds=1500), metadata={"k": "v"})
    wf.step(
        "b-1",
        task="t",
        after=a,
        when=f"{a.output}.n > 1",
        skip_if={"step_id": "a", "field": "n", "op": ">", "value": 9},
        retry=RetryPolicy(max_attempts=2, jitter=0.5),
        worker_group="big",
    )
    wf.step("c", task="t", after=["a", "b-1"], retries=0)
    written = {
        "name": "w",
        "version": "1",
        "timeout": "90m",
        "default_retry": {"max_attempts": 4, "strategy": "linear", "initial_delay": "2s", "max_delay": "60s"},
        "steps": [
            {"id": "a", "task": "t", "timeout": "30s", "queue_timeout": "1.5s", "metadata": {"k": "v"}},
            {
                "id": "b-1",
                "task": "t",
                "depends_on": ["a"],
                "when": 'steps["a"].output.n > 1',
                "skip_if": {"step_id": "a", "field": "n", "op": ">", "value": 9},
                "retry": {"max_attempts": 2, "jitter": 0.5},
                "worker_group": "big",
            },
            {"id": "c", "task": "t", "depends_on": ["a", "b-1"], "retries": 0},
        ],
    }
    definition, problems, _ = validate(written)
    assert problems == []
    assert definition is not None
    built = validate(wf.definition())[0]
    assert built is not None
    assert canonical(built) == canonical(definition)


class Question(msgspec.Struct):
    path: str
    lines: int = 0


@dataclasses.dataclass
class Answer:
    words: list[int]


def schema_of(workflow: Workflow, field: str) -> Any:
    workflow.step("a", task="t")
    return workflow.definition()[field]


def test_schemas_are_given_as_types_or_as_they_are() -> None:
    question = schema_of(Workflow("w", input_schema=Question), "input_schema")
    assert question["$defs"]["Question"]["required"] == ["path"]
    answer = schema_of(Workflow("w", output_schema=Answer), "output_schema")
    assert answer["$defs"]["Answer"]["properties"]["words"] == {"type": "array", "items": {"type": "integer"}}
    assert schema_of(Workflow("w", output_schema={"type": "string"}), "output_schema") == {"type": "string"}
    assert schema_of(Workflow("w", output_schema=False), "output_schema") is False


def test_all_problems_come_at_once() -> None:
    wf = Workflow("no name", timeout="soon")
    wf.step("a", task="t t", after=["b"], when="1 +")
    wf.step("c", task="t", timeout=30, input="steps.a.output")  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="workflow 'no name' is not valid: name: ") as caught:
        wf.definition()
    assert {problem.path for problem in caught.value.problems} == {
        "name",
        "timeout",
        "steps[0].task",
        "steps[0].depends_on[0]",
        "steps[0].when",
        "steps[1].timeout",
        "steps[1].input",
    }


def test_an_empty_workflow_is_not_valid() -> None:
    with pytest.raises(Invalid, match="steps"):
        Workflow("w").definition()


def test_an_id_that_is_taken_is_refused_at_once() -> None:
    wf = Workflow("w")
    wf.step("a", task="t")
    with pytest.raises(ValueError, match="has a step 'a' already"):
        wf.step("a", task="t")


def test_a_step_of_another_workflow_is_refused_at_once() -> None:
    other = Workflow("other").step("x", task="t")
    with pytest.raises(ValueError, match="another workflow"):
        Workflow("w").step("a", task="t", after=[other])


def test_a_negative_duration_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="negative"):
        Workflow("w", timeout=timedelta(seconds=-1))


def test_a_step_may_depend_on_one_that_comes_later_by_its_id() -> None:
    wf = Workflow("w")
    wf.step("b", task="t", after="a")
    wf.step("a", task="t")
    assert wf.definition()["steps"][0]["depends_on"] == ["a"]


def test_what_was_given_is_not_kept() -> None:
    metadata = {"k": "v"}
    wf = Workflow("w")
    wf.step("a", task="t", metadata=metadata)
    metadata["k"] = "changed"
    assert wf.definition()["steps"][0]["metadata"] == {"k": "v"}
