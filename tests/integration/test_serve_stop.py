"""How `dagnats serve` ends: in order and in time, by force with the name of what hung, at once if asked twice."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.integration.test_serve import refuses
from tests.support.processes import server_pids, wait_until
from tests.support.serve import FREE_PORTS, Program, script

StartProbe = Callable[..., Program]


@pytest.fixture
def start_probe(start_program: Callable[..., Program], tmp_path: Path) -> StartProbe:
    """Start `serve` with eyes on its end; the stop of `hanging` never returns."""

    def start(hanging: str = "none", stop_ms: int = 15_000) -> Program:
        everywhere = ("--data-dir", str(tmp_path / "data"), "--log-format", "json", *FREE_PORTS)
        return start_program(sys.executable, "-m", "tests.support.serve_probe", hanging, str(stop_ms), *everywhere)

    return start


def test_no_task_and_no_thread_is_left(start_probe: StartProbe) -> None:
    program = start_probe()
    program.ready()
    assert program.stop() == 0
    left = json.loads(program.stdout())
    assert left == {"code": 0, "threads": [], "tasks": []}
    program.nothing_is_left()


@pytest.mark.parametrize("step", ["HTTP", "API", "engine", "connection to NATS", "nats-server"])
def test_a_part_that_hangs_is_named_and_the_exit_is_70(start_probe: StartProbe, step: str, tmp_path: Path) -> None:
    program = start_probe(step, 1500)
    program.ready()
    assert program.stop() == 70
    assert program.event("forced exit")["hung"] == f"stop of {step}"
    program.nothing_is_left()
    assert server_pids(tmp_path / "data") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(start_probe: StartProbe, number: signal.Signals) -> None:
    program = start_probe("engine")
    ready = program.ready()
    program.send(signal.SIGTERM)
    program.event("stopping")
    began = time.monotonic()
    assert program.stop(number) == 128 + number
    assert time.monotonic() - began < 5
    program.nothing_is_left()
    assert refuses(ready["nats_url"])


def test_a_signal_in_the_middle_of_the_start_leaves_nothing(start_probe: StartProbe) -> None:
    program = start_probe()
    program.event("nats-server is ready")
    children = program.process.children(recursive=True)
    assert program.stop() == 0
    program.children = children
    program.nothing_is_left()
    assert not any(event["event"] == "ready" for event in program.events)


def test_ctrl_c_in_a_terminal_stops_it_cleanly(tmp_path: Path) -> None:
    screen, terminal = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    command = [script("dagnats"), "serve", "--data-dir", str(tmp_path / "data"), *FREE_PORTS]
    serve = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=take_terminal)
    os.close(terminal)
    try:
        text = read_until(screen, r"ready\b.*http_url=\S+")
        url = re.findall(r"nats_url=(nats://[0-9.:]+)", text)[-1]
        children = psutil.Process(serve.pid).children(recursive=True)
        assert children
        os.write(screen, b"\x03")
        read_until(screen, "stopped")
        assert serve.wait(20) == 0
    finally:
        serve.kill()
        os.close(screen)
    wait_until(lambda: not any(child.is_running() for child in children), timeout_s=10, what="children are gone")
    assert refuses(url)


def read_until(screen: int, pattern: str, timeout_s: float = 30) -> str:
    """What a terminal shows, without colours, until `pattern` stands there."""
    text = ""
    deadline = time.monotonic() + timeout_s
    while not re.search(pattern, text):
        readable, _, _ = select.select([screen], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, f"no {pattern!r} within {timeout_s} s: {text}"
        data = os.read(screen, 65_536)
        text = re.sub(r"\x1b\[[0-9;]*m", "", text + data.decode(errors="replace"))
    return text
