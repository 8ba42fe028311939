"""The engine's ports over the simulated network: every message takes time, and may be lost, late or refused.

`SimLog`, `SimDefinitions`, `SimPayloads` and `SimRequests` are one process's ends of the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from dagnats_core import limits
from dagnats_core.bus.errors import PublishTimeout, RequestTimeout, StoreFull, WrongSequence
from dagnats_core.bus.message import StoredMessage
from dagnats_core.bus.publish import OutMessage, PubAck
from dagnats_core.bus.schedule import stored_schedule
from dagnats_core.bus.subjects import parse_run_subject
from dagnats_core.engine.ports import Mark, OnInput, OnReport, RunMessages
from dagnats_core.errors import DagNatsError, NotFound, TooLarge, Unavailable
from dagnats_core.flow.plan import Plan
from dagnats_core.run import messages as m
from dagnats_core.run.fold import LogMessage
from dagnats_core.run.state import RunState
from tests.fault.clockwork import Process
from tests.fault.network import Network, store_payload
from tests.fault.stream import is_input

PUBLISH_TIMEOUT_S = limits.PUBLISH_TIMEOUT_MS / 1000


class SimReader:
    """An ordered reader: each input once, in order, with the network's delays."""

    def __init__(self, network: Network, process: Process, partition: int, start_seq: int, on_input: OnInput) -> None:
        self.network = network
        self.process = process
        self.partition = partition
        self._start_seq = start_seq
        self._on_input = on_input
        self._closed = False
        self._next_at = 0.0

    async def start(self) -> None:
        await asyncio.sleep(self.network.world.delay())
        for message in self.network.stream.inputs(self.partition, self._start_seq):
            self.offer(message)
        self.network.open(self)

    async def stop(self) -> None:
        self._closed = True
        self.network.shut(self)
        await asyncio.sleep(self.network.world.delay())

    def offer(self, message: StoredMessage) -> None:
        if self.process.alive and is_input(message.subject, self.partition):
            world = self.network.world
            self._next_at = max(self._next_at, world.now + world.delay())
            world.at(self._next_at, self.process.call_soon, self._deliver, message)

    def pause(self, seconds: float) -> None:
        """Its consumer is gone; another one goes on behind the last message a while later."""
        self._next_at = max(self._next_at, self.network.world.now + seconds)

    def _deliver(self, message: StoredMessage) -> None:
        if not self._closed:
            self._on_input(message.subject, message.seq, message.data)


