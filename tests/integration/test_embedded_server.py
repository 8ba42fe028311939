"""The embedded nats-server, with the real binary: one start to stop, and everything that may happen in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from structlog.testing import capture_logs

from dagnats_core import limits
from dagnats_core.errors import Conflict, Unavailable
from dagnats_core.server import supervisor
from dagnats_core.server.settings import Durability
from dagnats_core.server.supervisor import DiskBytes, EmbeddedServer
from tests.support.processes import guard_of, running_in_group, server_pids


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "data", site="berlin", port=0)
    await server.start()
    yield server
    await server.stop()


def varz(data_dir: Path) -> dict[str, object]:
    (file,) = (data_dir / "ports").glob("*.ports")
    monitor_url = json.loads(file.read_text())["monitoring"][0]
    with urllib.request.urlopen(f"{monitor_url}/varz", timeout=5) as answer:
        return dict(json.load(answer))


async def until_pid_changes(server: EmbeddedServer, before: int | None) -> int:
    async with asyncio.timeout(10):
        while server.pid in (None, before):
            await asyncio.sleep(0.002)
    assert server.pid is not None
    return server.pid


async def test_clients_land_in_the_account_and_domain_of_the_site(server: EmbeddedServer) -> None:
    client = await nats.connect(server.url)
    info = await client.jetstream().account_info()
    user = json.loads((await client.request("$SYS.REQ.USER.INFO", b"")).data)
    assert (info.domain, user["data"]["account"]) == ("berlin", "DAGNATS")
    assert info.api.level is not None
    assert info.api.level >= 4
    assert client.max_payload == limits.SERVER_PAYLOAD_BYTES_MAX
    await client.close()


@pytest.mark.parametrize(
    ("durability", "told"),
    [
        (Durability.ALWAYS, {"sync_always": True}),
        (Durability.ONE_SECOND, {"sync_interval": 1_000_000_000}),
        (Durability.OS, {"sync_interval": 120_000_000_000}),
    ],
)
async def test_durability_reaches_the_server(tmp_path: Path, durability: Durability, told: dict[str, object]) -> None:
    server = EmbeddedServer(tmp_path, site="local", port=0, durability=durability)
    await server.start()
    config = varz(tmp_path)["jetstream"]["config"]  # type: ignore[index]
    await server.stop()
    assert {key: config.get(key) for key in told} == told


async def test_a_data_dir_with_an_odd_name(tmp_path: Path) -> None:
    odd = tmp_path / """a "b" \\c 'd' $e #f {g} é"""
    server = EmbeddedServer(odd, site="local", port=0)
    await server.start()
    await server.stop()
    assert (odd / "jetstream").is_dir()


async def test_a_second_start_on_the_data_dir_says_who_holds_it(tmp_path: Path, server: EmbeddedServer) -> None:
    second = EmbeddedServer(tmp_path / "data", site="berlin", port=0)
    with pytest.raises(Conflict, match=f"in use by process {os.getpid()}"):
        await second.start()
    assert server.pid is not None


async def test_a_taken_port_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = EmbeddedServer(tmp_path, site="local", port=port)
        with pytest.raises(Conflict, match=f"port {port} on 127.0.0.1 is in use"):
            await server.start()
    assert server.pid is None
    await server.start()
    assert server.url == f"nats://127.0.0.1:{port}"
    await server.stop()


async def test_stop_leaves_no_process_thread_descriptor_or_port(tmp_path: Path) -> None:
    def threads() -> set[str]:
        return {thread.name for thread in threading.enumerate()}

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = threads(), descriptors(), asyncio.all_tasks()
    server = EmbeddedServer(tmp_path, site="local", port=0)
    await server.start()
    pid = server.pid
    assert pid is not None
    assert len(running_in_group(pid)) == 2, "the server and its guard"
    await server.stop()
    assert running_in_group(pid) == []
    assert (threads(), descriptors(), asyncio.all_tasks()) == before
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", int(server.url.rpartition(":")[2])))


async def test_stop_waits_for_the_guard_too(server: EmbeddedServer) -> None:
    pid = server.pid
    assert pid is not None
    guard = guard_of(pid)
    guard.suspend()
    try:
        stopping = asyncio.create_task(server.stop())
        async with asyncio.timeout(5):
            while running_in_group(pid) != [guard]:
                await asyncio.sleep(0.002)
        done, _ = await asyncio.wait((stopping,), timeout=0.1)
        assert not done
    finally:
        guard.resume()
    await asyncio.wait_for(stopping, 5)


async def test_the_guard_outlives_signals_that_the_server_outlives(tmp_path: Path) -> None:
    with capture_logs() as logs:
        server = EmbeddedServer(tmp_path, site="local", port=0)
        await server.start()
        pid = server.pid
        assert pid is not None
        os.killpg(pid, signal.SIGHUP)
        async with asyncio.timeout(5):
            while not any("Reloaded server configuration" in line["event"] for line in logs):
                await asyncio.sleep(0.002)
    assert guard_of(pid).is_running()
    await server.stop()


