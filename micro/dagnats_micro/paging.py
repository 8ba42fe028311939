"""Pages: cursors that name the last item seen, and pages that fit a message. Pure."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


def cursor_of(*key: str | int) -> str:
    """The cursor that goes on behind the item with this key."""
    return urlsafe_b64encode(_encode(key)).decode().rstrip("=")


def key_of(cursor: str | None, key_type: type[T]) -> T | None:
    """The key in a cursor, None for the first page. Raises Invalid for a text that no page gave."""
    if cursor is None:
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=key_type)
    except ValueError as error:
        problem = Problem("cursor", "cursor", "it is not the `next_cursor` of a page")
        raise Invalid("the cursor is not one that a page gave", [problem]) from error


def page_of(items: Iterable[T], limit: int) -> tuple[list[T], bool]:
    """As many items as fit a page, and whether there are more. `items` may end one after `limit`."""
    page: list[T] = []
    size = 0
    for item in items:
        size += len(_encode(item))
        if len(page) == limit or (page and size > limits.PAGE_BYTES_MAX):
            return page, True
        page.append(item)
    return page, False


def next_cursor(more: bool, *key: Any) -> str | None:
    return cursor_of(*key) if more else None
