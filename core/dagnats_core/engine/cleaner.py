"""Cleaning the run log: one purge below the oldest run that still counts, and what is stranded behind a long-lived one.

Runs in the engine that owns partition 0, so somewhere once; twice would do no harm. A run may go when it has ended, is
archived, and the hot time has passed. Nothing above what the cleaner itself has read is ever removed, nor a stamp or a
floor: owners write theirs again from time to time, so that they do not hold the purge back.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import structlog

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.jetstream import StreamInfo, api
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.read import last_by_subjects
from dagnats_core.bus.subjects import Subjects, parse_run_subject
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import DagNatsError
from dagnats_core.ids import partition_of

log = structlog.get_logger("dagnats.cleaner")

STRANDED_PER_ROUND_MAX = 500
"""Runs deleted message by message in one round: 0.1 ms of server time for each message."""


class Ended(NamedTuple):
    run_id: str
    start_seq: int
    ended_seq: int
    ended_at: int


class Ledger:
    """What the cleaner knows of one stream: where each run starts, and which have ended. Pure."""

    def __init__(self) -> None:
        self.read_seq = 0
        self.live: dict[str, int] = {}
        self.ended: deque[Ended] = deque()

    def started(self, run_id: str, seq: int) -> None:
        self.read_seq = seq
        self.live[run_id] = seq

    def end(self, run_id: str, seq: int, at: int) -> None:
        self.read_seq = seq
        start_seq = self.live.pop(run_id, None)
        if start_seq is not None:
            self.ended.append(Ended(run_id, start_seq, seq, at))

    def removable(self, archived_seq: int, before_ms: int) -> list[Ended]:
        """Runs that may go: ended before `before_ms` and archived. In the order of their ends."""
        found = []
        for ended in self.ended:
            if ended.ended_at >= before_ms or ended.ended_seq > archived_seq:
                break
            found.append(ended)
        return found

    def bound(self, archived_seq: int, before_ms: int, marks: list[int]) -> int:
        """Everything below this sequence may be purged."""
        gone = {ended.run_id for ended in self.removable(archived_seq, before_ms)}
        kept = [ended.start_seq for ended in self.ended if ended.run_id not in gone]
        return min([self.read_seq + 1, *self.live.values(), *kept, *marks])

    def purged(self, bound: int) -> None:
        self.ended = deque(ended for ended in self.ended if ended.start_seq >= bound)

    def removed(self, runs: list[Ended]) -> None:
        gone = {ended.run_id for ended in runs}
        self.ended = deque(ended for ended in self.ended if ended.run_id not in gone)


class Cleaner:
    """Cleans the run streams of a site, every `every_s`, while `on_duty()` says that it is this process's task."""

    def __init__(
        self,
        connection: Connection,
        topology: Topology,
        partitions: int,
        on_duty: Callable[[], bool],
        *,
        hot_ms: int = limits.HOT_MS_MIN,
        every_s: float = 30.0,
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._subjects = Subjects(topology.site)
        self._partitions = partitions
        self._on_duty = on_duty
        self._hot_ms = hot_ms
        self._every_s = every_s
        self._ledgers: dict[str, Ledger] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            if not self._on_duty():
                self._ledgers.clear()
                continue
            try:
                await self.round()
            except DagNatsError as error:
                log.warning("cannot clean the run log now", error=str(error))
            except Exception:
                log.exception("cleaning the run log failed")

    async def round(self) -> int:
        """One look at each stream; how many runs were removed."""
        removed = 0
        for shard, stream in enumerate(self._topology.run_streams):
            info = await api(self._connection, f"STREAM.INFO.{stream}", None, StreamInfo)
            if info.state.messages:
                removed += await self._clean(shard, stream, info)
        return removed

    async def _clean(self, shard: int, stream: str, info: StreamInfo) -> int:
        ledger = self._ledgers.setdefault(stream, Ledger())
        await self._read(ledger, stream, info.state.last_seq)
        archived_seq = await self._archived(shard, stream)
        before_ms = time.time_ns() // 1_000_000 - self._hot_ms
        removable = ledger.removable(archived_seq, before_ms)
        if not removable:
            return 0
        marks = await self._marks(shard, stream)
        bound = ledger.bound(archived_seq, before_ms, marks)
        if bound > info.state.first_seq:
            await api(self._connection, f"STREAM.PURGE.{stream}", {"seq": bound}, msgspec.Raw)
            log.info("purged the run log", stream=stream, below=bound)
        stranded = [ended for ended in removable if ended.start_seq >= bound]
        ledger.purged(bound)
        for ended in stranded[:STRANDED_PER_ROUND_MAX]:
            await self._delete_run(stream, ended)
        ledger.removed(stranded[:STRANDED_PER_ROUND_MAX])
        return len(removable) - max(0, len(stranded) - STRANDED_PER_ROUND_MAX)

    async def _read(self, ledger: Ledger, stream: str, last_seq: int) -> None:
        """Take in the starts and ends that were stored since the last round."""

        def on_message(message: FastMessage, seq: int, time_ms: int) -> None:
            parsed = parse_run_subject(message.subject)
            if parsed.kind == "in.start":
                ledger.started(parsed.run_id, seq)
            else:
                ledger.end(parsed.run_id, seq, time_ms)

        filters = [self._subjects.all_starts(), self._subjects.all_ended()]
        reader = OrderedReader(
            self._connection, stream, filters, on_message, start=ledger.read_seq + 1, headers_only=True
        )
        await reader.start()
        try:
            await reader.caught_up.wait()
        finally:
            await reader.stop()
        ledger.read_seq = max(ledger.read_seq, last_seq)

    async def _archived(self, shard: int, stream: str) -> int:
        """Up to which sequence of `stream` the archive has its ends: the server copies them in order."""
        subjects = [self._subjects.archive(p) for p in self._of_shard(shard)]
        copies = await last_by_subjects(self._connection, self._topology.archive_stream, subjects)
        seqs = [0]
        for copy in copies:
            origin = (copy.header("Nats-Stream-Source") or "").split(" ")
            if len(origin) >= 2 and origin[0].split(":")[0] == stream and origin[1].isdigit():
                seqs.append(int(origin[1]))
        return max(seqs)

    async def _marks(self, shard: int, stream: str) -> list[int]:
        filters = [self._subjects.own(p) for p in self._of_shard(shard)]
        filters += [self._subjects.floor(p) for p in self._of_shard(shard)]
        return [message.seq for message in await last_by_subjects(self._connection, stream, filters)]

    def _of_shard(self, shard: int) -> range:
        return range(shard, self._partitions, self._topology.shards)

    async def _delete_run(self, stream: str, ended: Ended) -> None:
        """Message by message, ascending, so that `out.ended` goes last: a reader in between sees an ended run."""
        partition = partition_of(ended.run_id)
        found = await last_by_subjects(self._connection, stream, [self._subjects.run_all(partition, ended.run_id)])
        for message in sorted(found, key=lambda stored: stored.seq):
            body = {"seq": message.seq, "no_erase": True}
            await api(self._connection, f"STREAM.MSG.DELETE.{stream}", body, msgspec.Raw)
