"""Keys and values on a stream, laid out as NATS KV buckets (ADR-8), so that `nats kv` reads them. Raw
messages only.

Values are bytes: what they mean is the caller's affair. Every write is awaited; reads are direct unless
`fresh`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.errors import TooManySubjects, WrongSequence
from dagnats_core.bus.message import FastMessage, StoredMessage, find_header, header_block
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.read import get_last, last_by_subjects
from dagnats_core.errors import TimedOut

ENTRIES_TIMEOUT_S = 10.0


class Entry(msgspec.Struct, frozen=True):
    """One key as it stands. `revision` is the sequence of its write; `deleted` if that was a delete or an
    expiry."""

    key: str
    value: bytes
    revision: int
    time_ms: int
    deleted: bool = False


class Bucket:
    """One bucket. Keys are subject tokens joined by dots, checked by whoever builds them."""

    def __init__(self, connection: Connection, publisher: Publisher, name: str) -> None:
        self._connection = connection
        self._publisher = publisher
        self.name = name
        self.stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        # `$KV` does not cross to another JetStream domain; the domain's API takes it there (ADR-8).
        domain = connection.options.domain
        self._write_prefix = f"$JS.{domain}.API.{self._prefix}" if domain else self._prefix

    async def get(self, key: str, *, fresh: bool = False) -> Entry | None:
        """The key as it stands, None if it is not there. `fresh`: from the leader, so it sees every write."""
        entry = await self._last(key, fresh=fresh)
        return None if entry is None or entry.deleted else entry

    async def put(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        """Write whatever stands; the new revision. `ttl_s`: the key goes away after so many seconds (at
        least 1)."""
        return await self._write(key, value, None, ttl_s)

    async def create(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        """Write a key that is not there; its revision. Raises WrongSequence if it is."""
        try:
            return await self._write(key, value, 0, ttl_s)
        except WrongSequence:
            entry = await self._last(key, fresh=True)
            if entry is not None and not entry.deleted:
                raise
            return await self._write(key, value, entry.revision if entry else 0, ttl_s)

    async def update(self, key: str, value: bytes, revision: int, *, ttl_s: int | None = None) -> int:
        """Write a key that stands at `revision`; the new revision. Raises WrongSequence if it does not."""
        return await self._write(key, value, revision, ttl_s)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Delete a key; its tombstone goes away by itself. With `revision`: raises WrongSequence if it has
        moved on."""
        block = b"KV-Operation: PURGE\r\nNats-Rollup: sub\r\nNats-TTL: 1s\r\n"
        await self._publisher.publish(self._write_prefix + key, b"", block + _expect(revision))

    async def entries(self, keys: str = ">") -> dict[str, Entry]:
        """All keys that match (`a.*`, `a.>`), in one request while they are at most 1,024; by a reader
        above that."""
        subject = self._prefix + keys
        try:
            stored = await last_by_subjects(self._connection, self.stream, [subject])
        except TooManySubjects:
            return await self._entries_by_reader(keys)
        found = [self._entry(message) for message in stored]
        return {entry.key: entry for entry in found if not entry.deleted}

    def watch(self, keys: str, on_entry: Callable[[Entry], None]) -> OrderedReader:
        """A reader that calls `on_entry` with each key that matches as it stands, and then with every change.

        Start and stop it; `caught_up` is set when the first pass is through. After a gap, changes of one
        key may come as one.
        """

        def on_message(message: FastMessage, seq: int, time_ms: int) -> None:
            key = message.subject[len(self._prefix) :]
            on_entry(Entry(key, message.data, seq, time_ms, _is_tombstone(message.headers)))

        return OrderedReader(self._connection, self.stream, [self._prefix + keys], on_message, start="last_per_subject")

    async def _entries_by_reader(self, keys: str) -> dict[str, Entry]:
        found: dict[str, Entry] = {}

        def on_entry(entry: Entry) -> None:
            if entry.deleted:
                found.pop(entry.key, None)
            else:
                found[entry.key] = entry

        reader = self.watch(keys, on_entry)
        await reader.start()
        try:
            await asyncio.wait_for(reader.caught_up.wait(), ENTRIES_TIMEOUT_S)
        except TimeoutError as error:
            raise TimedOut(f"{self.name}: reading {keys} took more than {ENTRIES_TIMEOUT_S:g} s") from error
        finally:
            await reader.stop()
        return found

    async def _write(self, key: str, value: bytes, revision: int | None, ttl_s: int | None) -> int:
        block = _expect(revision)
        if ttl_s is not None:
            block += header_block({"Nats-TTL": f"{ttl_s}s"})
        return (await self._publisher.publish(self._write_prefix + key, value, block)).seq

    async def _last(self, key: str, *, fresh: bool) -> Entry | None:
        message = await get_last(self._connection, self.stream, self._prefix + key, fresh=fresh)
        return None if message is None else self._entry(message)

    def _entry(self, message: StoredMessage) -> Entry:
        key = message.subject[len(self._prefix) :]
        return Entry(key, message.data, message.seq, message.time_ms, _is_tombstone(message.headers))


def _expect(revision: int | None) -> bytes:
    return b"" if revision is None else b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % revision


def _is_tombstone(headers: bytes) -> bool:
    """Deleted or purged by somebody, or expired (the server's own marker)."""
    return bool(headers) and (
        find_header(headers, "KV-Operation") in ("DEL", "PURGE")
        or find_header(headers, "Nats-Marker-Reason") is not None
    )
