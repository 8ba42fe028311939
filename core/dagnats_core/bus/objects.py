"""Objects too large for a message: chunks on subjects of their own, so that any part is one direct get away.

Chunk n of an object is the only message on `….payload.<id>.<n>`; `….payload.<id>.seal` says that it is
whole: size and digest. Nothing is ever written over (each publish expects nothing there), so a repeated put
is harmless and another content under the same id is refused.
"""

from __future__ import annotations

import asyncio
import hashlib

import msgspec

from dagnats_core import limits
from dagnats_core.bus.connection import Connection
from dagnats_core.bus.errors import WrongSequence
from dagnats_core.bus.jetstream import api
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.read import get_last
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import Conflict, DagNatsError, Invalid, NotFound, TooLarge

CHUNK_BYTES = limits.PAYLOAD_CHUNK_BYTES_MAX
CHUNKS_IN_FLIGHT = 8
SEAL = "seal"
_NEW = b"Nats-Expected-Last-Subject-Sequence: 0\r\n"


class Seal(msgspec.Struct, frozen=True):
    """What a whole object is: its bytes and their SHA-256 (hex)."""

    size: int
    sha256: str


class _SubjectCounts(msgspec.Struct):
    subjects: dict[str, int] = {}


class _StreamSubjects(msgspec.Struct):
    state: _SubjectCounts


class Objects:
    """The objects of a site. Ids are subject tokens, checked by whoever makes them; chunks hold
    `CHUNK_BYTES`."""

    def __init__(self, connection: Connection, publisher: Publisher, topology: Topology) -> None:
        self._connection = connection
        self._publisher = publisher
        self._stream = topology.payloads_bucket
        self._subjects = Subjects(topology.site)

    async def put(self, object_id: str, data: bytes) -> Seal:
        """Store and seal `data`. Raises as `put_chunk` and `seal`; after an error the same put may be
        repeated."""
        seal = Seal(len(data), hashlib.sha256(data).hexdigest())
        starts = range(0, len(data), CHUNK_BYTES)
        for first in range(0, len(starts), CHUNKS_IN_FLIGHT):
            some = starts[first : first + CHUNKS_IN_FLIGHT]
            await asyncio.gather(
                *(self.put_chunk(object_id, start // CHUNK_BYTES, data[start : start + CHUNK_BYTES]) for start in some)
            )
        await self._put_once(object_id, SEAL, msgspec.json.encode(seal))
        return seal

    async def put_chunk(self, object_id: str, index: int, data: bytes) -> None:
        """Store chunk `index`; the same again is fine.

        Raises Conflict if another content stands there, TooLarge, Invalid for an empty chunk, and what a
        publish raises: after PublishTimeout put it again.
        """
        if len(data) > CHUNK_BYTES or index * CHUNK_BYTES + len(data) > limits.PAYLOAD_BYTES_MAX:
            raise TooLarge(
                f"object {object_id}: a chunk holds at most {CHUNK_BYTES} bytes (PAYLOAD_CHUNK_BYTES_MAX) and "
                f"an object {limits.PAYLOAD_BYTES_MAX} (PAYLOAD_BYTES_MAX)"
            )
        if not data:
            raise Invalid(f"object {object_id}: chunk {index} is empty")
        await self._put_once(object_id, index, data)

    async def seal(self, object_id: str, size: int, sha256: str) -> Seal:
        """Declare an object whole. Raises Invalid if chunks are missing or do not make up `size`."""
        counts = await api(
            self._connection,
            f"STREAM.INFO.{self._stream}",
            {"subjects_filter": self._subjects.payload(object_id)},
            _StreamSubjects,
        )
        there = {subject.rpartition(".")[2] for subject in counts.state.subjects} - {SEAL}
        wanted = -(-size // CHUNK_BYTES)
        if there != {str(index) for index in range(wanted)}:
            raise Invalid(f"object {object_id}: {size} bytes are {wanted} chunks, but {len(there)} are stored")
        if wanted:
            last = await self.chunk(object_id, wanted - 1)
            if len(last) != size - (wanted - 1) * CHUNK_BYTES:
                raise Invalid(f"object {object_id}: the last chunk does not end at {size} bytes")
        seal = Seal(size, sha256)
        await self._put_once(object_id, SEAL, msgspec.json.encode(seal))
        return seal

    async def sealed(self, object_id: str) -> Seal | None:
        """Size and digest of a whole object; None if there is none, or not all of it."""
        message = await self._get(object_id, SEAL)
        return None if message is None else msgspec.json.decode(message, type=Seal)

    async def chunk(self, object_id: str, index: int) -> bytes:
        """One chunk. Raises NotFound."""
        data = await self._get(object_id, index)
        if data is None:
            raise NotFound(f"object {object_id} has no chunk {index}")
        return data

    async def get(self, object_id: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on, fewer at the end; only the chunks that hold them are read.
        Raises NotFound."""
        seal = await self.sealed(object_id)
        if seal is None:
            raise NotFound(f"there is no object {object_id}")
        end = min(offset + length, seal.size)
        if offset >= end:
            return b""
        first = offset // CHUNK_BYTES
        parts = [await self.chunk(object_id, index) for index in range(first, -(-end // CHUNK_BYTES))]
        return b"".join(parts)[offset - first * CHUNK_BYTES : end - first * CHUNK_BYTES]

    async def get_all(self, object_id: str, seal: Seal) -> bytes:
        """A whole object, checked against `seal`. Raises NotFound, and `internal` if the digest does not
        fit."""
        indexes = range(-(-seal.size // CHUNK_BYTES))
        parts: list[bytes] = []
        for first in range(0, len(indexes), CHUNKS_IN_FLIGHT):
            some = indexes[first : first + CHUNKS_IN_FLIGHT]
            parts += await asyncio.gather(*(self.chunk(object_id, index) for index in some))
        data = b"".join(parts)
        if len(data) != seal.size or hashlib.sha256(data).hexdigest() != seal.sha256:
            raise DagNatsError(f"object {object_id} is damaged: its digest is not {seal.sha256}")
        return data

    async def delete(self, object_id: str) -> None:
        """Remove an object, or what there is of it. Nothing happens if there is none."""
        body = {"filter": self._subjects.payload(object_id)}
        await api(self._connection, f"STREAM.PURGE.{self._stream}", body, msgspec.Raw)

    async def _put_once(self, object_id: str, part: int | str, data: bytes) -> None:
        try:
            await self._publisher.publish(self._subjects.payload(object_id, part), data, _NEW)
        except WrongSequence:
            if await self._get(object_id, part) != data:
                raise Conflict(f"object {object_id} holds something else: objects are written once") from None

    async def _get(self, object_id: str, part: int | str) -> bytes | None:
        subject = self._subjects.payload(object_id, part)
        message = await get_last(self._connection, self._stream, subject)
        if message is None:
            message = await get_last(self._connection, self._stream, subject, fresh=True)
        return None if message is None else message.data
