"""A worker program for tests: `sleep` takes as long as its input says, `hang` blocks a thread for ever."""

from __future__ import annotations

import asyncio
import threading

from dagnats import Context, Worker

worker = Worker(name="sleeper")


@worker.task("sleep")
async def sleep(ctx: Context, seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@worker.task("hang")
def hang(ctx: Context) -> None:
    threading.Event().wait()


if __name__ == "__main__":
    worker.run()
