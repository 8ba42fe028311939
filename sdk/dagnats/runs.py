"""`RunHandle`: one run as a client sees it, and how it ended.

Everything is asked of the control plane, each time anew.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, overload

import msgspec

from dagnats_core import limits
from dagnats_core.errors import Busy, DagNatsError, TimedOut, Unavailable
from dagnats_micro.client import MicroClient
from dagnats_micro.schemas import run as schemas
from dagnats_micro.schemas.common import Failure
from dagnats_micro.table import RUN_CANCEL, RUN_EVENTS, RUN_GET, RUN_OUTPUT, RUN_RETRY

T = TypeVar("T")
ENDED = ("completed", "failed", "cancelled")
POLL_MS = 10 * limits.SECOND_MS
"""How long one request waits for news; short enough that a dead replica is noticed soon."""
PAUSE_S = (0.05, 2.0)
"""The first and the longest pause while the control plane is away."""


class RunFailed(DagNatsError):
    """The run failed. `error` has the code, the message, the step and the details of its cause."""

    code = "run_failed"

    def __init__(self, run_id: str, error: Failure) -> None:
        where = f" at step {error.step!r}" if error.step else ""
        super().__init__(f"run {run_id} failed{where}: {error.code}: {error.message}")
        self.run_id = run_id
        self.error = error


class RunCancelled(DagNatsError):
    """The run was cancelled."""

    code = "run_failed"

    def __init__(self, run_id: str, reason: str = "") -> None:
        super().__init__(f"run {run_id} was cancelled" + (f": {reason}" if reason else ""))
        self.run_id = run_id
        self.reason = reason


class RunHandle:
    """One run. `created` is False if its request id had started it before."""

    def __init__(self, client: MicroClient, run_id: str, *, created: bool = True) -> None:
        self._client = client
        self.run_id = run_id
        self.created = created

    def __repr__(self) -> str:
        return f"RunHandle({self.run_id!r})"

    async def get(self) -> schemas.Run:
        """The run with its steps, as it stands now. Raises NotFound."""
        return await self._client.call(RUN_GET, schemas.RunRequest(run_id=self.run_id))

    async def status(self) -> schemas.RunStatus:
        return (await self.get()).status

    @overload
    async def result(self, timeout: float | None = None) -> Any: ...

    @overload
    async def result(self, timeout: float | None = None, *, type: type[T]) -> T: ...

    async def result(self, timeout: float | None = None, *, type: Any = Any) -> Any:
        """Wait for the end; the run's output, as `type` if one is given (a msgspec struct, a dataclass …).

        Raises RunFailed or RunCancelled if it ended so, TimedOut after `timeout` seconds (the run goes on),
        msgspec.ValidationError if the output is no `type`. Waits on while the control plane restarts.
        """
        reply = await self._wait(None if timeout is None else time.monotonic() + timeout)
        if reply.status == "completed":
            if reply.chunk is not None:
                return await _persist(lambda: self.output(type=type), None)
            return reply.output if type is Any else msgspec.json.decode(msgspec.json.encode(reply.output), type=type)
        if reply.status == "cancelled":
            raise RunCancelled(self.run_id, reply.error.message if reply.error else "")
        raise RunFailed(self.run_id, reply.error or Failure(code="internal", message="no cause is known"))

    @overload
    async def output(self, step: str | None = None) -> Any: ...

    @overload
    async def output(self, step: str | None = None, *, type: type[T]) -> T: ...

    async def output(self, step: str | None = None, *, type: Any = Any) -> Any:
        """The output of the run, or of one of its steps, as it stands now; None while there is none."""
        body = await self._client.read_output(self.run_id, step)
        return msgspec.json.decode(body, type=type)

    async def events(self, after: int = 0) -> AsyncIterator[schemas.RunEvent]:
        """What happened in the run and what happens, until it has ended.

        `after`: a `seq` from which to go on.
        """
        while True:
            page = await _persist(partial(self._poll, after, POLL_MS), None)
            for event in page.items:
                yield event
            after = page.after
            if page.ended and not page.items:
                return

    async def cancel(self, reason: str = "") -> schemas.RunStatus:
        """End the run as cancelled; its handlers are told. Raises Conflict if it has ended already."""
        reply = await self._client.call(RUN_CANCEL, schemas.CancelRequest(run_id=self.run_id, reason=reason))
        return reply.status

    async def retry(self, *, reuse: bool = True, request_id: str | None = None) -> RunHandle:
        """Start a new run of this ended one. `reuse` takes over what had completed."""
        request = schemas.RetryRequest(run_id=self.run_id, reuse=reuse, request_id=request_id)
        reply = await self._client.call(RUN_RETRY, request)
        return RunHandle(self._client, reply.run_id, created=reply.created)

    async def _wait(self, deadline_s: float | None) -> schemas.Output:
        """The run's output once it has ended."""
        while True:
            wait_ms = POLL_MS
            if deadline_s is not None:
                wait_ms = max(0, min(POLL_MS, int((deadline_s - time.monotonic()) * 1000)))
            request = schemas.OutputRequest(run_id=self.run_id, wait_ms=wait_ms)
            timeout_s = (wait_ms + limits.REQUEST_TIMEOUT_MS) / 1000
            reply = await _persist(partial(self._client.call, RUN_OUTPUT, request, timeout_s), deadline_s)
            if reply.status in ENDED:
                return reply
            if wait_ms == 0:
                raise TimedOut(f"run {self.run_id} has not ended in time")

    async def _poll(self, after: int, wait_ms: int) -> schemas.EventList:
        request = schemas.EventsRequest(run_id=self.run_id, after=after, wait_ms=wait_ms, limit=limits.PAGE_ITEMS_MAX)
        return await self._client.call(RUN_EVENTS, request)


async def _persist(call: Callable[[], Awaitable[T]], deadline_s: float | None) -> T:
    """The result of a read, tried again for as long as the control plane is only away, until the deadline."""
    pause_s, pause_s_max = PAUSE_S
    while True:
        try:
            return await call()
        except (Unavailable, Busy, TimedOut) as error:
            pause_s = min(pause_s * 2, pause_s_max)
            if deadline_s is not None and time.monotonic() + pause_s > deadline_s:
                raise TimedOut(f"not in time: {error.message}") from error
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
