"""The processes under test, and what is done to them: kill -9, stop and continue, cut connections. Seeded."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.chaos.proxy import Proxy

WORKERS = 2
STALL_S = 6.0
"""Longer than a lease: whoever is stopped so long comes back as a zombie."""
HOLD_S = 4.0
"""Longer than a publish waits for its answer: what is held so long arrives late."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    """One serve, one engine behind a proxy, some workers. Whoever dies is started again a moment later."""

    def __init__(self, directory: Path, seed: int, plant: str) -> None:
        self.kills = 0
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.effects = directory / "effects"
        self.effects.mkdir()
        self._directory = directory
        self._plant = plant
        self._random = random.Random(seed)
        self._proxy = Proxy(self.port)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._ending = False

    async def start(self) -> None:
        await self._proxy.start()
        for name in ["serve", "engine", *(f"worker-{i}" for i in range(WORKERS))]:
            self._keepers.append(asyncio.create_task(self._keep(name)))

    async def stop(self) -> None:
        self._ending = True
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        await asyncio.gather(*self._keepers)
        await self._proxy.stop()

    async def torment(self, duration_s: float) -> None:
        """Do something terrible about once a second."""
        loop = asyncio.get_running_loop()
        until = loop.time() + duration_s
        choices: list[tuple[int, Callable[[], None]]] = [
            (25, lambda: self._kill("serve")),
            (15, self._kill_nats_server),
            (30, lambda: self._kill(f"worker-{self._random.randrange(WORKERS)}")),
            (10, lambda: self._kill("engine")),
            (10, lambda: self._stall(self._random.choice(["engine", "serve"]))),
            (10, lambda: self._proxy.cut(HOLD_S, 1.0)),
        ]
        weights = [weight for weight, _ in choices]
        while loop.time() < until:
            await asyncio.sleep(self._random.uniform(0.5, 1.5))
            self._random.choices([deed for _, deed in choices], weights)[0]()

    # ---- deeds

    def _kill(self, name: str) -> None:
        process = self._processes.get(name)
        if process is not None and process.poll() is None:
            self.kills += 1
            process.kill()

    def _kill_nats_server(self) -> None:
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

    def _stall(self, name: str) -> None:
        """Stop a process, and let it go on as a zombie when others have taken over."""
        process = self._processes.get(name)
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGSTOP)

        def go_on() -> None:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)

        asyncio.get_running_loop().call_later(STALL_S, go_on)

    # ---- keeping them alive

    async def _keep(self, name: str) -> None:
        restarts = random.Random(f"{name}{self._random.random()}")
        while not self._ending:
            log = self._directory / f"{name}.log"
            with log.open("ab") as stream:
                process = subprocess.Popen(
                    self._command(name),
                    stderr=stream,
                    stdout=stream,
                    env=self._environ(),
                    cwd=Path(__file__).parents[2],
                )
            self._processes[name] = process
            await asyncio.to_thread(process.wait)
            await asyncio.sleep(restarts.uniform(0.05, 0.4))

    def _command(self, name: str) -> list[str]:
        chaos = [sys.executable, "-m", "tests.chaos.process", self._plant]
        if name == "serve":
            flags = ["--data-dir", str(self._directory / "data"), "--nats-port", str(self.port), "--log-format", "json"]
            return [*chaos, "serve", *flags, "--http-addr", "127.0.0.1:0"]
        if name == "engine":
            url = f"nats://127.0.0.1:{self._proxy.port}"
            return [*chaos, "engine", "--nats-url", url, "--http-addr", "127.0.0.1:0", "--log-format", "json"]
        return [sys.executable, "-m", "tests.chaos.worker", "--nats-url", self.url, "--log-format", "json"]

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "CHAOS_EFFECTS": str(self.effects)}

    def read_effects(self) -> list[tuple[str, str, int]]:
        """(run id, step, attempt) of every start of a handler that was written down whole."""
        found = []
        for path in self.effects.iterdir():
            for line in path.read_text().splitlines():
                words = line.split(" ")
                if len(words) == 4:
                    found.append((words[0], words[1], int(words[2])))
        return found
