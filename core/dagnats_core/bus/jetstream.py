"""JetStream's request API, spoken raw: subjects, JSON in and out, errors by code; and what a delivery's
reply tells.

Only the vocabulary lives here. Publishing, consuming, reading and setting up have modules of their own.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import msgspec

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import ApiErrorBody, NoResponders, error_of
from dagnats_core.errors import Unavailable

API_TIMEOUT_S = 5.0

T = TypeVar("T")


class _Failure(msgspec.Struct):
    error: ApiErrorBody | None = None


_failure = msgspec.json.Decoder(_Failure)


class SequencePair(msgspec.Struct):
    consumer_seq: int = 0
    stream_seq: int = 0


class StreamState(msgspec.Struct):
    """What a stream holds (`$JS.API.STREAM.INFO`)."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    consumer_count: int = 0
    num_subjects: int = 0


class StreamInfo(msgspec.Struct):
    """A stream's settings, as raw JSON values, and its state."""

    config: dict[str, Any]
    state: StreamState


class ConsumerInfo(msgspec.Struct):
    """A consumer's settings and position. `delivered.stream_seq` of a new one is where it starts, less
    one."""

    stream_name: str
    name: str
    config: dict[str, Any]
    delivered: SequencePair = msgspec.field(default_factory=SequencePair)
    ack_floor: SequencePair = msgspec.field(default_factory=SequencePair)
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0
    num_pending: int = 0


def api_prefix(connection: Connection, domain: str | None = None) -> str:
    """`$JS.API`, or that of a domain: the one given, else the connection's own."""
    name = domain or connection.options.domain
    return f"$JS.{name}.API" if name else "$JS.API"


async def api(
    connection: Connection,
    call: str,
    body: object,
    reply_type: type[T],
    *,
    domain: str | None = None,
    timeout_s: float = API_TIMEOUT_S,
) -> T:
    """Ask JetStream (`call` as in `STREAM.INFO.name`, `body` as JSON, None for none).

    Raises what `error_of` makes of a refusal, Unavailable if JetStream does not answer here.
    """
    subject = f"{api_prefix(connection, domain)}.{call}"
    data = b"" if body is None else msgspec.json.encode(body)
    try:
        reply = await connection.request(subject, data, timeout_s)
    except NoResponders as error:
        raise Unavailable(f"JetStream does not answer on {subject} at {connection.url}") from error
    failure = _failure.decode(reply.data)
    if failure.error is not None:
        raise error_of(failure.error, call)
    return msgspec.json.decode(reply.data, type=reply_type)


class Delivery(NamedTuple):
    """What the reply subject of a delivered message tells."""

    consumer: str
    deliveries: int
    stream_seq: int
    consumer_seq: int
    time_ms: int
    pending: int


def delivery_of(reply: str) -> Delivery:
    """Take `$JS.ACK.…` apart (both forms, with and without domain). Raises ValueError for anything else."""
    words = reply.split(".")
    if len(words) == 9:
        at = 2
    elif len(words) >= 11:
        at = 4
    else:
        raise ValueError(f"not a JetStream delivery: {reply[:200]}")
    return Delivery(
        words[at + 1],
        int(words[at + 2]),
        int(words[at + 3]),
        int(words[at + 4]),
        int(words[at + 5]) // 1_000_000,
        int(words[at + 6]),
    )
