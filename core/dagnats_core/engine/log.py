"""The run log on NATS: `LogPort` over a connection. Reads and writes; decides nothing."""

from __future__ import annotations

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.errors import TooManySubjects
from dagnats_core.bus.message import FastMessage, StoredMessage
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.read import get_last, last_by_subjects, read_from
from dagnats_core.bus.subjects import Subjects, parse_run_subject
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.ports import Mark, OnInput, RunMessages
from dagnats_core.ids import partition_of
from dagnats_core.run import messages as m
from dagnats_core.run.fold import LogMessage

PAGE_MESSAGES = 500


class RunLog:
    """The run log of a site over one connection. `publisher` must be started."""

    def __init__(self, connection: Connection, publisher: Publisher, topology: Topology) -> None:
        self._connection = connection
        self._publisher = publisher
        self._topology = topology
        self.subjects = Subjects(topology.site)
        self.publish = publisher.publish
        self.publish_batch = publisher.publish_batch

    async def read_run(self, partition: int, run_id: str) -> RunMessages:
        """All messages of a run; of a long one, those since its last snapshot. Empty if the log does not hold it."""
        stream = self._topology.run_stream(partition)
        subject = self.subjects.run_all(partition, run_id)
        try:
            stored = await last_by_subjects(self._connection, stream, [subject])
        except TooManySubjects:
            return await self._read_long_run(stream, partition, run_id)
        return RunMessages([log_message(message) for message in stored])

    async def _read_long_run(self, stream: str, partition: int, run_id: str) -> RunMessages:
        """From the last snapshot on: inputs that it did not know, what was decided since, and the timer."""
        run = self.subjects.run(partition, run_id)
        marks = [f"{run}.out.snapshot.*", self.subjects.timer(partition, run_id)]
        found = {message.seq: message for message in await last_by_subjects(self._connection, stream, marks)}
        snapshots = [message for message in found.values() if ".out.snapshot." in message.subject]
        snapshot = m.decode_snapshot(snapshots[-1].data) if snapshots else None
        if snapshot is not None:
            found |= await self._pages(stream, f"{run}.in.>", snapshot.after + 1)
        found |= await self._pages(stream, f"{run}.>", snapshots[-1].seq + 1 if snapshots else 1)
        return RunMessages([log_message(found[seq]) for seq in sorted(found)], snapshot)

    async def _pages(self, stream: str, subject: str, seq: int) -> dict[int, StoredMessage]:
        """All messages of a filter from `seq` on, by sequence."""
        found: dict[int, StoredMessage] = {}
        more = True
        while more:
            page, more = await read_from(self._connection, stream, subject, seq, PAGE_MESSAGES)
            found |= {message.seq: message for message in page}
            more = more and bool(page)
            seq = page[-1].seq + 1 if page else seq
        return found

    async def holds(self, run_id: str) -> StoredMessage | None:
        """The `in.start` of a run, None if the log does not hold it (any more). From the leader."""
        partition = partition_of(run_id)
        stream = self._topology.run_stream(partition)
        return await get_last(self._connection, stream, self.subjects.start(partition, run_id), fresh=True)

    async def last(self, partition: int, subject: str) -> Mark:
        message = await get_last(self._connection, self._topology.run_stream(partition), subject, fresh=True)
        return Mark(0, b"") if message is None else Mark(message.seq, message.data)

    def inputs(self, partition: int, start_seq: int, on_input: OnInput) -> OrderedReader:
        def on_message(message: FastMessage, seq: int, time_ms: int) -> None:
            on_input(message.subject, seq, message.data)

        stream = self._topology.run_stream(partition)
        return OrderedReader(
            self._connection, stream, [self.subjects.inputs_of(partition)], on_message, start=start_seq
        )


def log_message(message: StoredMessage) -> LogMessage:
    """A stored message of the run log as the fold takes it."""
    kind = parse_run_subject(message.subject).kind
    key = ""
    if kind == "timer":
        target = message.header("Nats-Schedule-Target") or ""
        key = target.rpartition(".")[2]
    return LogMessage(message.seq, kind, message.data, key)
