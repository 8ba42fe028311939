"""Says that the worker lives, every 20 seconds, and once more when it stops cleanly; answers are ignored."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from dagnats_core import limits
from dagnats_core.errors import DagNatsError
from dagnats_micro.client import MicroClient
from dagnats_micro.schemas.worker import BeatRequest, TaskType
from dagnats_micro.table import WORKER_BEAT

LAST_BEAT_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


class Beat:
    """The heartbeat of one worker. `running()` tells how many tasks it works on."""

    def __init__(
        self,
        client: MicroClient,
        worker_id: str,
        tasks: list[TaskType],
        max_concurrent: int,
        version: str,
        running: Callable[[], int],
    ) -> None:
        self._client = client
        self._running = running
        self._task: asyncio.Task[None] | None = None
        self._about = BeatRequest(
            worker_id=worker_id,
            tasks=tasks,
            max_concurrent=max_concurrent,
            hostname=socket.gethostname()[:256],
            pid=os.getpid(),
            language=f"python {platform.python_version()}",
            version=version,
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )

    async def start(self) -> None:
        self._task = asyncio.create_task(self._go_on(), name="dagnats-worker-beat")

    async def stop(self) -> None:
        """End, and take the worker off the list if the control plane can be reached now."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        await self._say(stopping=True, timeout_s=LAST_BEAT_TIMEOUT_S)

    async def _go_on(self) -> None:
        while True:
            await self._say(stopping=False)
            await asyncio.sleep(limits.WORKER_BEAT_MS / 1000)

    async def _say(self, *, stopping: bool, timeout_s: float | None = None) -> None:
        self._about.running = self._running()
        self._about.stopping = stopping
        try:
            await self._client.call(WORKER_BEAT, self._about, timeout_s)
        except DagNatsError as error:
            log.debug("worker.beat_failed", error=error.message)
