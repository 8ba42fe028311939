"""Reading a request body: bounded in size, in the time between its pieces, and in what all of them hold
together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagnats_micro import Busy, Invalid, TooLarge, limits

Receive = Callable[[], Awaitable[Any]]
Take = Callable[[int], None]


class BodyBudget:
    """The bytes that all bodies together may hold in memory."""

    def __init__(self) -> None:
        self._free = limits.HTTP_BODY_BYTES_IN_FLIGHT_MAX

    @contextmanager
    def holding(self) -> Iterator[Take]:
        """Gives a function that takes bytes from the budget, or raises Busy; all are given back at the
        end."""
        held = 0

        def take(count: int) -> None:
            nonlocal held
            if count > self._free:
                most = limits.HTTP_BODY_BYTES_IN_FLIGHT_MAX
                raise Busy(f"other requests' bodies fill {most} bytes (HTTP_BODY_BYTES_IN_FLIGHT_MAX)")
            self._free -= count
            held += count

        try:
            yield take
        finally:
            self._free += held


def declared_bytes(headers: Mapping[str, str]) -> int | None:
    """What Content-Length says; None for a body in chunks, 0 if there is none."""
    length = headers.get("content-length")
    if length is not None:
        return int(length)
    return None if "transfer-encoding" in headers else 0


async def read_body(receive: Receive, declared: int | None, bytes_max: int, take: Take) -> bytes:
    """The whole body. Raises TooLarge above `bytes_max` (before reading anything, if the length is
    declared)."""
    if declared is not None:
        _check(declared, bytes_max)
    pieces: list[bytes] = []
    size = 0
    more = declared != 0
    while more:
        message = await _next(receive)
        piece: bytes = message.get("body", b"")
        size += len(piece)
        _check(size, bytes_max)
        take(len(piece))
        pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces)


async def _next(receive: Receive) -> dict[str, Any]:
    wait_s = limits.HTTP_BODY_WAIT_MS_MAX / 1000
    try:
        async with asyncio.timeout(wait_s):
            message: dict[str, Any] = await receive()
    except TimeoutError:
        raise Invalid(f"no more of the body came for {wait_s:g} s (HTTP_BODY_WAIT_MS_MAX)") from None
    if message["type"] == "http.disconnect":
        raise Invalid("the client went away before the body was complete")
    return message


def _check(size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise TooLarge(f"the body is larger than {bytes_max} bytes, which this operation takes")
