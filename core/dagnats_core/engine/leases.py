"""Who lives and who owns what, in the leases bucket: one key per engine with a TTL, one key per partition.

An engine that renews its key holds every partition whose key names it. A lease protects nothing by itself: the stamp in
the log does (PROTOCOL.md). It only says who should try, and until when answers that need no write may be given.
"""

from __future__ import annotations

import asyncio

from dagnats_core import limits
from dagnats_core.bus.errors import WrongSequence
from dagnats_core.bus.kv import Bucket
from dagnats_core.engine.ports import Holding, Holdings

TTL_S = limits.LEASE_TTL_MS // limits.SECOND_MS
MARGIN_S = limits.LEASE_MARGIN_MS / limits.SECOND_MS


class Leases:
    """The leases of one engine."""

    def __init__(self, bucket: Bucket, engine_id: str) -> None:
        self._bucket = bucket
        self._engine_id = engine_id
        self._loop = asyncio.get_running_loop()
        self._expires = float("inf")

    @property
    def lapsed(self) -> bool:
        """Whether the key may have expired by our own clock: others may have claimed what we hold."""
        return self._loop.time() >= self._expires

    async def renew(self) -> float:
        sent = self._loop.time()
        await self._bucket.put(f"engine.{self._engine_id}", self._engine_id.encode(), ttl_s=TTL_S)
        if self._loop.time() < self._expires or self._expires == float("inf"):
            self._expires = sent + TTL_S
        return sent + TTL_S - MARGIN_S

    def rejoin(self) -> None:
        """After a lapse: nothing is held any more, the next renewal counts as the first."""
        self._expires = float("inf")

    async def read(self) -> Holdings:
        entries = await self._bucket.entries(">")
        engines = frozenset(key[len("engine.") :] for key in entries if key.startswith("engine."))
        partitions = {
            int(key[len("partition.") :]): Holding(entry.value.decode(), entry.revision)
            for key, entry in entries.items()
            if key.startswith("partition.")
        }
        return Holdings(engines, partitions)

    async def claim(self, partition: int, revision: int) -> bool:
        key, value = f"partition.{partition}", self._engine_id.encode()
        try:
            if revision:
                await self._bucket.update(key, value, revision)
            else:
                await self._bucket.create(key, value)
        except WrongSequence:
            return False
        return True

    async def release(self, partition: int) -> None:
        await self._bucket.delete(f"partition.{partition}")

    async def resign(self) -> None:
        await self._bucket.delete(f"engine.{self._engine_id}")
