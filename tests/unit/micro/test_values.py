"""Undecoded JSON that is let in can be read by everybody who comes after."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_core import limits
from dagnats_core.errors import Invalid
from dagnats_micro.values import checked, is_deeper

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(plain, st.sampled_from([None, 2]))
def test_what_is_let_in_keeps_its_meaning_and_loses_its_white_space(value: object, indent: int | None) -> None:
    text = checked(json.dumps(value, indent=indent).encode(), "input")
    assert msgspec.json.decode(text) == value
    assert text == checked(text, "input")


@given(plain, st.integers(0, 8))
def test_depth_is_that_of_the_value_and_not_of_brackets_in_strings(value: object, depth: int) -> None:
    assert is_deeper(json.dumps(value).encode(), depth) == (depth_of(value) > depth)


def test_depth_up_to_the_bound_is_let_in_and_one_more_is_not() -> None:
    most = limits.JSON_DEPTH_MAX
    checked(b"[" * most + b"]" * most, "input")
    with pytest.raises(Invalid) as caught:
        checked(b"[" * (most + 1) + b"]" * (most + 1), "input")
    assert [(problem.path, problem.rule) for problem in caught.value.problems] == [("input", "depth")]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"", "json"),
        (b"nul", "json"),
        (b"NaN", "json"),
        (b"1e999", "json"),
        (b"9" * 5000, "json"),
        (b'"\xff"', "utf8"),
        (b'"\\ud800"', "json"),
        (b"{} {}", "json"),
        (b"[" * 100_000 + b"]" * 100_000, "depth"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "depth"),
    ],
)
def test_what_others_could_not_read_is_refused(text: bytes, rule: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(text, "inputs[3]")
    assert [(problem.path, problem.rule) for problem in caught.value.problems] == [("inputs[3]", rule)]
