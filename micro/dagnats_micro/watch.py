"""What happens in a run, as it happens: each watched run is read once a process, by one reader for all its watchers.

    first look  -> multi_last of the run (a fraction of a millisecond); answered at once if it has something new
    a wait      -> the run becomes watched: a reader goes on behind that look and wakes whoever waits
    nobody asks -> the reader is dropped after IDLE_S

A run with more subjects than multi_last answers is read by a reader from its first message. One that has left the log
is told from its record in the archive.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from dagnats_core import ids, limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.errors import TooManySubjects
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.read import last_by_subjects
from dagnats_core.bus.subjects import Subjects, parse_run_subject
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import Busy, DagNatsError, NotFound
from dagnats_core.lifecycle import ServiceBase
from dagnats_micro.events import History, Page, events_of_record
from dagnats_micro.runner import Pool
from dagnats_micro.runs import Runs

IDLE_S = 10.0
FIRST_READING_S = 4.0
"""How long the first reading of a very long run may keep its first watcher waiting."""

log = structlog.get_logger("dagnats.watch")


class _Watched:
    """One run that is being read."""

    def __init__(self) -> None:
        self.history = History()
        self.waiting: set[asyncio.Future[None]] = set()
        self.watchers = 0
        self.idle_since = 0.0
        self.reader: OrderedReader | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the reader has been opened, or could not be."""

    def take(self, message: FastMessage, seq: int, _: int) -> None:
        if self.history.take(seq, parse_run_subject(message.subject).kind, message.data):
            waiting, self.waiting = self.waiting, set()
            for future in waiting:
                if not future.done():
                    future.set_result(None)


class Watches(ServiceBase):
    """The runs that this process watches, at most `limits.WATCHED_RUNS_MAX`."""

    def __init__(self, connection: Connection, topology: Topology, runs: Runs, pool: Pool) -> None:
        super().__init__()
        self._connection = connection
        self._pool = pool
        self._topology = topology
        self._subjects = Subjects(topology.site)
        self._runs = runs
        self._loop = asyncio.get_running_loop()
        self._watched: dict[str, _Watched] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep(), name="watch-sweep")

    async def _stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait({self._sweeper})
        for run_id in list(self._watched):
            await self._drop(run_id)

    async def read(self, run_id: str, after: int, limit: int, wait_s: float) -> Page:
        """Events behind `after`: at once if there are any or the run has ended, else when there are, or after `wait_s`.

        Raises NotFound, and Busy if too many requests wait or too many runs are watched.
        """
        watched = self._watched.get(run_id)
        history = watched.history if watched is not None and watched.ready.done() else await self._look(run_id)
        page = history.page(after, limit) if history is not None else await self._watched_page(run_id, after, limit)
        if page.items or page.ended or wait_s <= 0:
            return page
        return await self._wait(run_id, history, after, limit, wait_s)

    async def _look(self, run_id: str) -> History | None:
        """The events so far; None if there are too many to be had in one request. Raises NotFound."""
        partition = ids.partition_of(run_id)
        filters = [self._subjects.run_all(partition, run_id)]
        try:
            stored = await last_by_subjects(self._connection, self._topology.run_stream(partition), filters)
        except TooManySubjects:
            return None
        history = History()
        for message in stored:
            history.take(message.seq, parse_run_subject(message.subject).kind, message.data)
        if not stored:
            archived = await self._runs.find_archived(run_id)
            if archived is None:
                raise NotFound(f"there is no run {run_id}")
            history.add(events_of_record(archived.ended_seq, archived.final))
        return history

    async def _watched_page(self, run_id: str, after: int, limit: int) -> Page:
        """A page of a very long run: it is watched from its beginning on."""
        watched = await self._watch(run_id, None)
        try:
            assert watched.reader is not None
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_READING_S):
                    await watched.reader.catch_up()
            return watched.history.page(after, limit)
        finally:
            self._leave(watched)

    async def _wait(self, run_id: str, history: History | None, after: int, limit: int, wait_s: float) -> Page:
        watched = await self._watch(run_id, history)
        try:
            page = watched.history.page(after, limit)
            if not page.items and not page.ended:
                changed: asyncio.Future[None] = self._loop.create_future()
                watched.waiting.add(changed)
                await self._pool.wait(changed, wait_s)
                watched.waiting.discard(changed)
                page = watched.history.page(after, limit)
            return page
        finally:
            self._leave(watched)

    async def _watch(self, run_id: str, history: History | None) -> _Watched:
        """The run, being read and kept so until `_leave`; behind `history`, if nobody reads it yet."""
        watched = self._watched.get(run_id)
        if watched is None:
            if len(self._watched) >= limits.WATCHED_RUNS_MAX:
                raise Busy(f"more than {limits.WATCHED_RUNS_MAX} runs are watched (WATCHED_RUNS_MAX)")
            watched = self._watched[run_id] = _Watched()
            watched.watchers += 1
            try:
                await self._open(run_id, watched, history)
            except BaseException as error:
                self._watched.pop(run_id, None)
                watched.ready.set_exception(error if isinstance(error, DagNatsError) else Busy("ask again"))
                watched.ready.exception()
                raise
            watched.ready.set_result(None)
            return watched
        watched.watchers += 1
        try:
            await asyncio.shield(watched.ready)
        except BaseException:
            self._leave(watched)
            raise
        return watched

    async def _open(self, run_id: str, watched: _Watched, history: History | None) -> None:
        if history is not None:
            watched.history = history
        partition = ids.partition_of(run_id)
        watched.reader = OrderedReader(
            self._connection,
            self._topology.run_stream(partition),
            [self._subjects.run_all(partition, run_id)],
            watched.take,
            start=watched.history.last_seq + 1,
        )
        await watched.reader.start()

    def _leave(self, watched: _Watched) -> None:
        watched.watchers -= 1
        watched.idle_since = self._loop.time()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S / 2)
            for run_id, watched in list(self._watched.items()):
                if not watched.watchers and self._loop.time() - watched.idle_since >= IDLE_S:
                    await self._drop(run_id)

    async def _drop(self, run_id: str) -> None:
        watched = self._watched.pop(run_id)
        if watched.reader is not None:
            await watched.reader.stop()
