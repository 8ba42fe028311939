"""Expressions: what they mean, what they read, how they fail, and what is refused when they are compiled."""

from __future__ import annotations

from typing import Any

import pytest

from dagnats_core import limits
from dagnats_core.errors import Invalid
from dagnats_core.flow.expressions import Budget, ExpressionFailed, References, compile_expression

INPUT = {"n": 5, "f": 1.5, "list": [1, 2, 3], "map": {"a": None}, "text": "héllo", "big": 1 << 70, "items": [{"p": 1}]}
STEPS = {"split": {"parts": ["x", "y"]}, "a-b": 7, "skipped": None}


def value(text: str, **values: Any) -> Any:
    return compile_expression(text).evaluate({"input": INPUT, "steps": STEPS, **values})


def failure(text: str) -> str:
    with pytest.raises(ExpressionFailed) as caught:
        value(text)
    return caught.value.message


def refusal(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        compile_expression(text)
    assert all(problem.rule == "expression" for problem in caught.value.problems)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input.n + 1", 6),
        ("input.n / 2", 2),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("input.f * 2.0", 3.0),
        ("1.0 / 4.0", 0.25),
        ("input.text + '!'", "héllo!"),
        ("input.list + [4]", [1, 2, 3, 4]),
        ("input.text.size()", 5),
        ("size(input.map)", 1),
        ("input.list[1]", 2),
        ("input['n']", 5),
        ("steps.split.output.parts[1]", "y"),
        ('steps["a-b"].output', 7),
        ("steps.`a-b`.output", 7),
        ("steps.skipped.output == null", True),
        ("has(input.n) && !has(input.nothing)", True),
        ("input.map.a", None),
        ("input.list.map(x, x * 10)", [10, 20, 30]),
        ("input.list.map(x, x > 1, x * 10)", [20, 30]),
        ("input.list.filter(x, x > 1)", [2, 3]),
        ("input.map.map(key, key)", ["a"]),
        ("input.list.all(x, x > 0)", True),
        ("input.list.exists(x, x > 2)", True),
        ("input.list.exists_one(x, x > 2)", True),
        ("[[1, 2], [3]].map(x, x.map(y, y + 1))", [[2, 3], [4]]),
        ("2 in input.list", True),
        ("'a' in input.map", True),
        ("input.n > 3 ? 'many' : 'few'", "many"),
        ("{'n': input.n, 'list': [input.f]}", {"n": 5, "list": [1.5]}),
        ("input.text.startsWith('hé') && input.text.endsWith('lo') && input.text.contains('l')", True),
        ("input.text.matches('^h.l+o$')", True),
        ("string(1.0) + string(0.5) + string(2) + string(true)", "10.52true"),
        ("int('12') + int(3.9)", 15),
        ("double('1e3')", 1000.0),
        ("bool('true')", True),
        ("input.list == [1, 2.0, 3]", True),
        ("[true] == [dyn(1)]", False),
        ("input.n > 2.5", True),
        ("dyn(9007199254740993) == 9007199254740992.0", False),
        ("'a' < 'b' && false < true", True),
        ("input.big", 1 << 70),
        ("input.items[0].p", 1),
        ("dyn(1) == dyn('1')", False),
    ],
)
def test_it_means_what_cel_says(text: str, expected: Any) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input.nothing", "input has no key 'nothing'"),
        ("input.n.x", "input.n is of type int: it has no key 'x'"),
        ("steps.split.output.parts[2]", "index 2 is outside of a list of 2"),
        ("input.list[-1]", "index -1 is outside"),
        ("input['x']", "there is no key 'x'"),
        ("input.n / 0", "division by zero"),
        ("input.n % 0", "modulus by zero"),
        ("input.n + input.f", "+ is not defined for int and double (convert with int() or double())"),
        ("input.n + input.text", "+ is not defined for int and string"),
        ("input.text < input.n", "< is not defined for string and int"),
        ("9223372036854775807 + input.n", "64 bit"),
        ("input.big + 1", "64 bit"),
        ("-9223372036854775808 / (input.n - 6)", "64 bit"),
        ("input.f / 0.0", "inf is not a JSON number"),
        ("[0.0 / 0.0]", "nan is not a JSON number"),
        ("!input.n", "! is not defined for int"),
        ("input.n ? 1 : 2", "?: is not defined for int"),
        ("input.n && true", "&& is not defined for int"),
        ("input.n.map(x, x)", "a macro is not defined for int"),
        ("{'a': 1, 'a': 2}", "the key 'a' is there twice"),
        ("{input.n: 1}", "a key of a JSON object is a string"),
        ("int('x')", "int() cannot convert the string 'x'"),
        ("int(1e300)", "64 bit"),
        ("has(input.n.x)", "input.n is of type int"),
        ("input.list.map(x, x.y)", "x is of type int"),
    ],
)
def test_it_says_why_it_failed(text: str, message: str) -> None:
    assert message in failure(text)


