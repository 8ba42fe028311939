"""`dagnats serve` and its kin as child processes: started, waited for by their log, ended; nothing of them is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.processes import wait_until

READY_S = 30
STOP_S = 30
FREE_PORTS = ("--nats-port", "0", "--http-addr", "127.0.0.1:0")

Event = dict[str, Any]


class Program:
    """A running program that logs JSON lines to stderr."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd, start_new_session=True
        )
        self.children: list[psutil.Process] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.popen.pid)

    def event(self, name: str, timeout_s: float = READY_S) -> Event:
        """The first log line of that name, waited for."""
        with self._changed:
            self._changed.wait_for(lambda: self._found(name) is not None or self._ended, timeout_s)
            found = self._found(name)
        assert found is not None, f"no {name!r} in {self.events}"
        return found

    def ready(self) -> Event:
        """The ready line; from now on it is known which children there are."""
        ready = self.event("ready")
        self.children = self.process.children(recursive=True)
        return ready

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """The exit code, once the program is gone and its log is read."""
        code = self.popen.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait()

    def stdout(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.read()

    def nothing_is_left(self) -> None:
        """Fail unless every child that there was is gone."""
        wait_until(lambda: not any(_runs(child) for child in self.children), timeout_s=10, what="children are gone")

    def close(self) -> None:
        """Kill it and what is left of its children."""
        with self.popen:
            self.popen.kill()
        for child in self.children:
            if _runs(child):
                child.kill()

    @property
    def _ended(self) -> bool:
        return not self._reader.is_alive()

    def _found(self, name: str) -> Event | None:
        return next((event for event in self.events if event.get("event") == name), None)

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "text", "text": line}
            with self._changed:
                self.events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def script(name: str) -> str:
    """The path of a console script of ours."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def start_program() -> Iterator[Callable[..., Program]]:
    """Start a command; its process and children do not outlive the test."""
    programs: list[Program] = []

    def start(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Program:
        programs.append(Program(command, env, cwd))
        return programs[-1]

    yield start
    for program in reversed(programs):
        program.close()


@pytest.fixture
def start_serve(start_program: Callable[..., Program], tmp_path: Path) -> Callable[..., Program]:
    """Start `dagnats serve` on a data dir of the test, on free ports unless others are given."""

    def start(*flags: str, data_dir: Path = tmp_path / "data", ports: Sequence[str] = FREE_PORTS) -> Program:
        everywhere = ("--data-dir", str(data_dir), "--log-format", "json", *ports)
        return start_program(script("dagnats"), "serve", *everywhere, *flags)

    return start