async def test_a_killed_server_comes_back_on_its_port_with_what_it_stored(server: EmbeddedServer) -> None:
    client = await nats.connect(server.url, reconnect_time_wait=0.01, max_reconnect_attempts=-1)
    back = asyncio.Event()

    async def on_reconnect() -> None:
        back.set()

    client._reconnected_cb = on_reconnect
    await client.jetstream().add_stream(name="S", subjects=["s"])
    await client.jetstream().publish("s", b"kept")
    url, pid = server.url, server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(back.wait(), 10)
    assert (await client.jetstream().get_msg("S", 1)).data == b"kept"
    assert server.url == url
    assert await until_pid_changes(server, pid) != pid
    await client.close()


async def test_a_server_that_somebody_else_stops_comes_back(server: EmbeddedServer) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        pid = server.pid
        assert pid is not None
        os.kill(pid, number)
        await until_pid_changes(server, pid)


async def test_a_server_that_hangs_is_started_again(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVER_HEALTH_EVERY_MS", 20)
    monkeypatch.setattr(limits, "SERVER_HEALTH_MS_MAX", 50)
    monkeypatch.setattr(limits, "SERVER_UNHEALTHY_MS_MAX", 100)
    monkeypatch.setattr(limits, "SERVER_STOP_MS_MAX", 50)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # the health checks of the new process know the new limits
    pid = await until_pid_changes(server, pid)
    with capture_logs() as logs:
        os.kill(pid, signal.SIGSTOP)
        await until_pid_changes(server, pid)
    assert running_in_group(pid) == []
    (gone,) = [line for line in logs if line["event"] == "nats-server is gone and will be started again"]
    assert "no answer from /healthz: TimeoutError" in gone["reason"]


async def test_a_full_disk_is_waited_out(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVER_HEALTH_EVERY_MS", 10)
    monkeypatch.setattr(limits, "SERVER_UNHEALTHY_MS_MAX", 20)
    free = 0
    asked_while_full = asyncio.Event()

    def disk(_path: Path) -> DiskBytes:
        if not free:
            asked_while_full.set()
        return DiskBytes(size=1 << 40, free=free)

    monkeypatch.setattr(supervisor, "disk_bytes", disk)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(asked_while_full.wait(), 5)
    assert server.pid is None, "no launch while there is no room"
    free = limits.SERVER_FREE_BYTES_MIN
    pid = await until_pid_changes(server, pid)

    problem: str | None = "no space left on device"
    checks = asyncio.Semaphore(0)

    async def health(_url: str) -> str | None:
        checks.release()
        return problem

    free = 0
    monkeypatch.setattr(supervisor, "health_problem", health)
    for _ in range(10):
        await asyncio.wait_for(checks.acquire(), 5)
    assert server.pid == pid, "the process stays as long as another one would fare no better"
    with capture_logs() as logs:
        free = limits.SERVER_FREE_BYTES_MIN
        async with asyncio.timeout(5):
            while not any("started again" in line["event"] for line in logs):
                await checks.acquire()
        problem = None
        await until_pid_changes(server, pid)


async def test_it_gives_up_with_the_reason_and_can_still_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERVER_RESTARTS_MAX", 3)
    server = EmbeddedServer(tmp_path, site="local", port=0)
    await server.start()
    failed = asyncio.create_task(server.failed())
    pid = server.pid
    assert pid is not None
    monkeypatch.setattr(supervisor, "render", lambda _settings: "listen: [")
    os.kill(pid, signal.SIGKILL)
    error = await asyncio.wait_for(failed, 10)
    assert isinstance(error, Unavailable)
    assert error.message.startswith("nats-server ended more than 3 times within 60000 ms; the last time: nats-server")
    assert "Parse error on line 1" in error.message
    assert server.pid is None
    await server.stop()


async def test_a_server_that_does_not_answer_sigterm_is_killed(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERVER_STOP_MS_MAX", 50)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.wait_for(server.stop(), 5)
    assert running_in_group(pid) == []


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = asyncio.Event()
    launched = asyncio.Event()

    async def no_answer(_url: str) -> str:
        launched.set()
        await never.wait()
        return ""

    monkeypatch.setattr(supervisor, "health_problem", no_answer)
    server = EmbeddedServer(tmp_path, site="local", port=0)
    starting = asyncio.create_task(server.start())
    await asyncio.wait_for(launched.wait(), 10)
    (group,) = {os.getpgid(pid) for pid in server_pids(tmp_path)}
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert running_in_group(group) == []


async def test_the_servers_log_is_ours(tmp_path: Path) -> None:
    with capture_logs() as logs:
        server = EmbeddedServer(tmp_path, site="local", port=0)
        await server.start()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        await until_pid_changes(server, server.pid)
        await server.stop()
    lines = {line["event"]: line["log_level"] for line in logs if "pid" in line}
    assert lines["Server is ready"] == "debug"
    assert "error" not in lines.values()
    assert [line["log_level"] for line in logs if line["event"] == "nats-server is ready"] == ["info"]
