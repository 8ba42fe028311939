"""`worker.run()` as a process: flags, environment, signals, exit codes, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.fake_site import FakeSite

PROGRAM = Path(__file__).parent / "programs" / "sleeper.py"


@asynccontextmanager
async def program(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, str(PROGRAM), *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def end_of(process: asyncio.subprocess.Process, timeout_s: float = 20) -> tuple[int, str]:
    """(exit code, standard error)"""
    out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    assert out == b"", "standard output is for results"
    assert process.returncode is not None
    return process.returncode, err.decode()


def flags(site: FakeSite) -> list[str]:
    return ["--nats-url", site.connection.url, "--site", site.site, "--log-format", "json"]


async def test_sigterm_lets_a_handler_finish_and_exits_with_0(site: FakeSite) -> None:
    async with program(*flags(site)) as process:
        await site.until(lambda: bool(site.beats))
        task = await site.hand_out("sleep", 1.6)
        await site.until(lambda: bool(site.reports_of(task, "started")))
        process.send_signal(signal.SIGTERM)
        code, log = await end_of(process)
    assert code == 0, log
    assert [each.kind for each in site.reports_of(task)] == ["started", "completed"]
    assert site.beats[-1].stopping
    assert "Traceback" not in log


@pytest.mark.slow
async def test_a_hanging_thread_is_given_back_and_does_not_keep_the_process(site: FakeSite) -> None:
    async with program(*flags(site)) as process:
        task = await site.hand_out("hang")
        await site.until(lambda: bool(site.reports_of(task, "started")))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code, log = await end_of(process)
    assert code == 0, log
    assert 9 < time.monotonic() - began < 15
    assert "worker.attempt_given_back" in log
    assert await site.unacknowledged("hang") == 1


async def test_a_second_signal_exits_at_once(site: FakeSite) -> None:
    async with program(*flags(site)) as process:
        task = await site.hand_out("hang")
        await site.until(lambda: bool(site.reports_of(task, "started")))
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while b"stopping" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        code, _ = await end_of(process, 5)
    assert code == 128 + signal.SIGTERM


async def test_the_environment_names_the_server_and_the_site_is_found(site: FakeSite) -> None:
    async with program(
        DAGNATS_NATS_URL=site.connection.url, DAGNATS_LOG_FORMAT="json", DAGNATS_SITE=site.site
    ) as process:
        task = await site.hand_out("sleep", 0)
        report = await site.outcome(task)
        process.send_signal(signal.SIGINT)
        code, log = await end_of(process)
    assert report.worker_id.startswith("sleeper-")
    assert code == 0, log


async def test_a_server_that_is_away_is_waited_for_and_said_once() -> None:
    async with program("--nats-url", "nats://127.0.0.1:1", "--site", "x", "--log-format", "json") as process:
        assert process.stderr is not None
        line = await asyncio.wait_for(process.stderr.readline(), 20)
        assert b"worker.waiting" in line
        process.send_signal(signal.SIGTERM)
        code, log = await end_of(process)
    assert code == 0
    assert "worker.waiting" not in log


async def test_what_waiting_cannot_mend_has_an_exit_code() -> None:
    async with program("--creds", "/nowhere/x.creds") as process:
        code, log = await end_of(process)
    assert code == 4
    assert "/nowhere/x.creds" in log
    async with program("--no-such-flag") as process:
        code, _ = await end_of(process)
    assert code == 2
