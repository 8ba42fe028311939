"""What still runs. A zombie does not: it only waits to be reaped by its parent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

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
