"""`dagnats serve` with eyes on its end: `python -m tests.support.serve_probe HANGING_STEP STOP_MS FLAGS…`.

At the end it prints one JSON line: the exit code, the threads that are left, and the tasks that were still there when
the event loop was closed. `HANGING_STEP` is the part whose stop never returns, or `none`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from asyncio import runners
from functools import partial
from typing import Any

from dagnats_cli import compose, main
from dagnats_core import lifecycle
from dagnats_core.lifecycle import Stack


def hang(name: str) -> None:
    """Let the stop of the part that is called `name` never return."""
    start = Stack.start

    async def hanging_start(self: Stack, called: str, service: Any) -> Any:
        await start(self, called, service)
        if called == name:
            service.stop = asyncio.Event().wait
        return service

    Stack.start = hanging_start  # type: ignore[method-assign]


def watch_tasks() -> list[str]:
    """What `asyncio.run` has to cancel at its end."""
    left: list[str] = []
    cancel = runners._cancel_all_tasks  # type: ignore[attr-defined]

    def cancel_and_tell(loop: asyncio.AbstractEventLoop) -> None:
        left.extend(repr(task) for task in asyncio.all_tasks(loop))
        cancel(loop)

    runners._cancel_all_tasks = cancel_and_tell  # type: ignore[attr-defined]
    return left


def run() -> int:
    step, stop_ms, *flags = sys.argv[1:]
    hang(step)
    compose.run = partial(lifecycle.run, stop_ms=int(stop_ms))  # type: ignore[assignment]
    tasks = watch_tasks()
    code = main.run(["serve", *flags])
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    print(json.dumps({"code": code, "threads": threads, "tasks": tasks}), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(run())
