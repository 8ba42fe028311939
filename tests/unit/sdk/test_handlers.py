"""Which functions can be handlers, and what their annotations mean for the input."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from dagnats.worker.context import Context
from dagnats.worker.handlers import argument_of, handler_of
from dagnats.worker.outcomes import Failed


class Part(msgspec.Struct):
    text: str
    index: int = 0


@dataclass
class Range:
    first: int
    last: int


async def typed(ctx: Context, part: Part) -> int:
    return len(part.text)


def plain(ctx, value):  # type: ignore[no-untyped-def]
    return value


async def alone(ctx: Context) -> None: ...


def with_default(ctx: Context, value: int, *, factor: int = 2) -> int:
    return value * factor


class Counter:
    async def __call__(self, ctx: Context, part: Part) -> int:
        return 1

    def method(self, ctx: Context, value: dict[str, int]) -> int:
        return 2


@pytest.mark.parametrize(
    ("function", "where", "body", "argument"),
    [
        (typed, "loop", b'{"text":"a"}', Part("a")),
        (plain, "thread", b'{"a":[1]}', {"a": [1]}),
        (alone, "loop", b'{"ignored":1}', None),
        (with_default, "thread", b"3", 3),
        (Counter(), "loop", b'{"text":"b","index":2}', Part("b", 2)),
        (Counter().method, "thread", b'{"a":1}', {"a": 1}),
        (functools.partial(with_default, factor=3), "thread", b"4", 4),
    ],
)
def test_functions_that_are_handlers(function: Any, where: str, body: bytes, argument: object) -> None:
    handler = handler_of(function, "t")
    assert handler.where == where
    assert argument_of(handler, body) == argument


def test_dataclasses_are_read() -> None:
    def function(ctx: Context, value: Range) -> None: ...

    function.__annotations__["value"] = Range
    assert argument_of(handler_of(function, "t"), b'{"first":1,"last":2}') == Range(1, 2)


@pytest.mark.parametrize("body", [b'{"text":1}', b'{"text":', b"[]", b"null", b'{"text":"\xff"}', b"[" * 100_000])
def test_input_that_does_not_fit_is_invalid_and_not_tried_again(body: bytes) -> None:
    outcome = argument_of(handler_of(typed, "t"), body)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "invalid_input"
    assert not outcome.retryable


def takes_nothing() -> None: ...


def takes_three(ctx: Context, a: int, b: int) -> None: ...


def needs_keyword(ctx: Context, *, a: int) -> None: ...


def unreadable_type(ctx: Context, value: object) -> None: ...


def unknown_type(ctx: Context, value: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("function", [takes_nothing, takes_three, needs_keyword, unknown_type])
def test_functions_that_are_none_are_refused_with_the_task_name(function: Any) -> None:
    with pytest.raises(TypeError, match=r"'text\.count'"):
        handler_of(function, "text.count")
