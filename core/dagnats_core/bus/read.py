"""Reading what a stream holds, one request at a time: last of each subject, from a sequence on, one message.

Direct gets are answered by any replica and may lag behind the leader; `fresh=True` asks the leader. Nothing
here keeps a consumer or a position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import ConnectionLost, NoResponders, RequestTimeout, TooManySubjects
from dagnats_core.bus.jetstream import API_TIMEOUT_S, api, api_prefix
from dagnats_core.bus.message import FastMessage, StoredMessage, time_ms_of
from dagnats_core.errors import NotFound, Unavailable

READ_TRIES = 3
"""A message that is removed while a `multi_last` is answered spoils the answer: it is asked again."""


class _Raw(msgspec.Struct):
    subject: str
    seq: int
    time: str
    data: bytes = b""
    hdrs: bytes = b""


class _RawReply(msgspec.Struct):
    message: _Raw


class _Spoiled(Exception):
    """A message was removed between being found and being read."""


async def last_by_subjects(
    connection: Connection, stream: str, filters: Sequence[str], up_to_seq: int | None = None
) -> list[StoredMessage]:
    """The last message of each subject that matches a filter, ascending by sequence, in one consistent cut.

    `up_to_seq`: as the stream stood at that sequence. Raises TooManySubjects above 1,024 subjects,
    Unavailable, RequestTimeout.
    """
    for _ in range(READ_TRIES):
        try:
            return await _last_by_subjects(connection, stream, filters, up_to_seq)
        except _Spoiled:
            continue
    raise Unavailable(f"{stream} changes too fast to be read: {', '.join(filters)}")


async def _last_by_subjects(
    connection: Connection, stream: str, filters: Sequence[str], up_to_seq: int | None
) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    request: dict[str, Any] = {"multi_last": list(filters)}
    if up_to_seq is not None:
        request["up_to_seq"] = up_to_seq
    while True:
        messages, end = await _batch(connection, stream, request)
        found += messages
        if end.status == 404:
            if found or end.description != "No Results":
                raise _Spoiled
            return found
        if end.status == 413:
            most = limits.MULTI_LAST_SUBJECTS_MAX
            raise TooManySubjects(f"{', '.join(filters)} matches more than {most} subjects of {stream}")
        if int(end.header("Nats-Num-Pending") or 0) == 0:
            return found
        # The server cut the answer by bytes: the rest of the same cut comes next.
        request["seq"] = found[-1].seq + 1
        request["up_to_seq"] = int(end.header("Nats-UpTo-Sequence") or 0)


async def read_from(
    connection: Connection, stream: str, subject_filter: str, seq: int, batch: int
) -> tuple[list[StoredMessage], bool]:
    """At most `batch` messages that match, from `seq` on, ascending; and whether there are more.

    Costs the server a search of its blocks (10 ms and more in a large stream): not for a hot path.
    """
    request = {"next_by_subj": subject_filter, "seq": max(seq, 1), "batch": batch}
    messages, end = await _batch(connection, stream, request)
    return messages, end.status == 204 and int(end.header("Nats-Num-Pending") or 0) > 0


async def get_last(connection: Connection, stream: str, subject: str, *, fresh: bool = False) -> StoredMessage | None:
    """The last message of a subject, None if there is none. `fresh`: from the leader, so it sees every
    stored write."""
    if fresh:
        return await _get_by_leader(connection, stream, {"last_by_subj": subject})
    return await _get_direct(connection, f"{stream}.{subject}", b"")


async def get_by_seq(connection: Connection, stream: str, seq: int, *, fresh: bool = False) -> StoredMessage | None:
    """The message at a sequence, None if it is not there (any more)."""
    if fresh:
        return await _get_by_leader(connection, stream, {"seq": seq})
    return await _get_direct(connection, stream, b'{"seq":%d}' % seq)


async def _get_direct(connection: Connection, target: str, body: bytes) -> StoredMessage | None:
    subject = f"{api_prefix(connection)}.DIRECT.GET.{target}"
    reply = await connection.request(subject, body, API_TIMEOUT_S)
    status = reply.status
    if status == 404:
        return None
    if status:
        raise Unavailable(f"{subject}: {status} {reply.description}")
    return _stored(reply)


async def _get_by_leader(connection: Connection, stream: str, body: dict[str, Any]) -> StoredMessage | None:
    try:
        raw = (await api(connection, f"STREAM.MSG.GET.{stream}", body, _RawReply)).message
    except NotFound:
        return None
    return StoredMessage(raw.subject, raw.seq, time_ms_of(raw.time), raw.data, raw.hdrs)


async def _batch(
    connection: Connection, stream: str, request: dict[str, Any]
) -> tuple[list[StoredMessage], FastMessage]:
    """A batch direct get: its messages, and the status message that ended it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[FastMessage] = loop.create_future()
    messages: list[StoredMessage] = []
    subject = f"{api_prefix(connection)}.DIRECT.GET.{stream}"

    def on_reply(message: FastMessage) -> None:
        if message.headers[8:9] != b" ":
            messages.append(_stored(message))
        elif not done.done():
            done.set_result(message)

    def on_disconnect() -> None:
        if not done.done():
            done.set_exception(ConnectionLost(f"the connection broke before {subject} was answered"))

    reply, close = connection.collect(on_reply)
    remove = connection.on_disconnect(on_disconnect)
    try:
        connection.publish_raw(subject, msgspec.json.encode(request), reply)
        end = await asyncio.wait_for(done, API_TIMEOUT_S)
    except TimeoutError as error:
        raise RequestTimeout(f"no answer on {subject} in time") from error
    finally:
        close()
        remove()
    if end.status == 503:
        raise NoResponders(f"nobody answers on {subject}")
    if end.status in (408, 500):
        raise Unavailable(f"{subject}: {end.status} {end.description}")
    return messages, end


def _stored(message: FastMessage) -> StoredMessage:
    header = message.header
    return StoredMessage(
        header("Nats-Subject") or "",
        int(header("Nats-Sequence") or 0),
        time_ms_of(header("Nats-Time-Stamp") or ""),
        message.data,
        message.headers,
    )
