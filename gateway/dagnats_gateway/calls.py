"""Requests to the API on behalf of HTTP clients, and the end of those that wait when the gateway stops."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from dagnats_micro import Unavailable
from dagnats_micro.endpoint import Endpoint, Rep, Req


class Caller(Protocol):
    """What the gateway needs of the micro client."""

    async def call(self, endpoint: Endpoint[Req, Rep], request: Req) -> Rep: ...


class Calls:
    """Calls through one client. After `stop`, those that wait for news end with Unavailable; the others go
    on."""

    def __init__(self, client: Caller) -> None:
        self._client = client
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    async def call(self, endpoint: Endpoint[Any, Rep], request: Any) -> Rep:
        """The reply. Raises the DagNatsError that the API answered with, or Unavailable, TimedOut."""
        if not getattr(request, "wait_ms", 0):
            return await self._client.call(endpoint, request)
        calling = asyncio.ensure_future(self._client.call(endpoint, request))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({calling, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if calling.done():
                return calling.result()
            raise Unavailable("the gateway is stopping; ask again")
        finally:
            calling.cancel()
            stopping.cancel()
