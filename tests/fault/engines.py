"""Engines: the real Partition, Actor and Committer in simulated processes, and who owns which partition.

Either the real Ownership keeps leases, or partitions are taken by force, at any moment: an engine that is stolen from
goes on as a zombie until the log refuses it, and theft stops the clock until which it may answer without a write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import msgspec

from dagnats_core.engine.actor import Actor
from dagnats_core.engine.committer import Committer
from dagnats_core.engine.ownership import Ownership
from dagnats_core.engine.partition import Lost, Partition
from dagnats_core.engine.parts import Parts
from dagnats_core.errors import DagNatsError
from dagnats_core.run.decide import next_due
from dagnats_core.run.fold import LogMessage, fold
from dagnats_core.run.state import RunState, StepState
from tests.fault.clockwork import Process, World
from tests.fault.leases import LeaseTable, SimLeases
from tests.fault.network import Network
from tests.fault.truth import Truth
from tests.fault.wiring import SimDefinitions, SimLog, SimPayloads, SimRequests, log_message


class Setting(msgspec.Struct):
    """How an engine is set up."""

    synced: bool = True
    replicated: bool = False
    runs_max: int = 50
    clock_skew_ms: int = 0
    leased: bool = False
    takes_alone: bool = False


class Engine:
    """One engine process. `live` begins to keep a real lease; without it, `take` gives it partitions by force."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name
        world, network, setting = site.world, site.network, site.setting
        self.process = process = Process(world, name)
        self.log = SimLog(network, process)
        self.log.check_memory = site.check_memory
        skew_ms = int(world.between(-setting.clock_skew_ms, setting.clock_skew_ms))
        self.parts = Parts(
            engine_id=name,
            subjects=network.subjects,
            log=self.log,
            definitions=SimDefinitions(network, process),
            payloads=SimPayloads(network),
            requests=SimRequests(network, process),
            now_ms=lambda: world.now_ms() + skew_ms,
            entropy=Random(name).randbytes,
            runs_max=setting.runs_max,
        )
        with running(process):
            self.committer = Committer(self.log, synced=setting.synced, replicated=setting.replicated)
        self.forced: dict[int, Partition] = {}
        self.ownership: Ownership | None = None

    @property
    def partitions(self) -> dict[int, Partition]:
        return self.ownership.owned if self.ownership is not None else self.forced

    def crash(self) -> None:
        self.site.world.note(self.name, "crashes")
        self.process.kill()
        self.site.gone(self)

    async def stop(self) -> None:
        """Leave in order."""
        for partition in list(self.forced.values()):
            with suppress(DagNatsError):
                await partition.stop()
        if self.ownership is not None:
            await self.ownership.stop()
            self.site.world.note(self.name, "has left")
            self.site.world.after(0.0, self.crash)
            self.site.world.after(self.site.world.between(0.0, 2.0), self.site.start_engine)

    # ---- with a lease

    def live(self, alone: bool) -> None:
        leases = SimLeases(self.site.network, self.process, self.site.table, self.name)
        with running(self.process):
            self.ownership = Ownership(self.parts, leases, [self.committer], len(self.site.numbers), alone=alone)
        self.process.create_task(self._start(self.ownership)).add_done_callback(_must_succeed)

    async def _start(self, ownership: Ownership) -> None:
        while True:
            try:
                await ownership.start()
                return
            except DagNatsError:
                await asyncio.sleep(1.0)

    # ---- by force

    def take(self, number: int) -> None:
        """Begin to own a partition, whoever has it."""
        self.process.create_task(self._take(number)).add_done_callback(_must_succeed)

    async def _take(self, number: int) -> None:
        old = self.forced.pop(number, None)
        if old is not None:
            old.lose()
        partition = self.forced[number] = WatchedPartition(number, self.parts, self.committer, self._lost)
        partition.lease_until = float("inf") if self.site.owners.get(number) is self else 0.0
        try:
            await partition.take()
        except (Lost, DagNatsError) as error:
            self.site.world.note(self.name, f"cannot take partition {number}: {error}")
            partition.lose()

    def _lost(self, partition: Partition) -> None:
        if self.forced.get(partition.number) is partition:
            del self.forced[partition.number]
            if self.site.owners.get(partition.number) is self:
                del self.site.owners[partition.number]
        self.process.create_task(partition.close())


class WatchedPartition(Partition):
    """A partition whose runs are compared with the log (P5) whenever one of them rests."""

    @property
    def rightful(self) -> bool:
        """Whether the log would take this partition's next message."""
        mark = self._parts.log.network.stream.last.get(self._parts.subjects.own(self.number))  # type: ignore[attr-defined]
        return self.owned and mark is not None and mark.seq == self._stamp

    def rests(self, actor: Actor) -> None:
        if self.rightful and actor.state is not None:
            self._parts.log.check_memory(self.number, actor.run_id, actor.state)  # type: ignore[attr-defined]
        super().rests(actor)


