"""Records histories: runs workflows on a real site and writes each run's log, definition and final record to a file.

    python -m tests.replay.record

A recorded file is never changed again: it stands for all the runs that users have in their logs. Record new ones when
the log can say something new, under new names.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from dagnats import Client, Context, DagNatsError, Fail, RetryPolicy, Worker, Workflow, testing
from dagnats_core import ids
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.log import RunLog

HISTORIES = Path(__file__).with_name("histories")


class Line(msgspec.Struct):
    """One message of the log, as the fold takes it."""

    seq: int
    kind: str
    data: Raw
    key: str = ""


class History(msgspec.Struct):
    """A recorded run: what it ran, what the log held, and the record that it ended with."""

    run_id: str
    definition: Raw
    log: list[Line]
    final: Raw


def workflows() -> list[Workflow]:
    chain = Workflow("chain")
    chain.step("c", task="r.echo", after=[chain.step("b", task="r.echo", after=[chain.step("a", task="r.echo")])])
    fan = Workflow("fan")
    root = fan.step("root", task="r.echo")
    parts = [fan.step(f"part-{i}", task="r.echo", after=[root], input={"n": f"{i}", "all": "input"}) for i in range(4)]
    fan.step("join", task="r.echo", after=parts)
    retried = Workflow("retried", timeout="1m")
    flaky = retried.step("flaky", task="r.flaky", retry=RetryPolicy(max_attempts=3, initial_delay="300ms"))
    retried.step("last", task="r.echo", after=[flaky])
    skipped = Workflow("skipped")
    asked = skipped.step("asked", task="r.echo")
    maybe = skipped.step("maybe", task="r.echo", after=[asked], when="steps.asked.output.go == true")
    skipped.step("always", task="r.echo", after=[maybe])
    failed = Workflow("failed")
    failed.step("bad", task="r.bad", after=[failed.step("good", task="r.echo")])
    slow = Workflow("slow")
    slow.step("slow", task="r.slow", timeout="300ms")
    cancelled = Workflow("cancelled")
    cancelled.step("slow", task="r.slow")
    return [chain, fan, retried, skipped, failed, slow, cancelled]


def make_worker(nats_url: str) -> Worker:
    worker = Worker(workflows=workflows(), nats_url=nats_url)

    @worker.task("r.echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    @worker.task("r.flaky")
    async def flaky(ctx: Context, value: Any) -> int:
        if ctx.attempt < 3:
            raise RuntimeError("not yet")
        return ctx.attempt

    @worker.task("r.bad")
    async def bad(ctx: Context, value: Any) -> Any:
        raise Fail("meant", "it fails on purpose", details={"because": ["it", "must"]})

    @worker.task("r.slow")
    async def slow(ctx: Context, value: Any) -> None:
        await ctx.wait_cancelled()

    return worker


async def record() -> None:
    """Run every workflow once and write its history."""
    HISTORIES.mkdir(exist_ok=True)
    async with testing.site() as site, site.client() as client, make_worker(site.nats_url):
        publisher = Publisher(client.micro.connection)
        await publisher.start()
        log = RunLog(client.micro.connection, publisher, Topology(site.name))
        for workflow in workflows():
            run = await client.start(workflow.name, {"go": False, "text": "ä€😀"}, tags={"recorded": "yes"})
            if workflow.name == "cancelled":
                await run.cancel("recorded so")
            with suppress(DagNatsError):  # some end so: that is what is recorded
                await run.result(timeout=30)
            history = await read(client, log, run.run_id, workflow.name)
            (HISTORIES / f"{workflow.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(history)) + b"\n")
        await publisher.stop()


async def read(client: Client, log: RunLog, run_id: str, name: str) -> History:
    messages = (await log.read_run(ids.partition_of(run_id), run_id)).log
    ended = next(message for message in messages if message.kind == "out.ended")
    definition = (await client.workflow(name)).definition
    final = msgspec.json.decode(ended.data, type=dict[str, Raw])["final"]
    lines = [Line(message.seq, message.kind, Raw(message.data), message.key) for message in messages]
    return History(run_id, Raw(msgspec.json.encode(definition)), lines, final)


if __name__ == "__main__":
    asyncio.run(record())
