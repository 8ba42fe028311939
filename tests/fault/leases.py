"""The leases bucket in memory, and `LeasesPort` of one process over the simulated network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagnats_core import limits
from dagnats_core.bus.errors import PublishTimeout, RequestTimeout
from dagnats_core.engine.ports import Holding, Holdings
from tests.fault.clockwork import Process, World
from tests.fault.network import Network
from tests.fault.wiring import PUBLISH_TIMEOUT_S

TTL_S = limits.LEASE_TTL_MS / 1000


class LeaseTable:
    """The bucket as the server keeps it: engines until their TTL is over, partitions with their revision."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.expires: dict[str, float] = {}
        self.partitions: dict[int, Holding] = {}
        self._revision = 0

    def renew(self, engine: str) -> None:
        self.expires[engine] = self.world.now + TTL_S + self.world.between(0.0, 1.0)

    def resign(self, engine: str) -> None:
        self.expires.pop(engine, None)

    def lives(self, engine: str) -> bool:
        return self.expires.get(engine, 0.0) > self.world.now

    def read(self) -> Holdings:
        return Holdings(frozenset(filter(self.lives, self.expires)), dict(self.partitions))

    def claim(self, engine: str, partition: int, holding: Holding | None) -> bool:
        if self.partitions.get(partition) != holding:
            return False
        self._revision += 1
        self.partitions[partition] = Holding(engine, self._revision)
        return True

    def release(self, partition: int, holding: Holding) -> None:
        if self.partitions.get(partition) == holding:
            del self.partitions[partition]


class SimLeases:
    """As engine/leases.py does it, with requests that take time, get lost, or land without an answer."""

    def __init__(self, network: Network, process: Process, table: LeaseTable, engine_id: str) -> None:
        self._network = network
        self._process = process
        self._table = table
        self._engine_id = engine_id

    async def renew(self) -> float:
        sent = self._process.time()
        await self._write(self._table.renew, self._engine_id)
        return sent + TTL_S

    async def read(self) -> Holdings:
        holdings: Holdings = await self._ask(self._table.read)
        return holdings

    async def claim(self, partition: int, holding: Holding | None, *, by_force: bool = False) -> bool:
        holder = "" if holding is None or by_force or holding.engine == self._engine_id else holding.engine
        if holder and await self._ask(self._table.lives, holder):
            return False
        claimed: bool = await self._write(self._table.claim, self._engine_id, partition, holding)
        return claimed

    async def release(self, partition: int, holding: Holding) -> None:
        await self._write(self._table.release, partition, holding)

    async def resign(self) -> None:
        await self._write(self._table.resign, self._engine_id)

    async def _write(self, change: Callable[..., Any], *args: Any) -> Any:
        """A write to the bucket: what becomes of it may be unknown, and it may land later."""
        world, rates, future = self._network.world, self._network.rates, self._process.create_future()
        if world.hits(rates.lost + rates.ack_lost + rates.late):
            fate = world.chance()
            if fate < 0.3:
                self._process.send(change, *args)
            elif fate < 0.6:
                world.after(world.between(0.0, rates.late_s), change, *args)
            self._process.call_later(PUBLISH_TIMEOUT_S, _fail, future, PublishTimeout("no acknowledgement in time"))
        else:
            self._process.send(lambda: self._process.receive(_succeed, future, change(*args)))
        return await future

    async def _ask(self, read: Callable[..., Any], *args: Any) -> Any:
        world, future = self._network.world, self._process.create_future()
        if world.hits(self._network.rates.read_error):
            self._process.call_later(world.between(0.0, 5.0), _fail, future, RequestTimeout("no answer"))
        else:
            self._process.send(lambda: self._process.receive(_succeed, future, read(*args)))
        return await future


def _succeed(future: Any, result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: Any, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
