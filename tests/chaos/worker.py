"""A worker that writes down each start of a handler, before it does anything else, and each answer that it gets."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from pathlib import Path
from typing import Any

from dagnats import Context, Fail, Worker
from tests.chaos.witness import Begun, Witness, now_ms
from tests.chaos.workflows import TASK, WORKFLOWS

SLOTS = 200


def main() -> None:
    witness = Witness(Path(os.environ["CHAOS_EFFECTS"]))
    witness.listen()
    worker = Worker(workflows=list(WORKFLOWS.values()), max_concurrent=SLOTS)

    @worker.task(TASK)
    async def work(ctx: Context, value: Any) -> Any:
        token = secrets.token_hex(8)
        witness.note(Begun(ctx.run_id, ctx.step_id, ctx.attempt, witness.worker, token, now_ms()))
        await asyncio.sleep(random.uniform(0, int(ctx.metadata.get("slow_ms", "0"))) / 1000)
        if ctx.attempt <= int(ctx.metadata.get("fail_attempts", "0")):
            raise Fail("meant", token, retryable=True)
        return {"token": token}

    worker.run()
