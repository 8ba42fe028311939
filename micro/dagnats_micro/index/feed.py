"""What the index reads: run-level messages of the log, and whose each archived copy is. Fills `Rows`, writes nothing.

The archive is first read with bodies (a process that was away, or starts without a file, needs them), then by headers
alone: what ended while this process watched is known already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_micro.index.rows import Rows, copy_of

ROWS_MAX = 100_000
"""Rows in memory above which messages are let go, to be read again when the file has caught up."""

log = structlog.get_logger("dagnats.index")


class Feed:
    """Reads behind `positions`, fills `rows`. One reader a run stream, one for the archive.

    `on_end(run id, body)` is told of each `out.ended` of the log.
    """

    def __init__(
        self,
        connection: Connection,
        topology: Topology,
        positions: dict[str, int],
        on_end: Callable[[str, bytes], None],
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._on_end = on_end
        self._readers: dict[str, OrderedReader] = {}
        self._following: asyncio.Task[None] | None = None
        self._overflowing = False
        self.rows = Rows(positions)
        self.filled = asyncio.Event()
        """Set when `rows` holds something."""
        self.complete = asyncio.Event()
        """Set once log and archive have been read to their end."""
        self.sure = False
        """True while nothing can have been missed since `complete`."""
        self.lost = asyncio.Event()
        """Set when the log lost messages that were read: the rows are to be made anew."""

    async def start(self) -> None:
        for stream in self._topology.run_streams:
            await self._read_log(stream)
        self._following = asyncio.create_task(self._follow_archive(), name="index-archive")

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        for reader in self._readers.values():
            await reader.stop()
        self._readers.clear()

    def take(self) -> Rows:
        """The rows so far; new ones gather from here on."""
        taken, self.rows = self.rows, Rows(dict(self.rows.positions))
        self.filled.clear()
        return taken

    async def catch_up(self) -> None:
        """Return when all that was stored before this call stands in `rows`, or did before a `take`."""
        await self.complete.wait()
        self.sure = True
        for reader in list(self._readers.values()):
            await reader.catch_up()

    async def resume(self) -> None:
        """After an overflow, once there is room: read again what was let go."""
        if not self._overflowing:
            return
        self._overflowing = False
        for stream in self._topology.run_streams:
            await self._readers.pop(stream).stop()
            await self._read_log(stream)
        if self.complete.is_set():
            await self._readers.pop(self._topology.archive_stream).stop()
            await self._read_archive(headers_only=True)

    async def _read_log(self, stream: str) -> None:
        subjects = Subjects(self._topology.site)
        filters = [subjects.all_starts(), subjects.all_ended(), subjects.all_parked()]
        await self._open(stream, filters, partial(self._on_message, stream), headers_only=False)

    async def _follow_archive(self) -> None:
        for reader in list(self._readers.values()):
            await reader.caught_up.wait()
        reader = await self._read_archive(headers_only=False)
        await reader.caught_up.wait()
        await reader.stop()
        await self._read_archive(headers_only=True)
        self.sure = True
        self.complete.set()

    async def _read_archive(self, *, headers_only: bool) -> OrderedReader:
        on_copy = self._on_copy if headers_only else self._on_copy_with_body
        stream = self._topology.archive_stream
        return await self._open(stream, [f"{Subjects(self._topology.site).prefix}.archive.>"], on_copy, headers_only)

    async def _open(
        self, stream: str, filters: list[str], take: Callable[[FastMessage, int], None], headers_only: bool
    ) -> OrderedReader:
        def on_message(message: FastMessage, seq: int, _: int) -> None:
            if self._overflowing or len(self.rows) >= ROWS_MAX:
                self._overflowing = True
                return
            take(message, seq)
            if not self.filled.is_set():
                self.filled.set()

        def on_gap(reason: str) -> None:
            self.sure = False
            # An archive that lost copies gets them again: they come once more, with the sequences that they have now.
            if reader.went_back and stream in self._topology.run_streams:
                self.lost.set()

        start = self.rows.positions.get(stream, 0) + 1
        reader = OrderedReader(
            self._connection,
            stream,
            filters,
            on_message,
            start=start,
            on_gap=on_gap,
            headers_only=headers_only,
        )
        await reader.start()
        self._readers[stream] = reader
        return reader

    def _on_message(self, stream: str, message: FastMessage, seq: int) -> None:
        try:
            ended = self.rows.take_message(stream, message.subject, seq, message.data)
        except ValueError:
            log.exception("a message of the run log cannot be read", subject=message.subject, seq=seq)
            return
        if ended is not None:
            self._on_end(ended, message.data)

    def _on_copy(self, message: FastMessage, seq: int) -> None:
        copy = copy_of(message.headers, seq)
        if copy is not None:
            self.rows.take_copy(self._topology.archive_stream, copy)

    def _on_copy_with_body(self, message: FastMessage, seq: int) -> None:
        copy = copy_of(message.headers, seq)
        if copy is None:
            return
        self.rows.positions[self._topology.archive_stream] = seq
        try:
            self.rows.take_end(copy.run_id, message.data, seq)
        except ValueError:
            log.exception("an archived run cannot be read", run_id=copy.run_id, seq=seq)
