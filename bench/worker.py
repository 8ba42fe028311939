"""The worker of the benchmark: handlers that do nothing, so that what is measured is the engine."""

from __future__ import annotations

from typing import Any

from bench.shapes import SHAPES
from dagnats import Context, Worker

worker = Worker(workflows=[shape.workflow for shape in SHAPES.values()], max_concurrent=1000)


@worker.task("bench.echo")
async def echo(ctx: Context, value: Any) -> Any:
    return value


@worker.task("bench.count")
async def count(ctx: Context, values: dict[str, Any]) -> int:
    return len(values)


if __name__ == "__main__":
    worker.run()
