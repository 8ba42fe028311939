"""`payload`: values too large for a message, chunk by chunk."""

from __future__ import annotations

from typing import Any

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem
from dagnats_micro import table
from dagnats_micro.api import Api
from dagnats_micro.present import payload_ref
from dagnats_micro.runner import Bound
from dagnats_micro.schemas import payload

CHUNK_BYTES = limits.PAYLOAD_CHUNK_BYTES_MAX


class PayloadHandlers:
    def __init__(self, api: Api) -> None:
        self._payloads = api.payloads

    async def put(self, request: payload.PutRequest) -> payload.PutReply:
        problems = _problems(request)
        if problems:
            raise Invalid("this is no chunk of a payload", problems)
        await self._payloads.put_chunk(request.id, request.index, request.data)
        ref = None
        if request.size is not None and request.sha256 is not None:
            ref = await self._payloads.seal(request.id, request.size, request.sha256)
        return payload.PutReply(id=request.id, index=request.index, ref=payload_ref(ref))

    async def get(self, request: payload.GetRequest) -> payload.GetReply:
        data, size = await self._payloads.chunk(request.id, request.index)
        more = (request.index + 1) * CHUNK_BYTES < size
        next_index = request.index + 1 if more else None
        return payload.GetReply(id=request.id, index=request.index, data=data, size=size, next_index=next_index)


def bind(api: Api) -> list[Bound[Any, Any]]:
    payloads = PayloadHandlers(api)
    return [Bound(table.PAYLOAD_PUT, payloads.put), Bound(table.PAYLOAD_GET, payloads.get)]


def _problems(request: payload.PutRequest) -> list[Problem]:
    """What a chunk must be: full unless it is the last, and the last says what the whole is."""
    problems = []
    if len(request.data) > CHUNK_BYTES:
        problems.append(Problem("data", "size", f"{len(request.data)} bytes: a chunk holds at most {CHUNK_BYTES}"))
    if not request.last:
        if len(request.data) != CHUNK_BYTES:
            problems.append(Problem("data", "size", f"all chunks but the last hold exactly {CHUNK_BYTES} bytes"))
        return problems
    if request.sha256 is None:
        problems.append(Problem("sha256", "required", "the last chunk says the SHA-256 of the whole"))
    wanted = request.index * CHUNK_BYTES + len(request.data)
    if request.size != wanted:
        problems.append(Problem("size", "size", f"the last chunk says the size of the whole: {wanted}"))
    if not request.data and request.index:
        problems.append(Problem("data", "size", "the last chunk is empty: seal with the one before it"))
    return problems
