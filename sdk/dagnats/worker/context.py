"""What a handler knows of its attempt and may say while it runs. It decides nothing: the execution does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from dagnats_core import limits
from dagnats_core.errors import TooLarge
from dagnats_core.run.messages import Task

_encode = msgspec.json.Encoder().encode


class Progress(msgspec.Struct, frozen=True):
    """What `Context.progress` makes others hear (docs/wire.md)."""

    run_id: str
    step: str
    attempt: int
    at: int
    data: msgspec.Raw


class Context:
    """The first argument of every handler.

    Usable from the handler's thread or task until the handler returns.
    """

    __slots__ = (
        "_deadline_ms",
        "_log",
        "_loop",
        "_send_progress",
        "_task",
        "_wanted",
        "cancelled",
        "worker_id",
    )

    def __init__(
        self,
        task: Task,
        worker_id: str,
        deadline_ms: int,
        loop: asyncio.AbstractEventLoop,
        send_progress: Callable[[bytes], None],
    ) -> None:
        self._task = task
        self._deadline_ms = deadline_ms
        self._loop = loop
        self._send_progress = send_progress
        self._wanted: asyncio.Event | None = None
        self._log: Any = None
        self.worker_id: str = worker_id
        self.cancelled: bool = False
        """True once the attempt is not wanted any more: its run ended, it timed out, or the worker stops.

        An async handler is also cancelled (`asyncio.CancelledError`); a handler in a thread must look here.
        """

    @property
    def run_id(self) -> str:
        return self._task.run_id

    @property
    def step_id(self) -> str:
        return self._task.step

    @property
    def attempt(self) -> int:
        """1 for the first attempt of this step, 2 for its first retry, and so on."""
        return self._task.attempt

    @property
    def workflow(self) -> str:
        return self._task.workflow

    @property
    def task(self) -> str:
        """The task type, as the step names it."""
        return self._task.task

    @property
    def metadata(self) -> Mapping[str, str]:
        """The step's own metadata, from the definition."""
        return self._task.metadata

    @property
    def traceparent(self) -> str:
        """The W3C trace context that the run was started with; empty if none."""
        return self._task.traceparent

    @property
    def deadline(self) -> datetime | None:
        """When this attempt's time is over (UTC), by the step's timeout or the run's; None if it has none."""
        return datetime.fromtimestamp(self._deadline_ms / 1000, UTC) if self._deadline_ms else None

    @property
    def log(self) -> Any:
        """A structlog logger that names run, step, attempt and task."""
        if self._log is None:
            self._log = structlog.get_logger("dagnats.task").bind(
                run_id=self.run_id, step=self.step_id, attempt=self.attempt, task=self.task
            )
        return self._log

    def progress(self, data: Any) -> None:
        """Tell whoever watches the run how far it is: any JSON of at most 64 KiB.

        Not stored, and lost while offline.

        Raises TypeError for what is no JSON, TooLarge above the bound.
        """
        body = _encode(data)
        if len(body) > limits.PROGRESS_BYTES_MAX:
            raise TooLarge(f"progress of {len(body)} bytes; at most {limits.PROGRESS_BYTES_MAX} are sent")
        if asyncio._get_running_loop() is self._loop:
            self._send_progress(body)
        else:
            self._loop.call_soon_threadsafe(self._send_progress, body)

    async def wait_cancelled(self) -> None:
        """Return once `cancelled` is true.

        For async handlers that shield themselves, or that wait for several things.
        """
        if self.cancelled:
            return
        if self._wanted is None:
            self._wanted = asyncio.Event()
        await self._wanted.wait()

    def cancel(self) -> None:
        """Called by the worker, on its loop, once the attempt is not wanted any more."""
        self.cancelled = True
        if self._wanted is not None:
            self._wanted.set()
