"""The whole system goes away while a handler runs, and comes back: its work is neither lost nor done twice."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dagnats import Client, Context, Unavailable, Worker, Workflow, testing


async def test_a_handler_outlives_the_system(tmp_path: Path) -> None:
    wf = Workflow("patient")
    wf.step("first", task="patient.work")
    wf.step("second", task="patient.work", after=["first"])
    calls: list[str] = []
    running, go_on = asyncio.Event(), asyncio.Event()
    home = tmp_path / "data"
    async with testing.site(data_dir=home) as before:
        worker = Worker([wf], nats_url=before.nats_url)

        @worker.task("patient.work")
        async def work(ctx: Context) -> str:
            calls.append(ctx.step_id)
            running.set()
            await go_on.wait()
            return ctx.step_id

        await worker.start()
        async with before.client() as client:
            run_id = (await client.start("patient")).run_id
        await asyncio.wait_for(running.wait(), 20)
        port = urlsplit(before.nats_url).port
        assert port
    go_on.set()  # the handler ends while there is nobody to report to
    try:
        async with testing.site(data_dir=home, nats_port=port) as after, Client.connect(after.nats_url) as client:
            assert await client.run(run_id).result(timeout=60) == "second"
            assert calls == ["first", "second"]
            assert await (await client.start("patient")).result(timeout=30) == "second", "the queues work as before"
            await worker.stop()
    finally:
        await worker.stop()


async def test_a_site_that_does_not_start_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=str(port)):
            async with testing.site(nats_port=port):
                raise AssertionError("it started on a port that is taken")
