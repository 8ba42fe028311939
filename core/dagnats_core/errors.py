"""The one table of errors: stable code, HTTP status, exit code of the command line, title.

Codes are API, messages are not. Every front door translates from here: micro puts the code into
`Nats-Service-Error-Code`'s body, the gateway into problem+json (RFC 9457), the command line into its exit code.
Nothing but the table and the exception types lives in this file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec


class ErrorClass(NamedTuple):
    """One row: what a caller may rely on when something is refused or fails."""

    code: str
    http_status: int
    exit_code: int
    title: str


ERROR_CLASSES: dict[str, ErrorClass] = {
    row.code: row
    for row in (
        ErrorClass("invalid", 400, 4, "The request is not valid"),
        ErrorClass("unauthorized", 401, 9, "Credentials are missing or wrong"),
        ErrorClass("forbidden", 403, 9, "These credentials may not do that"),
        ErrorClass("not_found", 404, 3, "There is no such thing"),
        ErrorClass("method_not_allowed", 405, 4, "This path does not take that method"),
        ErrorClass("not_acceptable", 406, 4, "No representation fits the Accept header"),
        ErrorClass("conflict", 409, 5, "The request contradicts what is stored"),
        ErrorClass("too_large", 413, 4, "The request is larger than its bound"),
        ErrorClass("unsupported_media_type", 415, 4, "The content type is not understood here"),
        ErrorClass("busy", 429, 6, "Too much is in flight; try again later"),
        ErrorClass("run_failed", 500, 7, "The run did not complete"),
        ErrorClass("internal", 500, 1, "The server made a mistake"),
        ErrorClass("unavailable", 503, 6, "The system cannot be reached"),
        ErrorClass("timeout", 504, 8, "It took longer than the caller allowed"),
        ErrorClass("storage_full", 507, 6, "The store has no room"),
    )
}

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_FORCED = 70


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong in a request: where (`path`, as in `steps[2].retry`), which rule, and in words."""

    path: str
    rule: str
    message: str


class DagNatsError(Exception):
    """A refusal or failure with a stable code of `ERROR_CLASSES`; `problems` name each field and rule."""

    code = "internal"

    def __init__(self, message: str, problems: Iterable[Problem] = (), *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.message = message
        self.problems = tuple(problems)

    @property
    def error_class(self) -> ErrorClass:
        return ERROR_CLASSES.get(self.code, ERROR_CLASSES["internal"])


class Invalid(DagNatsError):
    code = "invalid"


class NotFound(DagNatsError):
    code = "not_found"


class Conflict(DagNatsError):
    code = "conflict"


class TooLarge(DagNatsError):
    code = "too_large"


class Busy(DagNatsError):
    code = "busy"


class Unavailable(DagNatsError):
    code = "unavailable"


class StorageFull(DagNatsError):
    code = "storage_full"


class TimedOut(DagNatsError):
    code = "timeout"


class Forbidden(DagNatsError):
    code = "forbidden"
