"""A worker that writes each start of a handler into its own file, before it does anything else."""

from __future__ import annotations

import os
import sys
from typing import Any

from dagnats import Context, Fail, Worker
from tests.chaos.workflows import TASK, WORKFLOWS

EFFECTS = os.environ["CHAOS_EFFECTS"]
worker = Worker(workflows=list(WORKFLOWS.values()), max_concurrent=200)


@worker.task(TASK)
async def work(ctx: Context, value: Any) -> Any:
    line = f"{ctx.run_id} {ctx.step_id} {ctx.attempt} {os.getpid()}\n".encode()
    os.write(FILE, line)
    if ctx.attempt <= int(ctx.metadata.get("fail_attempts", "0")):
        raise Fail("meant", "this attempt fails on purpose", retryable=True)
    return {"step": ctx.step_id, "attempt": ctx.attempt}


if __name__ == "__main__":
    FILE = os.open(f"{EFFECTS}/{os.getpid()}.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sys.exit(worker.run())
