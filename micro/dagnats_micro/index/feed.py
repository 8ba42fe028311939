"""What the index reads: run-level messages of the log, and whose each archived copy is. Fills `Rows`, writes nothing.

The archive is first read with bodies (a process that was away, or starts without a file, needs them), then by headers
alone: what ended while this process watched is known already. When memory is full messages are let go, and read again
when there is room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import DagNatsError
from dagnats_micro.index.rows import Rows, copy_of

ROWS_MAX = 100_000
"""Rows in memory above which messages are let go."""

RETRY_S = 1.0

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
        self._subjects = Subjects(topology.site)
        self._on_end = on_end
        self._readers: dict[str, OrderedReader] = {}
        self._following: asyncio.Task[None] | None = None
        self._bodies_wanted = True
        self._gaps = 0
        self._let_go: set[str] = set()
        self._resumed = asyncio.Event()
        self.rows = Rows(positions)
        self.filled = asyncio.Event()
        """Set when `rows` holds something."""
        self.complete = asyncio.Event()
        """Set once log and archive have been read to their end."""
        self.sure = False
        """True while nothing can have been missed since `complete`."""
        self.lost = asyncio.Event()
        """Set when the log lost messages that were read: the rows are to be made anew."""

    @property
    def full(self) -> bool:
        """Messages are being let go: `rows` must be taken, and `resume` called."""
        return bool(self._let_go)

    async def start(self) -> None:
        for stream in self._topology.run_streams:
            await self._open(stream)
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
        """Return when all that was stored before this call stands in `rows`, stood there before a `take`, or was let
        go."""
        await self.complete.wait()
        gaps = self._gaps
        for reader in list(self._readers.values()):
            await reader.catch_up()
        self.sure = gaps == self._gaps

    async def resume(self) -> None:
        """Read again what was let go."""
        for stream in list(self._let_go):
            await self._readers[stream].stop()
            self._let_go.discard(stream)
            try:
                await self._open(stream)
            except BaseException:
                self._let_go.add(stream)
                raise
        self._resumed.set()

    async def _follow_archive(self) -> None:
        while True:
            try:
                await self._begin_archive()
                return
            except DagNatsError as error:
                log.warning("the archive cannot be read now", error=error.message)
                await asyncio.sleep(RETRY_S)

    async def _begin_archive(self) -> None:
        for stream in self._topology.run_streams:
            await self._read_to_its_end(stream)
        archive = self._topology.archive_stream
        await self._open(archive)
        await self._read_to_its_end(archive)
        self._bodies_wanted = False
        await self._open(archive)
        self.sure = self._gaps == 0
        self.complete.set()

    async def _read_to_its_end(self, stream: str) -> None:
        while True:
            await self._readers[stream].caught_up.wait()
            if stream not in self._let_go:
                return
            self._resumed.clear()
            await self._resumed.wait()

    async def _open(self, stream: str) -> None:
        """Read `stream` behind its position, by a new reader."""
        if stream in self._readers:
            await self._readers[stream].stop()
        take, filters, headers_only = self._on_log_message, self._log_filters(), False
        if stream == self._topology.archive_stream:
            take = self._on_copy_with_body if self._bodies_wanted else self._on_copy
            filters, headers_only = [f"{self._subjects.prefix}.archive.>"], not self._bodies_wanted

        def on_message(message: FastMessage, seq: int, _: int) -> None:
            if stream in self._let_go or len(self.rows) >= ROWS_MAX:
                self._let_go.add(stream)
                self._on_gap()
                return
            take(stream, message, seq)
            if not self.filled.is_set():
                self.filled.set()

        def on_gap(_: str) -> None:
            self._on_gap()
            # An archive that lost copies gets them again: they come once more, with the sequences that they have now.
            if reader.went_back and stream in self._topology.run_streams:
                self.lost.set()

        start = self.rows.positions.get(stream, 0) + 1
        reader = OrderedReader(
            self._connection, stream, filters, on_message, start=start, on_gap=on_gap, headers_only=headers_only
        )
        await reader.start()
        self._readers[stream] = reader

    def _on_gap(self) -> None:
        self._gaps += 1
        self.sure = False

    def _log_filters(self) -> list[str]:
        return [self._subjects.all_starts(), self._subjects.all_ended(), self._subjects.all_parked()]

    def _on_log_message(self, stream: str, message: FastMessage, seq: int) -> None:
        try:
            ended = self.rows.take_message(stream, message.subject, seq, message.data)
        except ValueError:
            log.exception("a message of the run log cannot be read", subject=message.subject, seq=seq)
            return
        if ended is not None:
            self._on_end(ended, message.data)

    def _on_copy(self, stream: str, message: FastMessage, seq: int) -> None:
        copy = copy_of(message.headers, seq)
        if copy is not None:
            self.rows.take_copy(stream, copy)

    def _on_copy_with_body(self, stream: str, message: FastMessage, seq: int) -> None:
        self.rows.positions[stream] = seq
        copy = copy_of(message.headers, seq)
        if copy is None:
            return
        try:
            self.rows.take_end(copy.run_id, message.data, seq)
        except ValueError:
            log.exception("an archived run cannot be read", run_id=copy.run_id, seq=seq)