class SimLog:
    """`LogPort` of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self.network = network
        self.process = process
        self.check_memory: Callable[[int, str, RunState], None] = lambda number, run_id, state: None
        self._world = network.world
        self._open: dict[asyncio.Future[PubAck], None] = {}

    # ---- publishing

    def publish(self, subject: str, data: bytes, headers: bytes = b"") -> asyncio.Future[PubAck]:
        return self.publish_batch([OutMessage(subject, data, headers)])

    def publish_batch(self, messages: Sequence[OutMessage]) -> asyncio.Future[PubAck]:
        """Send; what becomes of it is drawn: stored or refused, or unknown to the sender in one of three ways."""
        future: asyncio.Future[PubAck] = self.process.create_future()
        world, rates = self._world, self.network.rates
        if not self.process.alive:
            return future
        messages = list(messages)
        if len(messages) > limits.BATCH_MESSAGES_MAX:
            future.set_exception(TooLarge(f"a batch of {len(messages)} messages"))
            return future
        self._open[future] = None
        if world.hits(rates.lost):
            world.note(self.process.name, f"(lost) {_subjects(messages)}")
            self._time_out(future)
        elif world.hits(rates.ack_lost):
            world.note(self.process.name, f"(acknowledgement lost) {_subjects(messages)}")
            self.process.send(self._apply, messages)
            self._time_out(future)
        elif world.hits(rates.late):
            world.note(self.process.name, f"(late) {_subjects(messages)}")
            world.after(world.between(0.0, rates.late_s), self._apply, messages)
            self._time_out(future)
        else:
            self.process.send(self._arrive, messages, future)
        return future

    def disconnect(self) -> None:
        """The connection breaks: nobody learns what became of what is on its way."""
        futures, self._open = list(self._open), {}
        for future in futures:
            self.process.call_soon(_fail, future, PublishTimeout("the connection broke"))

    def _time_out(self, future: asyncio.Future[PubAck]) -> None:
        self.process.call_later(PUBLISH_TIMEOUT_S, _fail, future, PublishTimeout("no acknowledgement in time"))

    def _apply(self, messages: Sequence[OutMessage]) -> None:
        """What the server makes of it is told to nobody."""
        self._outcome(messages)

    def _arrive(self, messages: Sequence[OutMessage], future: asyncio.Future[PubAck]) -> None:
        outcome = self._outcome(messages)
        if self._world.hits(self.network.rates.crash):
            self.network.on_crash(self.process)
        if self.process.alive:
            self.process.receive(self._resolve, future, outcome)

    def _outcome(self, messages: Sequence[OutMessage]) -> PubAck | DagNatsError:
        try:
            if self._world.hits(self.network.rates.full):
                raise StoreFull("no room")
            if self.network.refused_in_flight(messages):
                raise WrongSequence("another check is in flight (10164)")
            return self.network.stream.publish(messages)
        except DagNatsError as error:
            self._world.note(self.process.name, f"refused: {error} {_subjects(messages)}")
            return error

    def _resolve(self, future: asyncio.Future[PubAck], outcome: PubAck | DagNatsError) -> None:
        self._open.pop(future, None)
        if future.done():
            return
        if isinstance(outcome, DagNatsError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    # ---- reading

    async def read_run(self, partition: int, run_id: str) -> RunMessages:
        return await self._ask(self._read_run, partition, run_id)

    def _read_run(self, partition: int, run_id: str) -> RunMessages:
        stream, prefix = self.network.stream, self.network.subjects.run(partition, run_id)
        stored = stream.run(prefix)
        if len(stored) <= self.network.subjects_read_max:
            return RunMessages([log_message(message) for message in stored])
        snapshots = [message for message in stored if ".out.snapshot." in message.subject]
        snapshot = m.decode_snapshot(snapshots[-1].data) if snapshots else None
        unknown = snapshot.after if snapshot is not None else 0
        decided = snapshots[-1].seq if snapshots else 0
        timer = self.network.subjects.timer(partition, run_id)
        kept = [
            message
            for message in stored
            if message.seq > decided
            or message.subject == timer
            or ".out.snapshot." in message.subject
            or (message.seq > unknown and ".in." in message.subject)
        ]
        return RunMessages([log_message(message) for message in kept], snapshot)

    async def last(self, partition: int, subject: str) -> Mark:
        return await self._ask(self._last, subject)

    def _last(self, subject: str) -> Mark:
        message = self.network.stream.last.get(subject)
        return Mark(0, b"") if message is None else Mark(message.seq, message.data)

    async def _ask(self, read: Callable[..., Any], *args: Any) -> Any:
        """A request to the stream and its answer, each on its way for a while."""
        future = self.process.create_future()
        if self._world.hits(self.network.rates.read_error):
            self.process.call_later(self._world.between(0.0, 5.0), _fail, future, RequestTimeout("no answer"))
        else:
            self.process.send(lambda: self.process.receive(_succeed, future, read(*args)))
        return await future

    def inputs(self, partition: int, start_seq: int, on_input: OnInput) -> SimReader:
        return SimReader(self.network, self.process, partition, start_seq, on_input)


def log_message(stored: StoredMessage) -> LogMessage:
    """As engine/log.py does it."""
    schedule = stored_schedule(stored) if stored.subject.endswith(".timer") else None
    key = schedule.target.rpartition(".")[2] if schedule else ""
    return LogMessage(stored.seq, parse_run_subject(stored.subject).kind, stored.data, key)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: DagNatsError) -> None:
    if not future.done():
        future.set_exception(error)


def _subjects(messages: Sequence[OutMessage]) -> str:
    return " ".join(message.subject[16:] for message in messages)


class SimDefinitions:
    """`DefinitionsPort` of one process: what it has fetched it keeps, until it forgets it."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process
        self._known: dict[str, Plan] = {}

    def cached(self, content_hash: str) -> Plan | None:
        if self._network.world.hits(self._network.rates.forgets_plans):
            self._known.clear()
        return self._known.get(content_hash)

    async def plan(self, workflow: str, content_hash: str) -> Plan:
        if content_hash not in self._known:
            await asyncio.sleep(self._network.world.delay())
            if self._network.world.hits(self._network.rates.read_error):
                raise Unavailable("the definitions cannot be read")
            if content_hash not in self._network.plans:
                raise NotFound(f"no definition {content_hash}")
            self._known[content_hash] = self._network.plans[content_hash]
        return self._known[content_hash]


class SimPayloads:
    """`PayloadsPort` of one process."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def put(self, data: bytes) -> m.Ref:
        await self._travel()
        return store_payload(self._network, data)

    async def get(self, ref: m.Ref) -> bytes:
        await self._travel()
        if ref.id not in self._network.payloads:
            raise NotFound(f"no payload {ref.id}")
        return self._network.payloads[ref.id]

    async def _travel(self) -> None:
        await asyncio.sleep(self._network.world.delay())
        if self._network.world.hits(self._network.rates.read_error):
            raise Unavailable("the payload store cannot be reached")


class SimRequests:
    """`RequestsPort` of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    async def subscribe(self, partition: int, on_report: OnReport) -> Callable[[], None]:
        await asyncio.sleep(self._network.world.delay())
        return self._network.listen(partition, self._process, on_report)

    def send(self, subject: str, data: bytes) -> None:
        if not self._process.alive:
            return
        if subject.startswith("dagnats."):
            self._network.on_notice(subject, data)
        else:
            self._network.on_answer(subject, data, self._process)
