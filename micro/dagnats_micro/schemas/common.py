"""Types that several nouns share. Requests forbid unknown fields (a typo is an error); replies may grow."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dagnats_core import ids, limits
from dagnats_core.errors import Problem as Problem

NO_LAST_NEWLINE = r"(?!\n)"
"""Python's `$` also matches before a last newline, which must never reach a subject; JSON Schema's `$` does not."""


def matching(pattern: str, description: str | None = None) -> Meta:
    """The whole text matches `pattern`, which begins with `^` and ends with `$`."""
    return Meta(pattern=f"{pattern[:-1]}{NO_LAST_NEWLINE}$", description=description)


Name = Annotated[str, matching(ids.NAME_PATTERN, "letters, digits, `_` and `-`, at most 64")]
TaskName = Annotated[str, matching(ids.TASK_PATTERN), Meta(max_length=limits.NAME_LENGTH_MAX)]
RunId = Annotated[str, matching(ids.RUN_ID_PATTERN, "28 characters, carries its partition")]
PayloadId = Annotated[str, matching(r"^[0-9a-z]{26,32}$")]
Sha256 = Annotated[str, matching(r"^[0-9a-f]{64}$")]
RequestId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.REQUEST_ID_LENGTH_MAX,
        description="the same id again gets the first answer; with another body it is a conflict",
    ),
]
Timestamp = Annotated[str, Meta(description="RFC 3339, UTC")]
Limit = Annotated[int, Meta(ge=1, le=limits.PAGE_ITEMS_MAX, description="at most so many on a page")]
Cursor = Annotated[str, Meta(max_length=512, description="`next_cursor` of the page before")]
Duration = Annotated[str | int, Meta(description='`"1h30m"`, `"PT90S"`, or an integer of nanoseconds')]
Tag = Annotated[str, Meta(min_length=1, max_length=limits.TAG_LENGTH_MAX)]
Tags = (
    Annotated[list[Tag], Meta(max_length=limits.TAGS_MAX)] | Annotated[dict[Tag, Tag], Meta(max_length=limits.TAGS_MAX)]
)
Json = Any


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of every request: unknown fields are refused."""


class Reply(msgspec.Struct, kw_only=True):
    """Base of every reply: all fields are always present."""


class Empty(Request):
    """No fields."""


class PayloadRef(Reply):
    """A value in the payload store: read it with `payload.get`."""

    id: PayloadId
    size: Annotated[int, Meta(ge=0, le=limits.PAYLOAD_BYTES_MAX)]
    sha256: Sha256


class Failure(Reply):
    """Why a run or step failed."""

    code: str
    message: str
    step: str | None = None
    details: Json = None


class ErrorReply(Reply):
    """The body of every error answer. `code` is stable (docs/errors.md); the message is for people."""

    code: str
    message: str
    problems: list[Problem] = []


class Count(Reply):
    count: int
