"""What a process that serves a front door needs to run: settings, logs, lifecycle, event loop, connection.

Most of it is core's, named here for front doors that import nothing below micro.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dagnats_core.bus.connection import Connection as Connection
from dagnats_core.bus.connection import ConnectOptions as ConnectOptions
from dagnats_core.bus.connection import connect
from dagnats_core.config import FIELDS as FIELDS
from dagnats_core.config import Config as Config
from dagnats_core.config import load_config as load_config
from dagnats_core.lifecycle import ServiceBase as ServiceBase
from dagnats_core.lifecycle import Stack as Stack
from dagnats_core.lifecycle import run as run
from dagnats_core.telemetry.logs import configure_logs as configure_logs


class Connected(ServiceBase):
    """A connection to NATS as a service."""

    def __init__(self, options: ConnectOptions) -> None:
        super().__init__()
        self._options = options
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        assert self._connection is not None, "not connected"
        return self._connection

    async def _start(self) -> None:
        self._connection = await connect(self._options)

    async def _stop(self) -> None:
        if self._connection is not None:
            await self._connection.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop of every process of ours; None is asyncio's own."""
    try:
        import uvloop
    except ImportError:  # there is none for this platform
        return None
    return uvloop.new_event_loop
