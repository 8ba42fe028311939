"""What handlers return and raise, and what it means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats.worker.outcomes import (
    ERROR_CODE_CHARS_MAX,
    Completed,
    Fail,
    Failed,
    Retry,
    outcome_of_exception,
    outcome_of_result,
)
from dagnats_core import limits


@dataclass
class Point:
    x: int


class Struct(msgspec.Struct):
    name: str


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("result", "output"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, "x"]}, b'{"a":[1,2.5,"x"]}'),
        (Point(1), b'{"x":1}'),
        (Struct("n"), b'{"name":"n"}'),
        (b"raw", b'"cmF3"'),
    ],
)
def test_a_value_completes(result: object, output: bytes) -> None:
    assert outcome_of_result(result) == Completed(output)


@pytest.mark.parametrize("result", [object(), {1j}, "\ud800", [lambda: 1]])
def test_what_is_no_json_is_an_invalid_output(result: object) -> None:
    outcome = outcome_of_result(result)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "invalid_output"
    assert not outcome.retryable


def test_a_result_that_contains_itself_is_an_invalid_output() -> None:
    loop: list[object] = []
    loop.append(loop)
    outcome = outcome_of_result(loop)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "invalid_output"


def test_a_result_is_bounded_in_depth_not_in_brackets() -> None:
    nested: list[object] = []
    for _ in range(limits.JSON_DEPTH_MAX - 1):
        nested = [nested]
    assert isinstance(outcome_of_result(nested), Completed)
    assert isinstance(outcome_of_result([[], "[" * 100, {}] * 100), Completed)
    outcome = outcome_of_result([nested])
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "invalid_output"
    assert "JSON_DEPTH_MAX" in outcome.error.message


def test_an_exception_is_a_retryable_handler_error() -> None:
    outcome = outcome_of_exception(KeyError("missing"))
    assert outcome.error.code == "handler_error"
    assert outcome.error.message == "KeyError: 'missing'"
    assert outcome.retryable
    assert outcome.retry_after_ms == -1


def test_an_exception_that_cannot_be_printed_is_still_reported() -> None:
    assert "Unprintable" in outcome_of_exception(Unprintable()).error.message


@pytest.mark.parametrize("as_result", [True, False])
def test_fail_says_code_message_and_details(as_result: bool) -> None:
    fail = Fail("no_such_file", "there is no x", {"path": "x"})
    outcome = outcome_of_result(fail) if as_result else outcome_of_exception(fail)
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.message) == ("no_such_file", "there is no x")
    assert isinstance(outcome.error.details, msgspec.Raw)
    assert bytes(outcome.error.details) == b'{"path":"x"}'
    assert not outcome.retryable


def test_fail_may_be_retryable() -> None:
    assert outcome_of_exception(Fail("busy", retryable=True)).retryable


def test_details_that_are_too_large_or_no_json_do_not_hide_the_failure() -> None:
    assert outcome_of_exception(Fail("x", details="y" * 100_000)).error.details is msgspec.UNSET
    odd = outcome_of_exception(Fail("x", details=object())).error.details
    assert isinstance(odd, msgspec.Raw)


@given(st.text(max_size=10_000), st.text(max_size=10_000))
def test_texts_are_cut_and_can_be_written(code: str, message: str) -> None:
    error = outcome_of_exception(Fail(code, message)).error
    assert len(error.code) <= ERROR_CODE_CHARS_MAX
    assert len(error.message) <= limits.ERROR_MESSAGE_CHARS_MAX
    msgspec.json.encode(error)


@pytest.mark.parametrize(
    ("after", "ms"), [(None, -1), (0, 0), (1.5, 1500), ("2m", 120_000), (timedelta(seconds=3), 3000)]
)
def test_retry_says_when(after: float | str | timedelta | None, ms: int) -> None:
    outcome = outcome_of_exception(Retry(after, "later"))
    assert (outcome.error.code, outcome.error.message) == ("retry", "later")
    assert outcome.retryable
    assert outcome.retry_after_ms == ms


@pytest.mark.parametrize("after", [-1, "soon", 25 * 3600, timedelta(days=2)])
def test_retry_refuses_what_is_out_of_bounds(after: float | str | timedelta) -> None:
    with pytest.raises(ValueError, match=r"after|duration"):
        Retry(after)


def test_a_handler_that_cancels_itself_has_failed() -> None:
    assert outcome_of_exception(asyncio.CancelledError()).error.code == "handler_error"
