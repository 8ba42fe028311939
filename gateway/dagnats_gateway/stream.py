"""A run's events as server-sent events, read by long polls of `run.events`. Each piece of the stream is text
made here.

An event carries its sequence as `id` only when it is the last one of its sequence: a client that reconnects
goes on after the id it saw last, and must not miss the others of a message of which it saw the first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from dagnats_gateway.problems import render
from dagnats_micro import DagNatsError, Invalid, Problem, limits
from dagnats_micro.schemas.run import EventList, EventsRequest, RunEvent

RETRY_MS = 1000
HEARTBEAT = b": still here\n\n"
Poll = Callable[[EventsRequest], Awaitable[EventList | None]]
"""Asks for events; None once the gateway stops."""


def resumed(request: EventsRequest, last_event_id: str | None) -> EventsRequest:
    """The request of a client that reconnects, and says which event it saw last."""
    if last_event_id is None:
        return request
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 20):
        raise Invalid("The request is not valid", [Problem("Last-Event-ID", "type", "not a sequence")])
    return msgspec.structs.replace(request, after=max(request.after, int(last_event_id)))


async def events(request: EventsRequest, first: EventList, poll: Poll) -> AsyncIterator[bytes]:
    """The stream: what `first` holds, then what comes, then `end` with the run's status. A failure on the way
    is a `problem` event; a browser then reconnects by itself."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    page: EventList | None = first
    try:
        while page is not None:
            yield page_text(page.items) or HEARTBEAT
            if page.ended:
                yield _event("end", msgspec.json.encode({"run_id": request.run_id, "status": page.status}))
                return
            wait_ms = limits.HTTP_HEARTBEAT_MS
            page = await poll(msgspec.structs.replace(request, after=page.after, wait_ms=wait_ms))
    except DagNatsError as error:
        yield _event("problem", render(error).body)


def page_text(items: Sequence[RunEvent]) -> bytes:
    """These events as they go over the wire."""
    texts = []
    for index, item in enumerate(items):
        last_of_its_seq = index + 1 == len(items) or items[index + 1].seq != item.seq
        texts.append(_event("", msgspec.json.encode(item), item.seq if last_of_its_seq else None))
    return b"".join(texts)


def _event(name: str, data: bytes, seq: int | None = None) -> bytes:
    head = (f"id: {seq}\n" if seq is not None else "") + (f"event: {name}\n" if name else "")
    return head.encode() + b"data: " + data + b"\n\n"
