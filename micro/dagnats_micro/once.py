"""First answers: a mutating request that carries a request id and has no natural key is done once, whoever asks again.

    key <endpoint>.<hash of request id> = {digest of the request, answer}      bucket `requests`, kept for a day

The key is made before the work is done and gets the answer after it; work that was interrupted between is done again by
whoever asks next, so it must be harmless to repeat. What fails leaves no key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from dagnats_core.bus.errors import WrongSequence
from dagnats_core.bus.kv import Bucket, Entry
from dagnats_core.errors import Conflict, DagNatsError, Unavailable
from dagnats_micro.endpoint import Endpoint, Rep, Req

CLAIM_TRIES = 3

_encode = msgspec.json.Encoder().encode


class _Answer(msgspec.Struct):
    digest: str
    answer: Raw = Raw(b"null")


class FirstAnswers:
    """The first answers that a site remembers."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def once(
        self, endpoint: Endpoint[Req, Rep], request: Req, request_id: str | None, work: Callable[[], Awaitable[Rep]]
    ) -> Rep:
        """`work`'s reply, or the one that the same request had before. Raises Conflict if the id had another."""
        if request_id is None:
            return await work()
        key = f"{endpoint.name}.{hashlib.sha256(request_id.encode()).hexdigest()[:32]}"
        digest = hashlib.sha256(_encode(request)).hexdigest()[:32]
        entry = await self._claim(key, digest)
        known = msgspec.json.decode(entry.value, type=_Answer)
        if known.digest != digest:
            raise Conflict(f"request id {request_id!r} was used with another {endpoint.dotted} request")
        if bytes(known.answer) != b"null":
            return msgspec.json.decode(known.answer, type=endpoint.reply)
        try:
            reply = await work()
        except BaseException:
            with suppress(DagNatsError):
                await self._bucket.delete(key, revision=entry.revision)
            raise
        return await self._remember(key, digest, entry.revision, reply, endpoint.reply)

    async def _claim(self, key: str, digest: str) -> Entry:
        """The key as it stands; made if it was not there."""
        for _ in range(CLAIM_TRIES):
            entry = await self._bucket.get(key, fresh=True)
            if entry is not None:
                return entry
            claim = _encode(_Answer(digest))
            with suppress(WrongSequence):
                return Entry(key, claim, await self._bucket.create(key, claim), 0)
        raise Unavailable("the same request is being made by others: ask again")

    async def _remember(self, key: str, digest: str, revision: int, reply: Any, reply_type: type[Rep]) -> Rep:
        """Store the answer, unless somebody else was first: then theirs counts."""
        try:
            await self._bucket.update(key, _encode(_Answer(digest, Raw(_encode(reply)))), revision)
        except WrongSequence:
            entry = await self._bucket.get(key, fresh=True)
            known = msgspec.json.decode(entry.value, type=_Answer) if entry is not None else None
            if known is not None and bytes(known.answer) != b"null":
                return msgspec.json.decode(known.answer, type=reply_type)
        answer: Rep = reply
        return answer
