"""Who lives and who owns what, in the leases bucket: one key per engine with a TTL, one key per partition.

An engine that renews its key holds every partition whose key names it. A lease protects nothing by itself: the stamp in
the log does (PROTOCOL.md). It only says who should try, and until when answers that need no write may be given.

The server takes a key away after its TTL, but not always: nats-server 2.15 forgets the TTL of some messages when it is
killed, and their keys stand for ever. So a key that was not renewed for that long by our own clock counts for nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from dagnats_core import limits
from dagnats_core.bus.errors import WrongSequence
from dagnats_core.bus.kv import Bucket
from dagnats_core.engine.ports import Holding, Holdings

TTL_S = limits.LEASE_TTL_MS // limits.SECOND_MS


class Leases:
    """The leases of one engine."""

    def __init__(self, bucket: Bucket, engine_id: str) -> None:
        self._bucket = bucket
        self._engine_id = engine_id
        self._loop = asyncio.get_running_loop()
        self._renewed: dict[str, tuple[int, float]] = {}
        """For each engine's key its revision, and when that was first seen."""

    async def renew(self) -> float:
        sent = self._loop.time()
        await self._bucket.put(f"engine.{self._engine_id}", self._engine_id.encode(), ttl_s=TTL_S)
        return sent + TTL_S

    async def read(self) -> Holdings:
        entries = await self._bucket.entries(">")
        keys = {key: entry.revision for key, entry in entries.items() if key.startswith("engine.")}
        lapsed = self._lapsed(keys)
        for key in lapsed:
            with suppress(WrongSequence):
                await self._bucket.delete(key, revision=keys[key])
        engines = frozenset(key[len("engine.") :] for key in keys.keys() - lapsed)
        partitions = {
            int(key[len("partition.") :]): Holding(entry.value.decode(), entry.revision)
            for key, entry in entries.items()
            if key.startswith("partition.")
        }
        return Holdings(engines, partitions)

    def _lapsed(self, keys: dict[str, int]) -> set[str]:
        """The keys that nobody has renewed for a TTL."""
        now, before = self._loop.time(), self._renewed
        self._renewed = {
            key: before[key] if key in before and before[key][0] == revision else (revision, now)
            for key, revision in keys.items()
        }
        return {key for key, (_, since) in self._renewed.items() if now - since > TTL_S}

    async def claim(self, partition: int, holding: Holding | None, *, by_force: bool = False) -> bool:
        # `read` may lag behind on a replica: the leader knows whether the holder's key is really gone.
        holder = "" if holding is None or by_force or holding.engine == self._engine_id else holding.engine
        if holder and await self._bucket.get(f"engine.{holder}", fresh=True) is not None:
            return False
        key, value = f"partition.{partition}", self._engine_id.encode()
        try:
            if holding is not None:
                await self._bucket.update(key, value, holding.revision)
            else:
                await self._bucket.create(key, value)
        except WrongSequence:
            return False
        return True

    async def release(self, partition: int, holding: Holding) -> None:
        with suppress(WrongSequence):
            await self._bucket.delete(f"partition.{partition}", revision=holding.revision)

    async def resign(self) -> None:
        await self._bucket.delete(f"engine.{self._engine_id}")
