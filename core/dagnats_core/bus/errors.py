"""What the bus raises: the exceptions of requests and publishes, and the table from JetStream's codes to
them. Pure."""

from __future__ import annotations

import re

import msgspec

from dagnats_core.errors import Conflict, DagNatsError, NotFound, StorageFull, TimedOut, TooLarge, Unavailable


class NoResponders(Unavailable):
    """Nobody listens on the subject of a request: nothing was done."""


class RequestTimeout(TimedOut):
    """No reply came in time: whether the request was carried out is unknown."""


class ConnectionLost(Unavailable):
    """The connection broke before the reply came: whether the request was carried out is unknown."""


class ApiError(Unavailable):
    """JetStream refused. `err_code` is its number, API for callers; the words are not."""

    def __init__(self, message: str, err_code: int = 0) -> None:
        super().__init__(message)
        self.err_code = err_code


class PublishTimeout(TimedOut):
    """No acknowledgement came, in time or before the connection broke: the outcome is UNKNOWN, it may still
    be stored."""


class NoStream(Unavailable):
    """No stream answers for the subject: nothing was stored."""


class WrongSequence(Conflict):
    """An expected sequence did not hold; nothing was stored.

    `stored_seq` is the sequence that stands. None if the server does not tell: on a replicated stream also while
    another write that touches the same check is under way (10164).
    """

    def __init__(self, message: str, stored_seq: int | None = None) -> None:
        super().__init__(message)
        self.stored_seq = stored_seq


class BatchRefused(Conflict):
    """The server refused a whole atomic batch (`err_code`); none of it was stored."""

    def __init__(self, message: str, err_code: int) -> None:
        super().__init__(message)
        self.err_code = err_code


class Duplicate(BatchRefused):
    """A `Nats-Msg-Id` in an atomic batch is known already; none of the batch was stored."""


class StoreFull(StorageFull):
    """The stream or the server has no room; nothing was stored."""


class TooManySubjects(TooLarge):
    """A `multi_last` matches more subjects than the server answers in one request (1,024)."""


class ApiErrorBody(msgspec.Struct, gc=False):
    """`error` in a JetStream reply (ADR-1)."""

    code: int = 0
    err_code: int = 0
    description: str = ""


STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
MESSAGE_NOT_FOUND = 10037
STREAM_NAME_IN_USE = 10058
_WRONG_SEQUENCE = frozenset({10071, 10164})
_BATCH = frozenset({10174, 10175, 10176, 10177, 10179, 10199, 10200, 10210})
_DUPLICATE = 10201
_FULL = frozenset({10023, 10047, 10077})
_TOO_LARGE = frozenset({10054, 10097})
_NOT_FOUND = frozenset({STREAM_NOT_FOUND, CONSUMER_NOT_FOUND, MESSAGE_NOT_FOUND})
_STORED_SEQ = re.compile(r"last sequence: (\d+)")


def error_of(body: ApiErrorBody, about: str) -> DagNatsError:
    """The exception that an error in a JetStream reply means. `about` names the subject or request."""
    text = f"{about}: {body.description} ({body.err_code or body.code})"
    code = body.err_code
    if code in _WRONG_SEQUENCE:
        found = _STORED_SEQ.search(body.description)
        return WrongSequence(text, int(found.group(1)) if found else None)
    if code == _DUPLICATE:
        return Duplicate(text, code)
    if code in _BATCH:
        return BatchRefused(text, code)
    if code in _FULL or body.code == 507:
        return StoreFull(text)
    if code in _TOO_LARGE:
        return TooLarge(text)
    if code in _NOT_FOUND:
        return NotFound(text)
    return ApiError(text, code)
