"""The visibility index at work: opens its file, writes what the feed reads, answers questions, forgets.

    run streams: in.start, out.ended, out.parked ──▶ rows in memory ──(one transaction)──▶ SQLite ──▶ lists, counts
    archive:     which sequence is which run     ──▶

Rows wait in memory for half a second, so that the start and the end of a short run are one write. A question first
waits until the index has what was stored before it. Never the truth: whoever needs one run reads the log.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import msgspec
import structlog

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.jetstream import StreamState, api
from dagnats_core.bus.read import get_by_seq
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.fresh import FreshReads
from dagnats_core.engine.ports import PayloadsPort
from dagnats_core.errors import DagNatsError, NotFound, Unavailable
from dagnats_core.lifecycle import ServiceBase
from dagnats_core.run import messages as m
from dagnats_micro.index import query
from dagnats_micro.index.feed import Feed
from dagnats_micro.index.rows import Rows, copy_of
from dagnats_micro.index.store import Batch, IndexStore, RunRow

FLUSH_S = 0.5
FLUSH_ROWS = 2_000
FLUSH_PAUSE_S = 0.1
"""Least time between two writes for the sake of questions, while there is much to write."""
FLUSH_AT_ONCE_ROWS = 200
CATCH_UP_S = 1.0
"""How long a question waits for the index; then it is told how old the answer is."""
SURE_S = 3.0
"""How long one attempt to catch up may take, and how long a start with a request id waits for it."""
RETRY_S = 1.0
RETENTION_EVERY_S = 60.0
DROP_ROWS = 2_000
BODIES_IN_FLIGHT = 64

T = TypeVar("T")
log = structlog.get_logger("dagnats.index")


class _StreamInfo(msgspec.Struct):
    created: str
    state: StreamState


class Index(ServiceBase):
    """One process's index. `directory`: where its file stays over restarts; None = it is built anew each time."""

    _store: IndexStore
    _writer: ThreadPoolExecutor
    _reader: ThreadPoolExecutor

    def __init__(
        self,
        connection: Connection,
        topology: Topology,
        site_id: str,
        payloads: PayloadsPort,
        directory: Path | None = None,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._topology = topology
        self._site_id = site_id
        self._payloads = payloads
        self._directory = directory
        self._exit = AsyncExitStack()
        self._ends: dict[str, list[asyncio.Future[bytes]]] = {}
        self._feed = Feed(connection, topology, {}, self._on_end)
        self._writing = Rows({})
        self._turn = asyncio.Lock()
        self._catching_up: FreshReads[None, None] = FreshReads(self._catch_up)
        self._current_at = time.monotonic()
        self._flushed_at = 0.0

    # -- life

    async def _start(self) -> None:
        directory = self._directory or Path(self._exit.enter_context(TemporaryDirectory(prefix="dagnats-index-")))
        directory.mkdir(parents=True, exist_ok=True)
        self._writer = ThreadPoolExecutor(1, "dagnats-index-write")
        self._exit.callback(self._writer.shutdown)
        self._reader = ThreadPoolExecutor(2, "dagnats-index-read")
        self._exit.callback(self._reader.shutdown)

        def store(identity: str, usable: Callable[[dict[str, int]], bool]) -> None:
            self._store = IndexStore(directory / "index.sqlite", identity, usable)
            self._exit.callback(self._store.close)

        await self._open(store)
        self._exit.push_async_callback(lambda: self._feed.stop())
        tasks = [asyncio.create_task(work()) for work in (self._flush_forever, self._retain_forever, self._mend)]
        self._exit.push_async_callback(_end, tasks)

    async def _stop(self) -> None:
        await self._exit.aclose()

    async def _open(self, store: Callable[[str, Callable[[dict[str, int]], bool]], None]) -> None:
        """Have the file opened or made anew by `store`; begin to read behind it."""
        archive = self._topology.archive_stream
        streams = [*self._topology.run_streams, archive]
        infos = {stream: await self._stream_info(stream) for stream in streams}
        identity = " ".join([self._site_id, *(f"{name}@{info.created}" for name, info in infos.items())])

        def usable(positions: dict[str, int]) -> bool:
            """Whether the streams still hold what is behind these positions."""
            behind_the_end = all(positions.get(name, 0) <= infos[name].state.last_seq for name in streams[:-1])
            return behind_the_end and positions.get(archive, 0) + 1 >= infos[archive].state.first_seq

        await self._in_writer(lambda: store(identity, usable))
        positions = await self._in_writer(lambda: self._store.positions())
        positions[archive] = min(positions.get(archive, 0), infos[archive].state.last_seq)
        self._feed = Feed(self._connection, self._topology, positions, self._on_end)
        try:
            await self._feed.start()
        except BaseException:
            await self._feed.stop()
            raise

    async def _stream_info(self, stream: str) -> _StreamInfo:
        return await api(self._connection, f"STREAM.INFO.{stream}", None, _StreamInfo)

    async def _in_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _in_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    async def _mend(self) -> None:
        """When the log lost messages that rows stand for, make all rows anew."""
        while True:
            await self._feed.lost.wait()
            log.warning("the run log lost messages: the index is built anew")
            async with self._turn:
                await self._feed.stop()
                await _persist(lambda: self._open(lambda identity, _: self._store.reset(identity)))

    # -- questions

    async def list_runs(self, wanted: query.RunQuery, limit: int) -> tuple[list[RunRow], int]:
        """A page, newest first; and how old it is (ms), 0 if it has all that was stored before this call."""
        age_ms = await self.age_ms()
        return await self._in_reader(lambda: query.list_runs(self._store, wanted, limit)), age_ms

    async def count_runs(self, wanted: query.RunQuery) -> int:
        await self.age_ms()
        return await self._in_reader(lambda: query.count_runs(self._store, wanted))

    async def list_dead(self, wanted: query.DeadQuery, limit: int) -> list[query.DeadLetterRow]:
        """Dead letters, newest first."""
        await self.age_ms()
        return await self._in_reader(lambda: query.list_dead(self._store, wanted, limit))

    async def find_dead(self, run_id: str) -> query.DeadLetterRow | None:
        await self.age_ms()
        return await self._in_reader(lambda: query.find_dead(self._store, run_id))

    def find(self, run_id: str) -> RunRow | None:
        """What the index knows of a run now; costs some 10 us."""
        waiting = (self._feed.rows, self._writing)
        row = next((rows.runs[run_id] for rows in waiting if run_id in rows.runs), None)
        row = row or query.find_run(self._store, run_id)
        if row is not None and row.archive_seq is None:
            row.archive_seq = next((rows.archived[run_id] for rows in waiting if run_id in rows.archived), None)
        return row

    async def find_surely(self, run_id: str) -> RunRow | None:
        """`find`, and None means that no run of that id has ended and left the log. Raises Unavailable while the index
        cannot say so: while it is being built, or after a cut."""
        row = self.find(run_id)
        if row is not None or self._feed.sure:
            return row
        try:
            async with asyncio.timeout(SURE_S):
                await self._catching_up.get(None)
        except TimeoutError as error:
            raise Unavailable("the index of runs is being built: try again") from error
        return self.find(run_id)

    def end_of(self, run_id: str) -> asyncio.Future[bytes]:
        """The body of the run's `out.ended`, once it comes. Cancel it when it is not waited for any more."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._ends.setdefault(run_id, []).append(future)
        future.add_done_callback(lambda _: self._forget(run_id, future))
        return future

    def _on_end(self, run_id: str, body: bytes) -> None:
        for future in self._ends.get(run_id, ()):
            if not future.done():
                future.set_result(body)

    def _forget(self, run_id: str, future: asyncio.Future[bytes]) -> None:
        futures = self._ends[run_id]
        futures.remove(future)
        if not futures:
            del self._ends[run_id]

    async def age_ms(self) -> int:
        """Wait until the index has what is stored now; 0, or how old it is (ms) if that takes too long."""
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await self._catching_up.get(None)
        except (TimeoutError, DagNatsError):
            return max(1, round((time.monotonic() - self._current_at) * 1000))
        return 0

    async def _catch_up(self, _: None) -> None:
        began = time.monotonic()
        if len(self._feed.rows) > FLUSH_AT_ONCE_ROWS:
            await asyncio.sleep(self._flushed_at + FLUSH_PAUSE_S - began)
        while True:
            async with asyncio.timeout(SURE_S):  # a reader that was replaced meanwhile never catches up
                await self._feed.catch_up()
            let_go = self._feed.full
            await self._flush()
            if not let_go:
                break
        self._current_at = began

    # -- writing

    async def _flush_forever(self) -> None:
        while True:
            await self._feed.filled.wait()
            await asyncio.sleep(FLUSH_S if len(self._feed.rows) < FLUSH_ROWS else 0)
            await self._flush()

    async def _flush(self) -> None:
        async with self._turn:
            if not self._feed.filled.is_set():
                return
            self._writing = self._feed.take()
            await _persist(lambda: self._settle(self._writing))
            self._writing = Rows({})
            self._flushed_at = time.monotonic()
            await _persist(self._feed.resume)

    async def _settle(self, rows: Rows) -> None:
        """Write `rows`, after reading what they only name: archived ends not seen before, and large final records."""
        if rows.archived:
            unseen = await self._in_writer(lambda: self._store.not_ended(list(rows.archived.items())))
            for at in range(0, len(unseen), BODIES_IN_FLIGHT):
                await asyncio.gather(*(self._take_copy(rows, seq) for seq in unseen[at : at + BODIES_IN_FLIGHT]))
        while rows.large:
            ref, archive_seq = rows.large[-1]
            with suppress(NotFound):
                rows.take_final(m.decode_final(await self._payloads.get(ref)), archive_seq)
            rows.large.pop()
        runs, dead = list(rows.runs.values()), list(rows.dead.values())
        batch = Batch(runs, dead, list(rows.archived.items()), rows.positions)
        await self._in_writer(lambda: self._store.apply(batch))

    async def _take_copy(self, rows: Rows, seq: int) -> None:
        message = await get_by_seq(self._connection, self._topology.archive_stream, seq)
        copy = copy_of(message.headers, seq) if message is not None else None
        if message is not None and copy is not None:
            rows.take_end(copy.run_id, message.data, seq)

    async def _retain_forever(self) -> None:
        """Forget runs whose record the archive has dropped."""
        while True:
            await asyncio.sleep(RETENTION_EVERY_S)
            with suppress(DagNatsError, sqlite3.Error):
                await self.retain()

    async def retain(self) -> int:
        """Forget now; how many runs that were."""
        first_seq = (await self._stream_info(self._topology.archive_stream)).state.first_seq
        dropped = 0
        while count := await self._in_writer(lambda: self._store.drop_archived_below(first_seq, DROP_ROWS)):
            dropped += count
        return dropped


async def _persist(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do `work` until it succeeds: what it needs (disk, JetStream) is away for a while at worst."""
    while True:
        try:
            await work()
            return
        except (sqlite3.Error, OSError, DagNatsError) as error:
            log.warning("the index cannot go on now", error=str(error))
            await asyncio.sleep(RETRY_S)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