@pytest.mark.parametrize(
    "text",
    ["input.nothing || true", "true || input.nothing", "!(input.nothing && false)", "[0, 1].exists(x, 1 / x > 0)"],
)
def test_a_failure_that_decides_nothing_is_absorbed(text: str) -> None:
    assert value(text) is True


@pytest.mark.parametrize("text", ["input.nothing || false", "true && input.nothing", "[0, 1].all(x, 1 / x > 0)"])
def test_a_failure_that_decides_is_not_absorbed(text: str) -> None:
    failure(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 +", "1:4: Syntax error"),
        ("", "Syntax error"),
        ("foo", "1:1: undeclared reference to 'foo'"),
        ("foo(1)", "undeclared reference to 'foo'"),
        ("1 + 1.5", "found no matching overload for '_+_'"),
        ("true == 1", "found no matching overload"),
        ("steps", "only `steps.<id>.output`"),
        ("steps.a", "only `steps.<id>.output`"),
        ("steps.a.error", "only `steps.<id>.output`"),
        ("has(steps.a.output)", "only `steps.<id>.output`"),
        ("steps[input].output", "only `steps.<id>.output`"),
        ("steps.map(x, x)", "only `steps.<id>.output`"),
        ("steps.count-0.output", 'write steps["count-0"].output'),
        ("steps.count-0.output.part + 1", 'write steps["count-0"].output'),
        ("steps.0a.output", 'write steps["0a"].output'),
        ("[1].map(input, input)", "cannot be called 'input'"),
        ("[1].map(steps, 1)", "cannot be called 'steps'"),
        ("timestamp('2026-01-01T00:00:00Z')", "timestamp() is not available"),
        ("type(1)", "type() is not available"),
        ("1u", "unsigned"),
        ("b'x'", "bytes"),
        ("google.protobuf.Struct{}", "message"),
        ("input.text.matches(input.text)", "must be a literal"),
        ("input.text.matches('(')", "not a regular expression"),
        ("input.text.matches('(a{1000}){1000}')", "complex"),
        ("input.text.matches('" + "a" * 300 + "')", "at most 256 bytes"),
        ("(" * 40 + "1" + ")" * 40, "recursion limit"),
        ("'" + "x" * limits.EXPRESSION_BYTES_MAX + "'", "at most 4096"),
        ("'\ud800'", "not valid Unicode"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_compiled(text: str, message: str) -> None:
    assert message in refusal(text)


def test_it_knows_what_it_reads() -> None:
    text = "steps.a.output.x + steps['b-c'].output.y + input.z"
    assert compile_expression(text).references == References(True, frozenset({"a", "b-c"}))
    assert compile_expression("1 + 2").references == References(False, frozenset())


def test_only_what_it_reads_need_be_there() -> None:
    assert compile_expression("steps.a.output").evaluate({"steps": {"a": 1}}) == 1
    assert compile_expression("input").evaluate({"input": 1}) == 1


@pytest.mark.parametrize(
    ("text", "kind"), [("1 < 2", "bool"), ("input.a", "dyn"), ("1", "int"), ("'a'", "string"), ("null", "null")]
)
def test_its_static_type_is_known(text: str, kind: str) -> None:
    assert compile_expression(text).result_type == kind


def test_inputs_are_never_changed() -> None:
    data = {"list": [1, 2], "map": {"a": [1]}}
    compile_expression("input.list.map(x, input.list + [x])").evaluate({"input": data})
    compile_expression("[input.list].map(l, l.filter(x, x > 1))").evaluate({"input": data})
    assert data == {"list": [1, 2], "map": {"a": [1]}}


def test_a_loop_starts_anew_at_each_turn_of_an_outer_one() -> None:
    assert value("[1, 2].map(x, [1, 2].filter(y, y >= x))") == [[1, 2], [2]]


def test_evaluations_may_share_a_budget() -> None:
    expression, budget = compile_expression("input.list.map(x, x)"), Budget(50)
    expression.evaluate({"input": INPUT}, budget)
    expression.evaluate({"input": INPUT}, budget)
    with pytest.raises(ExpressionFailed, match="too much work"):
        expression.evaluate({"input": INPUT}, budget)


def test_a_spent_budget_is_not_absorbed() -> None:
    expression = compile_expression("input.all(x, x > 0) || true")
    with pytest.raises(ExpressionFailed, match="too much work"):
        expression.evaluate({"input": [1] * 100}, Budget(50))


def test_a_failure_is_short() -> None:
    with pytest.raises(ExpressionFailed) as caught:
        compile_expression("input['" + "x" * 3000 + "']").evaluate({"input": {}})
    assert len(caught.value.message) <= 300
