"""`dagnats-gateway` as its users run it: a process, flags, a signal."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest

from dagnats_core.bus.connection import ConnectOptions, connect
from dagnats_micro.schemas import run
from dagnats_micro.schemas.common import Count
from tests.integration.gateway.samples import RUN_ID, event, events
from tests.support.fake_api import FakeApi
from tests.support.nats import NatsServer

PROGRAM = Path(sys.executable).with_name("dagnats-gateway")


async def start(*arguments: str, cwd: Path, environ: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DAGNATS_")}
    return await asyncio.create_subprocess_exec(
        PROGRAM, *arguments, cwd=cwd, stderr=asyncio.subprocess.PIPE, env={**clean, **(environ or {})}
    )


async def one_event(request: run.EventsRequest) -> run.EventList:
    if request.wait_ms:
        await asyncio.Event().wait()
    return events(event(1), after=1)


async def test_it_serves_until_a_signal(shared_nats: NatsServer, tmp_path: Path) -> None:
    site = f"g{secrets.token_hex(6)}"
    connection = await connect(ConnectOptions(urls=(shared_nats.url,)))
    api = FakeApi(connection, site)
    api.answers["run-count"] = lambda _: Count(count=2)
    api.answers["run-events"] = one_event
    await api.start()
    flags = ("--http-addr", "127.0.0.1:0", "--log-format", "json", "--nats-url", shared_nats.url)
    process = await start(*flags, cwd=tmp_path, environ={"DAGNATS_SITE": site})
    assert process.stderr is not None
    async with asyncio.timeout(20):
        ready = json.loads(await process.stderr.readline())
        assert (ready["event"], ready["site"]) == ("ready", site)
        async with httpx.AsyncClient(base_url=ready["http_url"]) as http:
            assert (await http.get("/ready")).status_code == 200
            assert (await http.get("/runs/count")).json() == {"count": 2}
            url = f"/runs/{RUN_ID}/events"
            async with http.stream("GET", url, headers={"accept": "text/event-stream"}) as response:
                assert response.status_code == 200
                started = time.monotonic()
                process.send_signal(signal.SIGTERM)
                await response.aread()
                assert await process.wait() == 0
                assert time.monotonic() - started < 3
            with pytest.raises(httpx.ConnectError):
                await http.get("/ready")
        rest = [json.loads(line)["event"] for line in (await process.stderr.read()).splitlines()]
    assert rest == ["stopping", "stopped"]
    await api.stop()
    await connection.close()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--http-addr", "nowhere"], 4, "--http-addr"),
        (["--nats-url", "nats://127.0.0.1:1"], 6, "nats://127.0.0.1:1"),
        (["--site", "Bad Site"], 4, "--site"),
        (["--unknown"], 2, "--unknown"),
    ],
)
async def test_what_stops_it_from_starting_is_said(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    process = await start(*arguments, cwd=tmp_path)
    async with asyncio.timeout(20):
        _, text = await process.communicate()
    assert (process.returncode, said in text.decode()) == (code, True)


async def test_a_taken_port_is_said(shared_nats: NatsServer, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    flags = ("--site", "x", "--http-addr", f"127.0.0.1:{port}", "--nats-url", shared_nats.url)
    process = await start(*flags, cwd=tmp_path)
    async with asyncio.timeout(20):
        _, text = await process.communicate()
    server.close()
    assert (process.returncode, f"port {port} on 127.0.0.1 is in use" in text.decode()) == (5, True)
