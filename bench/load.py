"""The load: runs that are started by the public client, one by one (`start`) or as many as the system takes
(`start_many`)."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from bench.shapes import Shape
from bench.system import System
from dagnats import Client, DagNatsError
from dagnats_core.bus.jetstream import ConsumerInfo, api
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology

STARTS_A_REQUEST = 50
REQUESTS_IN_FLIGHT = 8
INPUT = {"text": "x" * 100}


class Saturated(NamedTuple):
    runs_per_s: float
    cpu_s: float
    stored_per_run: float
    bytes_per_run: float


class Idle(NamedTuple):
    p50_ms: float
    p99_ms: float


async def saturated(client: Client, system: System, shape: Shape, runs: int) -> Saturated:
    """Start `runs` runs, many at a time, and wait until all have ended."""
    ended = await client.count(workflow=shape.workflow.name, status="completed")
    stored, size = await stored_messages(client)
    cpu = system.cpu_s()
    began = time.perf_counter()
    gate = asyncio.Semaphore(REQUESTS_IN_FLIGHT)

    async def start(count: int) -> None:
        async with gate:
            for run in await client.start_many(shape.workflow.name, [INPUT] * count):
                if isinstance(run, DagNatsError):
                    raise run

    batches = [min(STARTS_A_REQUEST, runs - first) for first in range(0, runs, STARTS_A_REQUEST)]
    await asyncio.gather(*(start(count) for count in batches))
    while await client.count(workflow=shape.workflow.name, status="completed") < ended + runs:
        await asyncio.sleep(0.02)
    took = time.perf_counter() - began
    cpu = system.cpu_s() - cpu
    stored_after, size_after = await stored_messages(client)
    return Saturated(runs / took, cpu, (stored_after - stored) / runs, (size_after - size) / runs)


async def idle(client: Client, shape: Shape, runs: int) -> Idle:
    """One run after another, from the start to the result in the caller's hands."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        await (await client.start(shape.workflow.name, INPUT)).result(timeout=30)
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return Idle(took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)])


async def stored_messages(client: Client) -> tuple[int, int]:
    """(messages of runs, bytes) in the run log, counted by the server."""
    connection = client.micro.connection
    stream = Topology(client.site).run_streams[0]
    subject = f"{Subjects(client.site).prefix}.run.>"
    config = {"filter_subject": subject, "ack_policy": "none", "deliver_policy": "all", "mem_storage": True}
    body = {
        "stream_name": stream,
        "config": {**config, "name": "bench-count", "inactive_threshold": 1_000_000_000},
    }
    info = await api(connection, f"CONSUMER.CREATE.{stream}.bench-count", body, ConsumerInfo)
    await api(connection, f"CONSUMER.DELETE.{stream}.bench-count", None, dict)
    state = (await api(connection, f"STREAM.INFO.{stream}", None, dict))["state"]
    return info.num_pending, state["bytes"]
