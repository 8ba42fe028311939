"""What happens to the nats-server when the process that runs it is killed, at whatever moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import psutil
import pytest

from dagnats_core import limits
from dagnats_core.errors import Unavailable
from dagnats_core.server.supervisor import EmbeddedServer
from tests.support.processes import guard_of, running_in_group, server_pids, wait_until

Parent: TypeAlias = "subprocess.Popen[str]"
StartParent: TypeAlias = Callable[..., Parent]


@pytest.fixture
def start_parent() -> Iterator[StartParent]:
    """Starts processes that run an embedded server; none outlives the test."""
    parents: list[Parent] = []

    def start(data_dir: Path, port: int = 0) -> Parent:
        command = [sys.executable, "-m", "tests.support.embedded", str(data_dir), str(port)]
        parents.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return parents[-1]

    yield start
    for parent in parents:
        with parent:
            parent.kill()


def ready_line(parent: Parent) -> tuple[str, int]:
    assert parent.stdout is not None
    url, pid = parent.stdout.readline().split()
    return url, int(pid)


def test_the_server_dies_with_its_parent_and_a_new_one_starts_at_once(
    tmp_path: Path, start_parent: StartParent
) -> None:
    parent = start_parent(tmp_path)
    url, pid = ready_line(parent)
    port = int(url.rpartition(":")[2])
    for _ in range(3):
        parent.kill()
        began = time.monotonic()
        successor = start_parent(tmp_path, port)
        new_url, new_pid = ready_line(successor)
        assert new_url == url
        assert time.monotonic() - began < 3
        wait_until(lambda gone=pid: running_in_group(gone) == [], timeout_s=2, what="the end of the old server")
        parent.wait()
        parent, pid = successor, new_pid
    parent.kill()
    parent.wait()
    wait_until(lambda: server_pids(tmp_path) == [], timeout_s=2, what="the end of the last server")


async def test_an_orphan_keeps_the_store_to_itself(
    tmp_path: Path, start_parent: StartParent, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = start_parent(tmp_path)
    _, pid = ready_line(parent)
    guard = guard_of(pid)
    guard.suspend()
    parent.kill()
    successor = EmbeddedServer(tmp_path, site="local", port=0)
    monkeypatch.setattr(limits, "SERVER_LOCK_MS_MAX", 50)
    try:
        with pytest.raises(Unavailable, match=rf"a nats-server of an earlier life \(process {pid}\) still runs"):
            await successor.start()
        monkeypatch.undo()
        starting = asyncio.create_task(successor.start())
    finally:
        guard.resume()
    await asyncio.wait_for(starting, 5)
    assert running_in_group(pid) == []
    await successor.stop()


def test_a_signal_to_the_parents_group_does_not_reach_the_server(tmp_path: Path, start_parent: StartParent) -> None:
    parent = start_parent(tmp_path)
    _, pid = ready_line(parent)
    os.kill(parent.pid, signal.SIGSTOP)  # so that it cannot end the server itself
    os.killpg(parent.pid, signal.SIGINT)
    os.killpg(parent.pid, signal.SIGTERM)
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    assert os.getsid(pid) == pid
    os.killpg(parent.pid, signal.SIGCONT)
    parent.wait(timeout=10)
    wait_until(lambda: running_in_group(pid) == [], timeout_s=2, what="the end of the server")


def test_a_parent_killed_at_any_moment_of_its_start_leaves_nothing(tmp_path: Path, start_parent: StartParent) -> None:
    chance = random.Random(7)
    for n in range(12):
        data_dir = tmp_path / str(n)
        parent = start_parent(data_dir)
        if n % 2:  # the moment at which the server is being made
            deadline = time.monotonic() + 10
            while not server_pids(data_dir) and time.monotonic() < deadline:
                pass
            time.sleep(chance.uniform(0, 0.02))
        else:
            wait_until((data_dir / "site.json").exists, timeout_s=10, what="the data dir")
        parent.kill()
        parent.wait()
        wait_until(lambda gone=data_dir: server_pids(gone) == [], timeout_s=2, what="the end of the server")
