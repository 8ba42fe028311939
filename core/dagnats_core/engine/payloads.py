"""Values too large for a message: stored once under a random id, passed on by reference. `PayloadsPort` on NATS."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

from dagnats_core import ids, limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import PublishTimeout
from dagnats_core.bus.objects import Objects, Seal
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import Invalid, NotFound, Problem, TooLarge, Unavailable
from dagnats_core.run.messages import Ref

CACHE_BYTES_MAX = 32 * limits.MIB
"""Payloads kept in memory: the same one is often the input of many steps."""
PUT_TRIES = 3


def new_payload_id() -> str:
    """26 random characters of lower-case base32: nobody guesses one."""
    return ids.base32(secrets.randbits(130), 26)


class Payloads:
    """The payload store of a site. `publisher` must be started."""

    def __init__(self, connection: Connection, publisher: Publisher, topology: Topology) -> None:
        self._objects = Objects(connection, publisher, topology)
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0

    async def put(self, data: bytes) -> Ref:
        """Store `data`. Raises TooLarge above 64 MiB, StorageFull, Unavailable."""
        if len(data) > limits.PAYLOAD_BYTES_MAX:
            most = limits.PAYLOAD_BYTES_MAX
            raise TooLarge(f"the value has {len(data)} bytes: more than {most} (PAYLOAD_BYTES_MAX)")
        payload_id = new_payload_id()
        for _ in range(PUT_TRIES):
            try:
                seal = await self._objects.put(payload_id, data)
            except PublishTimeout:
                continue  # the same put again is harmless
            self._keep(payload_id, data)
            return Ref(payload_id, seal.size, seal.sha256)
        raise Unavailable("the payload store does not answer")

    async def get(self, ref: Ref) -> bytes:
        """The value that `ref` names. Raises NotFound if it is not there, or is not what `ref` says."""
        data = self._cache.get(ref.id)
        if data is None:
            seal = await self._objects.sealed(ref.id)
            if seal is None:
                raise NotFound(f"there is no payload {ref.id}")
            data = await self._objects.get_all(ref.id, seal)
            self._keep(ref.id, data)
        else:
            self._cache.move_to_end(ref.id)
        if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise NotFound(f"payload {ref.id} is not the value of hash {ref.sha256}")
        return data

    async def part(self, ref: Ref, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on, fewer at the end; only what holds them is read. Raises NotFound."""
        data = self._cache.get(ref.id)
        if data is not None:
            return data[offset : offset + length]
        return await self._objects.get(ref.id, offset, length)

    async def check(self, ref: Ref) -> None:
        """Raises Invalid unless a whole payload of this size and hash is stored."""
        seal = await self._objects.sealed(ref.id)
        if seal != Seal(ref.size, ref.sha256):
            problem = Problem("input_ref", "payload", "no whole payload of this id, size and hash is stored")
            raise Invalid(f"payload {ref.id} is not stored", [problem])

    # -- chunk by chunk, as clients send and read them

    async def put_chunk(self, payload_id: str, index: int, data: bytes) -> None:
        """Store a chunk; the same again is fine. Raises Conflict if another content stands there, TooLarge."""
        if data:
            await self._objects.put_chunk(payload_id, index, data)

    async def seal(self, payload_id: str, size: int, sha256: str) -> Ref:
        """Declare a payload whole. Raises Invalid if what is stored has another size or hash, NotFound if chunks are
        missing."""
        digest = hashlib.sha256()
        for index in range(-(-size // limits.PAYLOAD_CHUNK_BYTES_MAX)):
            digest.update(await self._objects.chunk(payload_id, index))
        if digest.hexdigest() != sha256:
            problem = Problem("sha256", "digest", f"the chunks that are stored have {digest.hexdigest()}")
            raise Invalid(f"payload {payload_id} is not what its hash says", [problem])
        await self._objects.seal(payload_id, size, sha256)
        return Ref(payload_id, size, sha256)

    async def chunk(self, payload_id: str, index: int) -> tuple[bytes, int]:
        """(chunk, size of the whole). Raises NotFound for an unknown or unfinished payload, or an index beyond it."""
        seal = await self._objects.sealed(payload_id)
        if seal is None:
            raise NotFound(f"there is no payload {payload_id}")
        if index == 0 and seal.size == 0:
            return b"", 0
        if index * limits.PAYLOAD_CHUNK_BYTES_MAX >= seal.size:
            raise NotFound(f"payload {payload_id} has no chunk {index}")
        return await self._objects.chunk(payload_id, index), seal.size

    def _keep(self, payload_id: str, data: bytes) -> None:
        if len(data) > CACHE_BYTES_MAX // 4 or payload_id in self._cache:
            return
        self._cache[payload_id] = data
        self._cached_bytes += len(data)
        while self._cached_bytes > CACHE_BYTES_MAX:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])
