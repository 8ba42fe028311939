"""What all simulated processes share: the stream, payloads, definitions, who listens; and the faults of the network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from dagnats_core import limits
from dagnats_core.bus.message import FastMessage, StoredMessage
from dagnats_core.bus.publish import OutMessage
from dagnats_core.bus.subjects import Subjects, parse_run_subject
from dagnats_core.engine.ports import OnReport
from dagnats_core.flow.plan import Plan
from dagnats_core.run import messages as m
from tests.fault.clockwork import Process, World
from tests.fault.stream import MemoryStream, Watcher, rules_of

SITE = "sim"


class Reader(Protocol):
    """An open reader of a partition's inputs."""

    process: Process

    def offer(self, message: StoredMessage) -> None: ...

    def pause(self, seconds: float) -> None: ...


class Rates(msgspec.Struct):
    """How often each fault of the network happens, 0 to 1; all 0 = a perfect network."""

    lost: float = 0.0
    ack_lost: float = 0.0
    late: float = 0.0
    full: float = 0.0
    crash: float = 0.0
    """The sender dies when its message is stored, before it hears of it."""
    read_error: float = 0.0
    request_lost: float = 0.0
    answer_lost: float = 0.0
    answer_late: float = 0.0
    notice_lost: float = 0.0
    forgets_plans: float = 0.0
    late_s: float = 8.0
    """How late a late publish is, at most: not a rate."""

    def calm(self) -> None:
        for name in self.__struct_fields__:
            if name != "late_s":
                setattr(self, name, 0.0)


class Network(Watcher):
    """Everything outside the processes. `watcher` (the properties) sees each stored message first."""

    def __init__(self, world: World, rates: Rates, watcher: Watcher) -> None:
        self.world = world
        self.rates = rates
        self.subjects = Subjects(SITE)
        self.stream = MemoryStream(world.now_ms, self)
        self.plans: dict[str, Plan] = {}
        self.payloads: dict[str, bytes] = {}
        self.subjects_read_max = limits.MULTI_LAST_SUBJECTS_MAX
        self.replicated = False
        self.on_crash: Callable[[Process], None] = lambda process: None
        self.on_answer: Callable[[str, bytes, Process], None] = lambda inbox, data, process: None
        self.on_notice: Callable[[str, bytes], None] = lambda subject, data: None
        self.on_task: Callable[[StoredMessage], None] = lambda message: None
        self._watcher = watcher
        self._checking: dict[str, float] = {}
        self._deaf: dict[Process, float] = {}
        self._readers: list[Reader] = []
        self._listeners: dict[int, list[tuple[Process, OnReport]]] = {}

    # ---- what the stream tells

    def stored(self, message: StoredMessage) -> None:
        self.world.note("stream", f"#{message.seq} {message.subject[16:]} {_short(message.data)}")
        self._watcher.stored(message)
        kind = parse_run_subject(message.subject).kind if ".run." in message.subject else ""
        if kind == "out.task":
            self.on_task(message)
        elif kind == "out.ended" and message.subject.replace("out.ended", "timer") in self.stream.last:
            raise self.world.broken("timer", f"{message.subject} leaves a timer behind")
        elif kind.startswith("in."):
            for reader in self._readers:
                reader.offer(message)

    def scheduled(self, message: StoredMessage, due_ms: int) -> None:
        wait_s = max((due_ms - self.world.now_ms()) / 1000, 0.25)
        lag_s = self.world.between(0.0, 0.02) if self.world.chance() < 0.9 else self.world.between(0.0, 3.0)
        self.world.after(wait_s + lag_s, self.stream.fire, message)

    def removed(self, message: StoredMessage) -> None:
        self._watcher.removed(message)

    def refused_in_flight(self, messages: Sequence[OutMessage]) -> bool:
        """With replicas, a check on a subject is refused while another one of it is being replicated (10164)."""
        if not self.replicated:
            return False
        now, checked = self.world.now, {rules_of(message.headers).expected_on for message in messages} - {""}
        if any(self._checking.get(subject, 0.0) > now for subject in checked):
            return True
        for subject in checked:
            self._checking[subject] = now + self.world.latency_s
        return False

    # ---- readers and listeners

    def open(self, reader: Reader) -> None:
        self._readers.append(reader)

    def shut(self, reader: Reader) -> None:
        if reader in self._readers:
            self._readers.remove(reader)

    def deafen(self, process: Process, reports_s: float, inputs_s: float) -> None:
        """For so long a process hears no reports, and its readers are behind."""
        self._deaf[process] = self.world.now + reports_s
        for reader in self._readers:
            if reader.process is process:
                reader.pause(inputs_s)

    def listen(self, partition: int, process: Process, on_report: OnReport) -> Callable[[], None]:
        entry = (process, on_report)
        self._listeners.setdefault(partition, []).append(entry)

        def leave() -> None:
            if entry in self._listeners[partition]:
                self._listeners[partition].remove(entry)

        return leave

    def leftovers(self, process: Process) -> list[str]:
        """Readers and subscriptions that a process holds."""
        left = [f"reader of partition {reader.partition}" for reader in self._readers if reader.process is process]
        for partition, entries in self._listeners.items():
            left += [f"reports of partition {partition}" for owner, _ in entries if owner is process]
        return left

    def request(self, partition: int, subject: str, data: bytes, inbox: str) -> bool:
        """Send a report to whoever listens; False if nobody does."""
        self._listeners[partition] = [e for e in self._listeners.get(partition, ()) if e[0].alive]
        for process, on_report in self._listeners[partition]:
            if self._deaf.get(process, 0.0) <= self.world.now and not self.world.hits(self.rates.request_lost):
                process.receive(on_report, FastMessage(subject, inbox, data))
        return bool(self._listeners[partition])


def _short(data: bytes) -> str:
    return data[:160].decode(errors="replace")


def store_payload(network: Network, data: bytes) -> m.Ref:
    ref = m.Ref(f"p{len(network.payloads):025d}", len(data), hashlib.sha256(data).hexdigest())
    network.payloads[ref.id] = data
    return ref
