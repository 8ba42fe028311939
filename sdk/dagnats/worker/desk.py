"""What an attempt needs of its worker, and what the worker knows of a task type. Values and references only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from dagnats.worker.handlers import Handler
from dagnats.worker.outcomes import Outcome
from dagnats.worker.payloads import Payloads
from dagnats.worker.reporter import Reporter
from dagnats.worker.slots import TypeSlots
from dagnats.worker.threads import Threads
from dagnats_core.bus.subjects import Subjects

if TYPE_CHECKING:
    from dagnats.worker.execution import Execution


class TaskType(NamedTuple):
    """A task type (and group) as the worker serves it."""

    name: str
    group: str | None
    token: str
    handler: Handler
    slots: TypeSlots


class Desk(NamedTuple):
    """What an attempt needs of its worker.

    `tell` sends one message, or drops it while the connection is down.
    """

    loop: asyncio.AbstractEventLoop
    worker_id: str
    subjects: Subjects
    ack_wait_ms: int
    inline_bytes_max: int
    tell: Callable[[str, bytes], None]
    reporter: Reporter
    threads: Threads[Outcome]
    payloads: Payloads
    free_slot: Callable[[TypeSlots], None]
    on_end: Callable[[Execution], None]
