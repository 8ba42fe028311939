"""First answers: a mutating request that carries a request id and has no natural key is done once, whoever asks again.

    key <endpoint>.<hash of request id> = {digest of the request, answer}      bucket `requests`, kept for a day

The key is made before the work is done and gets the answer after it. Who finds it without an answer waits for that;
work that was interrupted is done again, so it must be harmless to repeat. What fails leaves no key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
from msgspec import Raw

from dagnats_core.bus.errors import WrongSequence
from dagnats_core.bus.kv import Bucket
from dagnats_core.errors import Conflict, DagNatsError
from dagnats_micro.endpoint import Endpoint, Rep, Req

OTHERS_S = 2.0
"""How long to wait for the answer of whoever does the same work now, before it counts as interrupted."""
LOOK_AGAIN_S = 0.02

_encode = msgspec.json.Encoder().encode
_NONE = Raw(b"null")


class _Answer(msgspec.Struct):
    digest: str
    answer: Raw = _NONE

    @property
    def given(self) -> bool:
        return bytes(self.answer) != b"null"


_decode = msgspec.json.Decoder(_Answer).decode


class FirstAnswers:
    """The first answers that a site remembers."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._loop = asyncio.get_running_loop()

    async def once(
        self, endpoint: Endpoint[Req, Rep], request: Req, request_id: str | None, work: Callable[[], Awaitable[Rep]]
    ) -> Rep:
        """`work`'s reply, or the one that the same request had before. Raises Conflict if the id had another."""
        if request_id is None:
            return await work()
        key = f"{endpoint.name}.{hashlib.sha256(request_id.encode()).hexdigest()[:32]}"
        digest = hashlib.sha256(_encode(request)).hexdigest()[:32]
        revision, known = await self._claim(key, digest)
        if known.digest != digest:
            raise Conflict(f"request id {request_id!r} was used with another {endpoint.dotted} request")
        if not known.given:
            try:
                reply = await work()
            except BaseException:
                with suppress(DagNatsError):
                    await self._bucket.delete(key, revision=revision)
                raise
            known = await self._remember(key, _Answer(digest, Raw(_encode(reply))), revision)
        return msgspec.json.decode(known.answer, type=endpoint.reply)

    async def _claim(self, key: str, digest: str) -> tuple[int, _Answer]:
        """What stands under the key: an answer, another request, or a claim without an answer that is ours now."""
        deadline = self._loop.time() + OTHERS_S
        while True:
            entry = await self._bucket.get(key, fresh=True)
            if entry is None:
                claim = _Answer(digest)
                with suppress(WrongSequence):
                    return await self._bucket.create(key, _encode(claim)), claim
                continue
            known = _decode(entry.value)
            if known.given or known.digest != digest or self._loop.time() >= deadline:
                return entry.revision, known
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _remember(self, key: str, answer: _Answer, revision: int) -> _Answer:
        """Store the answer, unless somebody else was first: then theirs counts."""
        try:
            await self._bucket.update(key, _encode(answer), revision)
        except WrongSequence:
            entry = await self._bucket.get(key, fresh=True)
            known = _decode(entry.value) if entry is not None else answer
            return known if known.given else answer
        return answer
