"""Errors on the wire, in both directions: DagNatsError <-> two headers and an ErrorReply. Pure.

Codes and statuses come from the one table in `dagnats_core.errors`; docs/errors.md explains each. The header
`Nats-Service-Error` holds one line for people, `Nats-Service-Error-Code` the HTTP status, the body code and problems.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from dagnats_core import limits
from dagnats_core.bus.message import FastMessage
from dagnats_core.errors import (
    ERROR_CLASSES,
    Busy,
    Conflict,
    DagNatsError,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
    StorageFull,
    TimedOut,
    TooLarge,
    Unavailable,
)
from dagnats_micro.schemas.common import ErrorReply

ERROR_HEADER = "Nats-Service-Error"
CODE_HEADER = "Nats-Service-Error-Code"

HEADER_CHARS_MAX = 300
TEXT_CHARS_MAX = 2000
"""Messages and paths in an error are cut here: they may quote what was sent."""

_CLASSES: dict[str, type[DagNatsError]] = {
    cls.code: cls
    for cls in (Invalid, NotFound, Conflict, TooLarge, Busy, Unavailable, StorageFull, TimedOut, Forbidden)
}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ErrorReply).decode
_RULES = (
    ("Object missing required field", "required"),
    ("Object contains unknown field", "unknown_field"),
    ("matching regex", "pattern"),
    ("of length", "length"),
    ("out of range", "range"),
    (">=", "range"),
    ("<=", "range"),
    ("> ", "range"),
    ("< ", "range"),
    ("Invalid enum value", "enum"),
    ("Expected", "type"),
)


def reply_of(error: DagNatsError) -> ErrorReply:
    """The body that says `error`, with its texts cut to their bounds."""
    problems = [
        Problem(problem.path[:TEXT_CHARS_MAX], problem.rule, problem.message[:TEXT_CHARS_MAX])
        for problem in error.problems[: limits.PROBLEMS_MAX]
    ]
    return ErrorReply(code=error.error_class.code, message=error.message[:TEXT_CHARS_MAX], problems=problems)


def encode_error(error: DagNatsError) -> tuple[bytes, bytes]:
    """(header block, body) of the answer that says `error`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in error.message[:HEADER_CHARS_MAX]).split())
    headers = f"{ERROR_HEADER}: {line or error.code}\r\n{CODE_HEADER}: {error.error_class.http_status}\r\n"
    return headers.encode("utf-8", "replace"), _encode(reply_of(error))


def error_of(reply: ErrorReply) -> DagNatsError:
    """The exception that a reply means; an unknown code of a newer server becomes `internal`."""
    cls = _CLASSES.get(reply.code)
    if cls is not None:
        return cls(reply.message, reply.problems)
    code = reply.code if reply.code in ERROR_CLASSES else "internal"
    return DagNatsError(reply.message, reply.problems, code=code)


def error_in(message: FastMessage) -> DagNatsError | None:
    """The error that an answer carries, or None. Understands the two headers alone too."""
    if not message.headers:
        return None
    status = message.header(CODE_HEADER)
    if status is None:
        return None
    try:
        return error_of(_decode(message.data))
    except ValueError:
        text = message.header(ERROR_HEADER) or f"error {status}"
        row = next((row for row in ERROR_CLASSES.values() if str(row.http_status) == status), None)
        return error_of(ErrorReply(code=row.code if row else "internal", message=text))


def missing_or(refusal: Invalid, naming: Collection[str]) -> Invalid | NotFound:
    """`refusal`, or NotFound if all that is wrong is an id or a name that nothing can have.

    Who asks for the run "nope" is told that there is none, not how run ids are made. `naming`: `Endpoint.naming`.
    """
    wrong = refusal.problems
    if wrong and all(problem.rule == "pattern" and problem.path in naming for problem in wrong):
        return NotFound(f"nothing has such a {wrong[0].path}", wrong)
    return refusal


def refusal_of(error: Exception) -> Invalid:
    """What a body that could not be decoded is told: the path, the rule, and the decoder's words."""
    if isinstance(error, RecursionError):
        text, rule = f"nested deeper than {limits.JSON_DEPTH_MAX} (JSON_DEPTH_MAX)", "depth"
        return Invalid(f"the request is {text}", [Problem("", rule, text)])
    if isinstance(error, UnicodeDecodeError):
        return Invalid("the request is not valid UTF-8", [Problem("", "utf8", "not valid UTF-8")])
    words, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if not isinstance(error, msgspec.ValidationError):
        return Invalid(f"the request is not JSON: {words}", [Problem(path, "json", words)])
    rule = next((rule for marker, rule in _RULES if marker in words), "value")
    field = words.rpartition("field `")[2].rstrip("`") if rule in ("required", "unknown_field") else ""
    path = ".".join(part for part in (path, field) if part)
    where = f" (at `{path}`)" if path and not field else ""
    return Invalid(f"the request is not valid: {words}{where}", [Problem(path, rule, words)])
