"""Large inputs and outputs of attempts: fetched before a handler starts, stored after it returned.

Tries for ever.

What cannot be had at all (a payload that is gone or damaged, an output that is too large) is a refusal; what
cannot be had now is tried again with pauses, for as long as the attempt lives.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
import structlog
from msgspec import UNSET, Raw

from dagnats_core import limits
from dagnats_core.errors import Busy, StorageFull, TimedOut, Unavailable
from dagnats_core.run.messages import Ref, Task
from dagnats_micro.schemas.common import PayloadRef

T = TypeVar("T")
FIRST_PAUSE_S = 0.1

log = structlog.get_logger(__name__)


class Store(Protocol):
    """Where payloads are kept: the micro client."""

    async def put_payload(self, data: bytes) -> PayloadRef: ...

    async def get_payload(self, ref: PayloadRef) -> bytes: ...


class Payloads:
    """Reads and writes payloads for attempts. Raises DagNatsError for what trying again cannot mend."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def fetch_input(self, task: Task) -> bytes:
        """The JSON of a task's whole input."""
        if task.input_ref is not None:
            return await self._fetch(task.input_ref)
        fields = {} if task.input is UNSET else msgspec.json.decode(task.input, type=dict[str, Raw])
        for name, ref in task.input_refs.items():
            fields[name] = Raw(await self._fetch(ref))
        return msgspec.json.encode(fields)

    async def store(self, output: bytes) -> Ref:
        """Keep an output; the reference to it."""
        stored = await persist(lambda: self._store.put_payload(output), "store an output")
        return Ref(stored.id, stored.size, stored.sha256)

    async def _fetch(self, ref: Ref) -> bytes:
        wanted = PayloadRef(id=ref.id, size=ref.size, sha256=ref.sha256)
        return await persist(lambda: self._store.get_payload(wanted), "fetch an input")


async def persist(call: Callable[[], Awaitable[T]], what: str) -> T:
    """The result of `call`, tried again for as long as the system is only away, busy or full.

    Says so once.
    """
    pause_s = FIRST_PAUSE_S
    told = False
    while True:
        try:
            return await call()
        except (Unavailable, TimedOut, Busy, StorageFull) as error:
            if not told:
                told = True
                log.warning("worker.waiting", to=what, error=error.message)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(pause_s * 2, limits.WORKER_RETRY_MS_MAX / 1000)
