"""What the rest of the system does to the run log: starts and cancels through group commit, archive, cleaning."""

from __future__ import annotations

import asyncio

import msgspec

from dagnats_core.bus.errors import WrongSequence
from dagnats_core.bus.message import StoredMessage
from dagnats_core.bus.publish import OutMessage
from dagnats_core.bus.subjects import parse_run_subject
from dagnats_core.engine.cleaner import Ended, Ledger
from dagnats_core.engine.committer import Committer
from dagnats_core.ids import partition_of
from dagnats_core.run import messages as m
from tests.fault.clockwork import EPOCH_MS, Process, World
from tests.fault.network import Network
from tests.fault.truth import Truth
from tests.fault.wiring import SimLog

NEW = b"Nats-Expected-Last-Subject-Sequence: 0\r\n"


class RunSpec(msgspec.Struct):
    """A run that a client starts at `at` (and again at each of `again`), and cancels at `cancel_at` if not negative."""

    run_id: str
    start: m.Start
    at: float
    again: list[float]
    cancel_at: float = -1.0


class Clients:
    """Clients and the API process that they speak to: whatever is not confirmed is asked again."""

    def __init__(self, world: World, network: Network, truth: Truth, synced: bool) -> None:
        self.world = world
        self.network = network
        self.truth = truth
        self.archive: dict[str, int] = {}
        self.process = Process(world, "api")
        self.log = SimLog(network, self.process)
        self.open = 0
        asyncio._set_running_loop(self.process)
        self.committer = Committer(self.log, synced=synced)
        asyncio._set_running_loop(None)

    def expect(self, spec: RunSpec) -> None:
        self.open += 1
        self.world.at(spec.at, self.process.call_soon, self._start, spec)
        for at in spec.again:
            self.open += 1
            self.world.at(at, self.process.call_soon, self._start, spec)

    # ---- start

    def _start(self, spec: RunSpec) -> None:
        """Look in the archive, then publish; what stands already is answered from what stands."""
        run = self.truth.runs.get(spec.run_id)
        if spec.run_id in self.archive or (run is not None and run.cleaned):
            self.open -= 1
            return
        subject = self.network.subjects.start(partition_of(spec.run_id), spec.run_id)
        self.committer.submit(
            [OutMessage(subject, m.encode(spec.start), NEW)], lambda error: self._started(spec, error)
        )

    def _started(self, spec: RunSpec, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, WrongSequence):
            self.process.call_later(self.world.between(0.1, 1.0), self._start, spec)
            return
        self.open -= 1
        run = self.truth.runs.get(spec.run_id)
        if run is None:
            raise self.world.broken("P1", f"{spec.run_id} is acknowledged and not stored")
        if not run.acknowledged:
            run.acknowledged = True
            self.world.note("client", f"knows that {spec.run_id} is started")
            if spec.cancel_at >= 0:
                self.world.at(max(spec.cancel_at, self.world.now), self.cancel, spec.run_id)

    # ---- cancel

    def cancel(self, run_id: str) -> None:
        self.open += 1
        self.process.call_soon(self._cancel, run_id)

    def _cancel(self, run_id: str) -> None:
        if self.truth.runs[run_id].cleaned:
            self.open -= 1
            return
        body = m.encode(m.Cancel(m.FORMAT, self.world.now_ms(), "asked"))
        subject = self.network.subjects.cancel_input(partition_of(run_id), run_id)
        future = self.log.publish(subject, body, NEW)
        future.add_done_callback(lambda done: self._cancelled(run_id, done.exception()))

    def _cancelled(self, run_id: str, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, WrongSequence):
            self.process.call_later(self.world.between(0.1, 1.0), self._cancel, run_id)
        else:
            self.open -= 1


class Housekeeping:
    """The archive, which the server fills, and the cleaner with its real ledger, in steps with time between them."""

    def __init__(self, world: World, network: Network, truth: Truth, clients: Clients, hot_s: float) -> None:
        self.world = world
        self.network = network
        self.truth = truth
        self.clients = clients
        self.hot_s = hot_s
        self.ledger = Ledger()
        self.ascending = True
        self.bound_is_read = True
        self.archived_seq = 0

    def copy_to_archive(self) -> None:
        """The server copies ends in their order."""
        for message in self.network.stream.messages.values():
            if message.seq > self.archived_seq and message.subject.endswith(".out.ended"):
                self.clients.archive[parse_run_subject(message.subject).run_id] = message.seq
                self.archived_seq = message.seq

    def read(self) -> None:
        """Take in starts and ends up to now; clean a little later."""
        stream, ledger = self.network.stream, self.ledger
        for message in stream.messages.values():
            if message.seq > ledger.read_seq:
                self._take_in(message)
        ledger.read_seq = max(ledger.read_seq, stream.seq)
        self.world.after(self.world.between(0.0, 0.5), self._clean)

    def _take_in(self, message: StoredMessage) -> None:
        if message.subject.endswith(".in.start"):
            self.ledger.started(parse_run_subject(message.subject).run_id, message.seq)
        elif message.subject.endswith(".out.ended"):
            self.ledger.end(parse_run_subject(message.subject).run_id, message.seq, message.time_ms)

    def _clean(self) -> None:
        stream, ledger = self.network.stream, self.ledger
        before_ms = EPOCH_MS + int((self.world.now - self.hot_s) * 1000)
        removable = ledger.removable(self.archived_seq, before_ms)
        if not removable:
            return
        marks = [last.seq for subject, last in stream.last.items() if ".own." in subject or ".floor." in subject]
        bound = ledger.bound(self.archived_seq, before_ms, marks)
        if not self.bound_is_read:
            bound = min([stream.seq + 1, *ledger.live.values()])
        self.world.note("cleaner", f"purges below {bound}")
        stream.purge(bound)
        stranded = [ended for ended in removable if ended.start_seq >= bound]
        ledger.purged(bound)
        ledger.removed(stranded)
        for ended in stranded:
            self.world.after(self.world.between(0.0, 0.5), self._delete, ended, None)

    def _delete(self, ended: Ended, left: list[int] | None) -> None:
        """Message by message, with time between them: whoever reads meanwhile sees a part."""
        if left is None:
            prefix = self.network.subjects.run(partition_of(ended.run_id), ended.run_id)
            left = [message.seq for message in self.network.stream.run(prefix)]
            if not self.ascending:
                left.reverse()
        if left:
            self.network.stream.remove(left[0])
            self.world.after(self.world.between(0.0, 0.2), self._delete, ended, left[1:])
