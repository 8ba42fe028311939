"""A worker for tests of the whole: `python -m tests.support.sample_worker --nats-url URL`. Its workflow is `sample`."""

from __future__ import annotations

import asyncio
from typing import Any

from dagnats import Context, Fail, Worker

DEFINITION = """\
name: sample
steps:
  - {id: first, task: sample.double}
  - {id: slow, task: sample.wait, depends_on: [first], input: {value: steps.first.output, seconds: input.seconds}}
  - {id: last, task: sample.double, depends_on: [slow]}
"""

worker = Worker()


@worker.task("sample.double")
async def double(ctx: Context, value: Any) -> Any:
    """Twice a number; an object gives its `value`."""
    number = value["value"] if isinstance(value, dict) else value
    if number == "bad":
        raise Fail("bad_value", "this value is bad")
    return number * 2


@worker.task("sample.wait")
async def wait(ctx: Context, value: dict[str, Any]) -> Any:
    """Hand the value on after a while."""
    await asyncio.sleep(value["seconds"])
    return value["value"]


if __name__ == "__main__":
    worker.run()