@contextmanager
def running(process: Process) -> Iterator[None]:
    """Code in this block sees `process` as its running loop."""
    asyncio._set_running_loop(process)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


class Site:
    """All engines, and which of them owns what."""

    def __init__(self, world: World, network: Network, truth: Truth, setting: Setting, partitions: int) -> None:
        self.world = world
        self.network = network
        self.truth = truth
        self.setting = setting
        self.numbers = range(partitions)
        self.owners: dict[int, Engine] = {}
        self.engines: list[Engine] = []
        self.table = LeaseTable(world)
        self._born = 0

    def start_engine(self) -> Engine:
        """Start another engine process. Who finds itself alone on the data dir's lock does not wait for leases."""
        self._born += 1
        engine = Engine(self, f"e{self._born}")
        if self.setting.leased:
            engine.live(alone=self.setting.takes_alone and not self.engines)
        self.engines.append(engine)
        return engine

    def gone(self, engine: Engine) -> None:
        if engine in self.engines:
            self.engines.remove(engine)
        for number in [number for number, owner in self.owners.items() if owner is engine]:
            del self.owners[number]

    def steal(self, number: int, thief: Engine) -> None:
        """The lease of a partition is over: its owner, if it lives, may answer no more what needs no write."""
        if not thief.process.alive or self.setting.leased:
            return
        owner = self.owners.get(number)
        if owner is not None and number in owner.forced:
            owner.forced[number].lease_until = self.world.now
        self.world.note(thief.name, f"takes partition {number} from {owner.name if owner else 'nobody'}")
        self.owners[number] = thief
        thief.take(number)

    def fill(self) -> None:
        """Somebody takes what nobody owns."""
        for number in self.numbers if not self.setting.leased else ():
            if number not in self.owners and self.engines:
                self.steal(number, self.world.pick(self.engines))

    def write_floors(self) -> None:
        for engine in self.engines:
            for partition in engine.partitions.values():
                engine.process.call_soon(partition.write_floor)

    # ---- P5

    def check_memory(self, number: int, run_id: str, state: RunState) -> None:
        """The engine's memory is the fold of the log up to what it knew; and a deadline has its alarm."""
        run = self.truth.runs.get(run_id)
        if run is None or run.cleaned or run.plan is None:
            return
        plan = run.plan
        messages = [log_message(message) for message in self.network.stream.run(self._prefix(number, run_id))]
        try:
            folded = fold(run_id, messages, lambda start: plan, upto=state.folded)
        except Exception as error:
            raise self.world.broken("P5", f"the log of {run_id} cannot be folded: {error!r}") from error
        for difference in self._differences(state, folded):
            raise self.world.broken("P5", f"{run_id}: {difference}")
        if not state.ended and state.parked is None:
            self._check_timer(run_id, state, folded, messages)

    def _check_timer(self, run_id: str, state: RunState, folded: RunState, messages: list[LogMessage]) -> None:
        """The engine knows the timer that stands, but one that has fired unread; and a deadline has its timer."""
        unread = any(message.kind == "in.timer" and message.seq > state.folded for message in messages)
        if state.armed != folded.armed and not (unread and folded.armed is None):
            raise self.world.broken("P5", f"{run_id}: armed: engine {state.armed}, log {folded.armed}")
        due = next_due(state)
        if due and not unread and (folded.armed is None or folded.armed.due > due):
            raise self.world.broken("P1", f"{run_id} has a deadline at {due} and no timer for it")

    def _prefix(self, number: int, run_id: str) -> str:
        return self.network.subjects.run(number, run_id)

    def _differences(self, memory: RunState, folded: RunState) -> list[str]:
        found = []
        for name in RunState.__slots__:
            ours, theirs = getattr(memory, name), getattr(folded, name)
            if name in ("plan", "armed", "earliest"):
                continue
            if name == "steps":
                found += [
                    f"step {step}.{field}: engine {one}, log {other}"
                    for step in memory.steps
                    for field in StepState.__slots__
                    if (one := self._plain(getattr(memory.steps[step], field)))
                    != (other := self._plain(getattr(folded.steps[step], field)))
                ]
            elif self._plain(ours) != self._plain(theirs):
                found.append(f"{name}: engine {ours}, log {theirs}")
        return found

    def _plain(self, value: object) -> object:
        """Values by content, wherever they are kept."""
        if isinstance(value, msgspec.Raw):
            return bytes(value)
        ref_id = getattr(value, "sha256", None) and getattr(value, "id", None)
        return self.network.payloads[ref_id] if ref_id else value


def _must_succeed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
