"""Our evaluation of an expression against that of the CEL library, over random expressions and values.

Where the two are known to differ, ours is the specification's way: an int and a double beyond 2^53 are compared by
value, not by the int's nearest double; and texts convert to numbers only in the form in which CEL writes numbers.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagnats_core.errors import Invalid
from dagnats_core.flow.expressions import ExpressionFailed, compile_expression

ORACLE = cel.NewEnv(variables={"input": cel.Type.DYN})

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.integers(-3, 3)
    | st.sampled_from([-(1 << 63), (1 << 63) - 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1.0, 2.5, 1e19])
    | st.sampled_from(["", "a", "ab", "b", "é😀", "12", "-7", "1.5", "true"])
)
values = st.recursive(
    scalars,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from("abc"), part, max_size=3),
    max_leaves=6,
)
inputs = st.fixed_dictionaries({"p": values, "q": values, "l": st.lists(values, max_size=4), "s": scalars})

NAMES = ["input.p", "input.q", "input.l", "input.s", "input.missing", "x"]
LITERALS = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-2",
    "2.5",
    "0.0",
    "''",
    "'a'",
    "'ab'",
    "[]",
    "{}",
    "9223372036854775807",
]
DYNAMIC = [f"dyn({literal})" for literal in LITERALS]
"""Without a static type, so that the checker does not refuse what is to fail when it is evaluated."""
BINARY = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"]
METHODS = ["startsWith", "endsWith", "contains"]
MACROS = ["all", "exists", "exists_one", "map", "filter"]


def _compound(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} {} {})".format, part, st.sampled_from(BINARY), part),
        st.builds("({} ? {} : {})".format, part, part, part),
        st.builds("!{}".format, part),
        st.builds("-({})".format, part),
        st.builds("({}).{}".format, part, st.sampled_from("abc")),
        st.builds("has(({}).{})".format, part, st.sampled_from("abc")),
        st.builds("({})[{}]".format, part, part),
        st.builds("[{}, {}]".format, part, part),
        st.builds("{{'a': {}, 'b': {}}}".format, part, part),
        st.builds("({}).{}({})".format, part, st.sampled_from(METHODS), part),
        st.builds("{}({})".format, st.sampled_from(["size", "int", "double", "bool", "dyn"]), part),
        st.builds("({}).{}({}, {})".format, part, st.sampled_from(MACROS), st.just("x"), part),
        st.builds("({}).map(x, {}, {})".format, part, part, part),
        st.builds("({}).matches('{}')".format, part, st.sampled_from(["a", "^b$", "[0-9]+", "a|b", ""])),
    )


expressions = st.recursive(
    st.sampled_from(NAMES) | st.sampled_from(LITERALS) | st.sampled_from(DYNAMIC), _compound, max_leaves=8
)


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def _is_json(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(map(_is_json, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@settings(max_examples=600, deadline=None)
@given(expressions, inputs)
@example("input.l.exists(x, 1 / x > 0)", {"p": 1, "q": 1, "l": [0, 1], "s": 1})
@example("input.l.all(x, 1 / x > 0)", {"p": 1, "q": 1, "l": [0, -1], "s": 1})
@example("input.p == input.q", {"p": True, "q": 1, "l": [], "s": 1})
@example("input.p + input.q", {"p": 1, "q": 1.0, "l": [], "s": 1})
def test_it_gives_what_the_library_gives(text: str, data: dict[str, Any]) -> None:
    try:
        expression = compile_expression(text)
    except Invalid:
        return
    try:
        expected = ORACLE.compile(text).eval(data={"input": data})
    except RuntimeError:
        failed = True
    else:
        failed = expected.type() == cel.Type.ERROR or not _is_json(expected.plain_value())
    if failed:
        with pytest.raises(ExpressionFailed):
            expression.evaluate({"input": data})
    else:
        assert _same(expression.evaluate({"input": data}), expected.plain_value())
