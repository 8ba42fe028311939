"""How an attempt can end: the closed set of outcomes, and how a handler's result becomes one of them. Pure.

`Fail` and `Retry` are for handlers, returned or raised. `Completed`, `Failed` and `Cancelled` are what the
worker then acts on: every attempt ends in exactly one of them, and `execution` matches them exhaustively.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec

from dagnats_core import limits
from dagnats_core.errors import Invalid
from dagnats_core.flow.durations import parse_duration
from dagnats_core.run.messages import ErrorInfo
from dagnats_micro.values import is_deeper

ERROR_CODE_CHARS_MAX = 128
ERROR_DETAILS_BYTES_MAX = 16 * limits.KIB


class Fail(Exception):
    """The attempt failed, and the handler says how: `code` for programs, `message` for people, any JSON.

    Not tried again unless `retryable`; then the step's retry policy decides. Code and message are cut to
    their bounds; details above 16 KiB are left out.
    """

    def __init__(self, code: str, message: str = "", details: Any = None, *, retryable: bool = False) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.details = details
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class Retry(Exception):
    """The attempt shall be tried again `after` seconds (a number, a timedelta, or text such as `"10s"`).

    Without `after` the step's retry policy says when. It counts as an attempt: when the policy allows no
    more, the step fails with code `retry` and this message. Raises ValueError for less than 0 or more than
    24 hours.
    """

    def __init__(self, after: float | str | timedelta | None = None, message: str = "") -> None:
        super().__init__(after, message)
        self.after_ms = -1 if after is None else duration_ms(after)
        self.message = message

    def __str__(self) -> str:
        return self.message or "the handler asked to be tried again"


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The handler returned a value; `output` is its JSON."""

    output: bytes


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The attempt failed. `retry_after_ms` replaces the policy's delay; -1 leaves it to the policy."""

    error: ErrorInfo
    retryable: bool = True
    retry_after_ms: int = -1


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """The attempt is not wanted any more, or was given back: nothing is reported of it."""


Outcome = Completed | Failed | Cancelled
CANCELLED = Cancelled()

_encode = msgspec.json.Encoder().encode


def outcome_of_result(result: object) -> Completed | Failed:
    """What a returned value means. A value that is no JSON fails the attempt as `invalid_output`."""
    if isinstance(result, Fail | Retry):
        return outcome_of_exception(result)
    try:
        output = _encode(result)
    except Exception as error:
        return failed("invalid_output", f"the result is no JSON: {type(error).__name__}: {error}", retryable=False)
    most = limits.JSON_DEPTH_MAX
    if output.count(b"[") + output.count(b"{") > most and is_deeper(output, most):
        return failed("invalid_output", f"the result is nested deeper than {most} (JSON_DEPTH_MAX)", retryable=False)
    return Completed(output)


def outcome_of_exception(error: BaseException) -> Failed:
    """What an exception that left a handler means: `Fail` and `Retry` speak for themselves."""
    match error:
        case Fail():
            info = ErrorInfo(_cut(error.code, ERROR_CODE_CHARS_MAX), _cut(error.message), details=_details(error))
            return Failed(info, error.retryable)
        case Retry():
            return Failed(ErrorInfo("retry", _cut(str(error))), True, error.after_ms)
        case asyncio.CancelledError():
            return failed("handler_error", "the handler cancelled itself")
        case _:
            return failed("handler_error", _describe(error))


def failed(code: str, message: str, *, retryable: bool = True) -> Failed:
    """A failure with a code that the system makes."""
    return Failed(ErrorInfo(code, _cut(message)), retryable)


def duration_ms(value: float | str | timedelta) -> int:
    """Milliseconds of a duration as handlers write it: seconds, a timedelta, or text.

    Raises ValueError out of bounds.
    """
    if isinstance(value, str):
        try:
            ms = parse_duration(value)
        except Invalid as error:
            raise ValueError(error.message) from error
    elif isinstance(value, timedelta):
        ms = round(value.total_seconds() * 1000)
    else:
        ms = round(value * 1000)
    if not 0 <= ms <= limits.RETRY_AFTER_MS_MAX:
        raise ValueError(f"after={value!r} is not between 0 and {limits.RETRY_AFTER_MS_MAX // 1000} seconds")
    return ms


def _describe(error: BaseException) -> str:
    try:
        words = str(error)
    except Exception:
        words = "(its text cannot be read)"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _details(error: Fail) -> msgspec.Raw | msgspec.UnsetType:
    if error.details is None:
        return msgspec.UNSET
    try:
        details = _encode(error.details)
    except Exception:
        details = _encode(repr(error.details)[:ERROR_CODE_CHARS_MAX])
    return msgspec.Raw(details) if len(details) <= ERROR_DETAILS_BYTES_MAX else msgspec.UNSET


def _cut(text: str, chars_max: int = limits.ERROR_MESSAGE_CHARS_MAX) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
