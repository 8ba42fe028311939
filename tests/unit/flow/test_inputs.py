"""What a step gets as its input, and that nothing is decoded which need not be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.flow.expressions import ExpressionFailed
from dagnats_core.flow.inputs import Decoded, build_input
from dagnats_core.flow.model import Definition, Step
from dagnats_core.flow.plan import StepPlan, compile_plan

RUN_INPUT = Raw(b'{"path": "a.txt", "n": 1.0}')


def plan_of(input: Any = None, after: tuple[str, ...] = ("a", "b-c")) -> StepPlan:
    """The plan of a step after others, with this `input:`."""
    before = [Step(id=step, task="t") for step in after]
    last = Step(id="last", task="t", depends_on=after, input=input)
    return compile_plan(Definition(name="w", steps=(*before, last))).steps["last"]


def built(step: StepPlan, **outputs: bytes) -> Any:
    raws = {name.replace("_", "-"): Raw(output) for name, output in outputs.items()}
    return json.loads(bytes(build_input(step, RUN_INPUT, raws)))


def test_without_dependencies_it_is_the_run_input_untouched() -> None:
    assert build_input(plan_of(after=()), RUN_INPUT, {}) is RUN_INPUT


def test_of_one_dependency_it_is_the_output_untouched() -> None:
    output = Raw(b"not even JSON")
    assert build_input(plan_of(after=("a",)), RUN_INPUT, {"a": output}) is output


def test_of_several_it_is_an_object_by_id_joined_as_bytes() -> None:
    joined = build_input(plan_of(), RUN_INPUT, {"a": Raw(b"[1, 2]"), "b-c": Raw(b"null"), "x": Raw(b"7")})
    assert bytes(joined) == b'{"a":[1, 2],"b-c":null}'


def test_texts_are_expressions_and_all_else_stands_for_itself() -> None:
    step = plan_of({"x": "steps.a.output.v", "y": [1, 2.5, None, True, "input.path"], "z": {"text": "'as it is'"}})
    assert built(step, a=b'{"v": 3}', b_c=b"0") == {
        "x": 3,
        "y": [1, 2.5, None, True, "a.txt"],
        "z": {"text": "as it is"},
    }


def test_one_text_is_the_whole_input() -> None:
    assert built(plan_of('steps["b-c"].output + 1'), a=b"0", b_c=b"41") == 42


def test_an_input_without_expressions_reads_nothing() -> None:
    step = plan_of({"n": 1})
    assert (step.input_reads, step.input_reads_input) == ((), False)
    assert built(step) == {"n": 1}


@pytest.mark.parametrize("empty", [{}, [], 0, False])
def test_an_empty_input_is_an_input(empty: Any) -> None:
    step = plan_of(empty)
    assert step.mapped
    assert built(step) == empty


def test_only_what_is_read_need_be_there() -> None:
    step = plan_of({"x": "steps.a.output"})
    assert (step.input_reads, step.input_reads_input) == (("a",), False)
    assert built(step, a=b"1") == {"x": 1}


def test_a_skipped_dependency_is_null() -> None:
    assert built(plan_of({"x": "steps.a.output"}), a=b"null") == {"x": None}


def test_numbers_keep_their_kind() -> None:
    text = bytes(
        build_input(plan_of({"x": "input.n", "y": "steps.a.output"}), RUN_INPUT, {"a": Raw(b"12345678901234567890123")})
    )
    assert text == b'{"x":1.0,"y":12345678901234567890123}'


def test_a_failure_names_the_place() -> None:
    with pytest.raises(ExpressionFailed, match=r"^input\.x\.y\[1\]: input has no key 'nothing'$"):
        built(plan_of({"x": {"y": [1, "input.nothing"]}}))


@pytest.mark.parametrize("bad", [b"", b"{", b'"\xff"', b"1e999", b"[" * 5000 + b"]" * 5000])
def test_a_value_that_cannot_be_read_is_a_failure(bad: bytes) -> None:
    with pytest.raises(ExpressionFailed, match="not valid JSON"):
        built(plan_of({"x": "steps.a.output"}), a=bad)


def test_what_is_read_is_bounded() -> None:
    large = b'"' + b"x" * limits.EXPRESSION_VALUE_BYTES_MAX + b'"'
    with pytest.raises(ExpressionFailed, match=str(limits.EXPRESSION_VALUE_BYTES_MAX)):
        built(plan_of({"x": "steps.a.output"}), a=large)


def test_what_is_built_is_bounded() -> None:
    part = b'"' + b"x" * 100_000 + b'"'
    with pytest.raises(ExpressionFailed, match="larger than"):
        built(plan_of({str(i): "steps.a.output" for i in range(100)}), a=part)


def test_a_value_is_decoded_once_for_a_decision() -> None:
    decoded, output = Decoded(), Raw(b'{"parts": [1, 2]}')
    first = build_input(plan_of({"x": "steps.a.output.parts[0]"}), RUN_INPUT, {"a": output}, decoded)
    second = build_input(plan_of({"x": "steps.a.output.parts[1]"}), RUN_INPUT, {"a": output}, decoded)
    assert (bytes(first), bytes(second)) == (b'{"x":1}', b'{"x":2}')
    assert decoded.get(output) is decoded.get(output)


def test_all_expressions_of_a_step_share_one_budget() -> None:
    step = plan_of({str(i): "steps.a.output.map(x, x + 1)" for i in range(20)})
    with pytest.raises(ExpressionFailed, match="too much work"):
        built(step, a=json.dumps(list(range(50_000))).encode())
