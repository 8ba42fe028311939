"""A real nats-server for tests: own port, own store, JetStream on, started in about 30 ms.

`NatsServer` is synchronous, so that one server can serve tests of different event loops. It uses the
product's own binary lookup, configuration and process, without the data dir's lock and without a
supervisor: it dies when a test kills it and comes back when a test says so.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import pytest

from dagnats_core.errors import Conflict
from dagnats_core.server.binary import find_binary
from dagnats_core.server.process import ServerProcess, clear_ports, free_port, read_ports
from dagnats_core.server.settings import Durability, ServerSettings, render
from tests.support.processes import wait_until

START_S_MAX = 60
STOP_S_MAX = 10


class NatsServer:
    """One nats-server on `store_dir`. Port 0 takes a free one at the first start and keeps it."""

    def __init__(
        self,
        store_dir: Path,
        port: int = 0,
        durability: Literal["always", "1s", "os"] = "os",
        domain: str | None = None,
    ) -> None:
        self.store_dir = store_dir
        self.port = port
        self.durability = Durability(durability)
        self.domain = domain
        self.monitor_url = ""
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> Self:
        """Start and wait until the server listens and JetStream has read its store."""
        assert self._process is None, "the server is running"
        if self.port:
            self._start_on(self.port)
            return self
        while True:
            port = free_port()
            try:
                self._start_on(port)
            except Conflict:  # somebody took the port between our look and the server's
                continue
            self.port = port
            return self

    def _start_on(self, port: int) -> None:
        self.store_dir.mkdir(parents=True, exist_ok=True)
        ports_dir = self.store_dir / "ports"
        clear_ports(ports_dir)
        settings = ServerSettings(
            server_name=f"test-{port}",
            port=port,
            store_dir=str(self.store_dir),
            ports_dir=str(ports_dir),
            durability=self.durability,
            domain=self.domain,
        )
        config_file = self.store_dir / "nats-server.conf"
        config_file.write_text(render(settings))
        process = ServerProcess(find_binary(), config_file)
        deadline = time.monotonic() + START_S_MAX
        while (ports := read_ports(ports_dir, process.pid)) is None:
            if process.exited.done():
                raise process.exit_error(port)
            if time.monotonic() > deadline:
                process.signal(signal.SIGKILL)
                raise TimeoutError("nats-server did not start")
            time.sleep(0.002)
        self.monitor_url = ports.monitoring[0]
        self._process = process

    def stop(self) -> None:
        """Stop cleanly; nothing happens if the server is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) and start again on the same port and store."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP), all its threads: connections stay open, nothing is answered."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        wait_until(
            lambda: all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()),
            timeout_s=STOP_S_MAX,
            what="every thread of the server has stopped",
        )

    def resume(self) -> None:
        assert self._process is not None
        self._process.signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.signal(number)
        if number is signal.SIGTERM:
            process.signal(signal.SIGCONT)
        process.exited.result(timeout=STOP_S_MAX)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server and a store for one test alone."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture(scope="session")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for the whole session: for tests that take a site name of their own and never kill it."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server
