"""The processes under test: started, killed, stopped and continued, and started again. When is torment's affair."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil

from tests.chaos.proxy import Proxy

WORKERS = ("worker-0", "worker-1")
ENGINES = ("engine-0", "engine-1")
"""Each `dagnats-engine` reaches nats-server through a proxy of its own; serve runs an engine too."""
UP_AGAIN_S = (0.05, 0.4)
STOP_S = 20.0
"""Longer than a program takes to end by force, so that its exit code tells which step hung."""
CRASHES = (1, 70)
"""Exit codes that nothing here excuses: unexpected error, forced exit."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    """One serve, two engines, two workers. Whoever dies is started again a moment later."""

    def __init__(self, directory: Path, seed: int, plant: str) -> None:
        self.kills = 0
        self.exits: Counter[str] = Counter()
        """How programs ended that nobody killed: `serve 70`."""
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.effects = directory / "effects"
        self.effects.mkdir()
        self.proxies = {name: Proxy(self.port) for name in ENGINES}
        self._directory = directory
        self._plant = plant
        self._seed = seed
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log_offsets: dict[str, int] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._ending = False

    async def start(self) -> None:
        for proxy in self.proxies.values():
            await proxy.start()
        for name in ("serve", *ENGINES, *WORKERS):
            self._keepers.append(asyncio.create_task(self._keep(name)))

    async def stop(self) -> None:
        """Ask all to stop, as an operator would: serve last."""
        self._ending = True
        for names in ((*WORKERS, *ENGINES), ("serve",)):
            for name in names:
                self.go_on(name)
                if (process := self._processes.get(name)) is not None:
                    process.terminate()
            await asyncio.gather(*(self._end(name) for name in names))
        await asyncio.gather(*self._keepers)
        for proxy in self.proxies.values():
            await proxy.stop()

    async def _end(self, name: str) -> None:
        process = self._processes.get(name)
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, STOP_S)
            except subprocess.TimeoutExpired:
                self.exits[f"{name} not at all"] += 1
                process.kill()

    # ---- deeds

    def kill(self, name: str) -> None:
        process = self._processes.get(name)
        if process is not None and process.poll() is None:
            self.kills += 1
            process.kill()

    def kill_nats_server(self) -> None:
        serve = self._processes.get("serve")
        if serve is None or serve.poll() is not None:
            return
        try:
            for child in psutil.Process(serve.pid).children(recursive=True):
                if "nats-server" in child.name():
                    self.kills += 1
                    child.kill()
        except psutil.NoSuchProcess:
            return  # it died in this moment, by itself

    def stall(self, name: str) -> None:
        """Stop a program where it stands."""
        if (process := self._processes.get(name)) is not None and process.poll() is None:
            process.send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        if (process := self._processes.get(name)) is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)

    # ---- what is known of them

    def engine_id(self, name: str) -> str | None:
        """As whom the engine in this program stamps; None while it is not up."""
        process = self._processes.get(name)
        if process is None or process.poll() is not None:
            return None
        with self._log(name).open("rb") as stream:
            stream.seek(self._log_offsets[name])
            for line in stream:
                if b'"engine started"' in line:
                    return str(json.loads(line)["engine"])
        return None

    @property
    def crashes(self) -> list[str]:
        """Ends that are bugs: an unexpected error, a forced exit, a stop that never came."""
        return [
            f"{end}, {count} times"
            for end, count in self.exits.items()
            if end.endswith("not at all") or int(end.rpartition(" ")[2]) in CRASHES
        ]

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    # ---- keeping them alive

    async def _keep(self, name: str) -> None:
        restarts = random.Random(f"{self._seed}/{name}")
        while not self._ending:
            with self._log(name).open("ab") as stream:
                self._log_offsets[name] = stream.tell()
                process = subprocess.Popen(
                    self._command(name),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    env={**os.environ, "CHAOS_EFFECTS": str(self.effects)},
                    cwd=Path(__file__).parents[2],
                )
            self._processes[name] = process
            code = await asyncio.to_thread(process.wait)
            if code not in (-signal.SIGKILL, 0):
                self.exits[f"{name} {code}"] += 1
            await asyncio.sleep(restarts.uniform(*UP_AGAIN_S))

    def _command(self, name: str) -> list[str]:
        program = name.partition("-")[0]
        command = [sys.executable, "-m", "tests.chaos.process", self._plant, program, "--log-format", "json"]
        if program == "serve":
            data = str(self._directory / "data")
            return [*command, "--data-dir", data, "--nats-port", str(self.port), "--http-addr", "127.0.0.1:0"]
        if program == "engine":
            url = f"nats://127.0.0.1:{self.proxies[name].port}"
            return [*command, "--nats-url", url, "--http-addr", "127.0.0.1:0"]
        return [*command, "--nats-url", self.url]
