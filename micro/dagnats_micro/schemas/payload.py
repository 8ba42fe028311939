"""Requests and replies of `payload`: values too large for a message, in chunks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from dagnats_core import limits
from dagnats_micro.schemas.common import PayloadId, PayloadRef, Reply, Request, Sha256


class PutRequest(Request):
    """Store one chunk. All chunks but the last hold exactly 512 KiB. The caller chooses the id (26 random characters of
    lower-case base32); chunks may be sent again, in any order, to any replica. The `last` one seals the payload."""

    id: PayloadId
    index: Annotated[int, Meta(ge=0, lt=limits.PAYLOAD_BYTES_MAX // limits.PAYLOAD_CHUNK_BYTES_MAX)]
    data: Annotated[bytes, Meta(description="base64")]
    last: bool = False
    sha256: Annotated[Sha256, Meta(description="of the whole, with `last`")] | None = None
    size: Annotated[int, Meta(ge=0, le=limits.PAYLOAD_BYTES_MAX)] | None = None


class PutReply(Reply):
    """`ref` is set once the payload is sealed."""

    id: str
    index: int
    ref: PayloadRef | None


class GetRequest(Request):
    id: PayloadId
    index: Annotated[int, Meta(ge=0)] = 0


class GetReply(Reply):
    id: str
    index: int
    data: bytes
    size: int
    next_index: int | None
