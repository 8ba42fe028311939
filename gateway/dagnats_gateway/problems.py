"""Errors as HTTP says them: RFC 9457 problem details. Pure: an error in; status, headers and body out."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from dagnats_micro import ERROR_CLASSES, DagNatsError, Problem

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:dagnats:error:"
RETRY_AFTER_S = "1"
_RETRY_STATUSES = (429, 503)
_CODE_OF_STATUS = {
    row.http_status: row.code for row in ERROR_CLASSES.values() if row.code not in ("run_failed", "internal")
}


class ProblemDetails(msgspec.Struct, kw_only=True):
    """The body of every error answer (RFC 9457). `code` is stable, `type` says it as a URI; `detail` is for
    people; `problems` names each field that is wrong and the rule that it breaks."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    problems: list[Problem] = []


class Rendered(NamedTuple):
    """An error answer, ready to send."""

    status: int
    headers: dict[str, str]
    body: bytes


def render(error: DagNatsError) -> Rendered:
    """The answer that says `error`."""
    row = error.error_class
    details = ProblemDetails(
        type=TYPE_PREFIX + row.code,
        title=row.title,
        status=row.http_status,
        detail=error.message,
        code=row.code,
        problems=list(error.problems),
    )
    headers = {"content-type": PROBLEM_JSON, "cache-control": "no-store"}
    if row.http_status in _RETRY_STATUSES:
        headers["retry-after"] = RETRY_AFTER_S
    return Rendered(row.http_status, headers, msgspec.json.encode(details))


def of_status(status: int, message: str) -> DagNatsError:
    """The error that an HTTP status means: for refusals of the web framework (no such path or method)."""
    code = _CODE_OF_STATUS.get(status, "internal" if status >= 500 else "invalid")
    return DagNatsError(message or ERROR_CLASSES[code].title, code=code)


def hidden(incident: str) -> DagNatsError:
    """What a caller learns of a mistake of ours: where in the log it stands."""
    return DagNatsError(f"the gateway made a mistake; its log has the details under incident {incident}")
