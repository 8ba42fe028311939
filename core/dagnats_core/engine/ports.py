"""What the engine needs from the world: a log, definitions, payloads, requests, leases, a clock. Protocols only.

The NATS side is `log.py`, `definitions.py`, `payloads.py`, `requests.py` and `leases.py`; the simulation's side keeps
the server's rules in memory (tests/fault). Both must pass the conformance suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.publish import OutMessage, PubAck
from dagnats_core.flow.plan import Plan
from dagnats_core.run.fold import LogMessage
from dagnats_core.run.messages import Ref, Snapshot


class RunMessages(NamedTuple):
    """The messages of one run, as one read of the log gave them; `snapshot` when they begin at one."""

    log: list[LogMessage]
    snapshot: Snapshot | None = None


class Mark(NamedTuple):
    """The last message on a subject of which only the last counts (stamp, floor). Sequence 0 = there is none."""

    seq: int
    data: bytes


class InputReader(Protocol):
    """An open reader of a partition's `in` messages, in order, without gaps."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


OnInput = Callable[[str, int, bytes], None]
"""(subject, sequence, body) of one `in` message."""

OnReport = Callable[[FastMessage], None]


class PublishPort(Protocol):
    """Pipelined publishes with the outcomes of `bus.publish.Publisher`."""

    def publish(self, subject: str, data: bytes, headers: bytes = b"") -> asyncio.Future[PubAck]: ...

    def publish_batch(self, messages: Sequence[OutMessage]) -> asyncio.Future[PubAck]: ...


class LogPort(PublishPort, Protocol):
    """The run log of a site. Reads see every write that was acknowledged before them."""

    async def read_run(self, partition: int, run_id: str) -> RunMessages: ...

    async def last(self, partition: int, subject: str) -> Mark: ...

    def inputs(self, partition: int, start_seq: int, on_input: OnInput) -> InputReader: ...


class DefinitionsPort(Protocol):
    """Compiled definitions by content hash."""

    def cached(self, content_hash: str) -> Plan | None: ...

    async def plan(self, workflow: str, content_hash: str) -> Plan:
        """Raises NotFound if no such content was ever registered."""
        ...


class PayloadsPort(Protocol):
    async def put(self, data: bytes) -> Ref: ...

    async def get(self, ref: Ref) -> bytes: ...


class RequestsPort(Protocol):
    """Reports of workers, and the notices that go to them."""

    async def subscribe(self, partition: int, on_report: OnReport) -> Callable[[], None]:
        """Listen to the reports of a partition; the result ends it."""
        ...

    def send(self, subject: str, data: bytes) -> None:
        """An answer or notice, unstored: lost if nobody listens."""
        ...


class LeasesPort(Protocol):
    """Who lives and who owns what (leases.py). Each method raises Unavailable or TimedOut; a write may still land."""

    async def renew(self) -> float:
        """Say that this engine lives. Returns the loop time until which that surely holds."""
        ...

    async def read(self) -> Holdings: ...

    async def claim(self, partition: int, holding: Holding | None, *, by_force: bool = False) -> bool:
        """Take a partition that stands as `holding` (None = nobody's). False: somebody else was first, or the engine
        that holds it lives; `by_force` does not ask whether it lives."""
        ...

    async def release(self, partition: int, holding: Holding) -> None:
        """Give up a partition, unless it has changed hands since `holding`."""
        ...

    async def resign(self) -> None:
        """Say that this engine is gone."""
        ...


class Holding(NamedTuple):
    engine: str
    revision: int


class Holdings(NamedTuple):
    """One reading of the leases bucket: engines that live, and the holder of each partition (alive or not)."""

    engines: frozenset[str]
    partitions: dict[int, Holding]


Clock = Callable[[], int]
"""Milliseconds since the Unix epoch."""
