"""What still runs. A zombie does not: it only waits to be reaped by its parent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def running_in_group(group: int) -> list[psutil.Process]:
    """Processes of process group `group` that are not zombies."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Return as soon as `condition()` is true; fail with `what` when `timeout_s` have passed."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.005)


def server_pids(data_dir: Path) -> list[int]:
    """Every nats-server on `data_dir`, its guard, and the shell that is about to become both."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if str(data_dir / "nats-server.conf") in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def guard_of(pid: int) -> psutil.Process:
    """The guard of the nats-server `pid`."""
    (guard,) = [process for process in running_in_group(pid) if process.pid != pid]
    return guard
