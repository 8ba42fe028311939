"""`EmbeddedServer`: one nats-server that is there from start to stop, whatever happens to its process.

    start ─► lock the data dir ─► launch, wait until healthy ─► watch ─► stop: SIGTERM, SIGKILL, unlock
                                   ▲                             │
                                   └── delay ◄── died, or unhealthy for long ──► too often: `failed` resolves

It keeps its port over restarts, so clients find it again by themselves.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog

from dagnats_core import limits
from dagnats_core.errors import Conflict, DagNatsError, Unavailable
from dagnats_core.lifecycle import ServiceBase
from dagnats_core.server.binary import checked_binary
from dagnats_core.server.data_dir import DataDir
from dagnats_core.server.process import ServerProcess, clear_ports, free_port, read_ports
from dagnats_core.server.settings import LOOPBACK, Durability, ServerSettings, render

log = structlog.get_logger("dagnats.server")


def restart_delay_ms(deaths_ms: Sequence[int], now_ms: int) -> int | None:
    """How long to wait before the next launch, given the times of all deaths so far; None to give up.

    The first death of a while is answered at once; each further one within the last ten seconds doubles the
    delay.
    """
    if sum(now_ms - at < limits.SERVER_RESTARTS_WINDOW_MS for at in deaths_ms) > limits.SERVER_RESTARTS_MAX:
        return None
    recent = sum(now_ms - at < 10 * limits.SECOND_MS for at in deaths_ms)
    return min(25 << recent, limits.SERVER_RESTART_DELAY_MS_MAX) if recent > 1 else 0


class EmbeddedServer(ServiceBase):
    """A nats-server on loopback that keeps its data in `data_dir`. Port 0 takes a free port."""

    def __init__(
        self,
        data_dir: Path,
        *,
        site: str,
        port: int = 4222,
        durability: Durability = Durability.ALWAYS,
    ) -> None:
        super().__init__()
        self._path = data_dir.absolute()
        self._site = site
        self._port = port
        self._durability = durability
        self._binary = Path()
        self._data_dir: DataDir | None = None
        self._process: ServerProcess | None = None
        self._monitor_url = ""
        self._watch: asyncio.Task[None] | None = None
        self._error: DagNatsError | None = None
        self._gave_up = asyncio.Event()

    @property
    def url(self) -> str:
        """Where clients connect; the same for as long as the service runs."""
        return f"nats://{LOOPBACK}:{self._port}"

    @property
    def site_id(self) -> str:
        """The generated id of this data dir's site. Only while it runs."""
        assert self._data_dir is not None, "the embedded server is not running"
        return self._data_dir.record.site_id

    def adopt(self, site_id: str) -> None:
        """The site that stands in the store has this id; the data dir remembers it. Only while it runs."""
        assert self._data_dir is not None, "the embedded server is not running"
        self._data_dir.adopt(site_id)

    @property
    def pid(self) -> int | None:
        """The process id of the nats-server, None while there is none."""
        return None if self._process is None else self._process.pid

    async def failed(self) -> DagNatsError:
        """Resolves with the reason when the server died too often to be started again; otherwise never."""
        await self._gave_up.wait()
        assert self._error is not None
        return self._error

    async def _start(self) -> None:
        self._binary = checked_binary()
        self._data_dir = await DataDir.open(self._path, self._site)
        if self._port:
            await self._launch(self._port)
        else:
            await self._launch_on_free_port()
        self._watch = asyncio.create_task(self._keep_alive())
        log.info("nats-server is ready", url=self.url, pid=self.pid, durability=self._durability.value)

    async def _stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        if self._process is not None:
            await _end(self._process, grace_ms=limits.SERVER_STOP_MS_MAX)
            self._process = None
        if self._data_dir is not None:
            self._data_dir.close()
            self._data_dir = None

    async def _launch_on_free_port(self) -> None:
        for _ in range(limits.FREE_PORT_TRIES_MAX):
            port = free_port()
            try:
                await self._launch(port)
            except Conflict:  # somebody took the port between our look and the server's
                continue
            self._port = port
            return
        raise Unavailable(f"no free port found on {LOOPBACK}")

    async def _launch(self, port: int) -> None:
        """Start a process and wait until it is healthy; if that fails, leave none. Raises the reason."""
        assert self._data_dir is not None
        record = self._data_dir.record
        settings = ServerSettings(
            server_name=f"{record.site}-{record.site_id[:8]}",
            port=port,
            store_dir=str(self._path),
            ports_dir=str(self._path / "ports"),
            durability=self._durability,
            store_bytes_max=int(limits.SERVER_STORE_SHARE_MAX * disk_bytes(self._path).size),
            domain=record.site,
        )
        config_file = self._path / "nats-server.conf"
        process = None
        try:
            clear_ports(self._path / "ports")
            config_file.write_text(render(settings))
            process = ServerProcess(self._binary, config_file, inherit=(self._data_dir.store_lock,))
            self._monitor_url = await self._until_healthy(process, port)
        except BaseException as error:
            if process is not None:
                await _end(process, grace_ms=0)
            if isinstance(error, OSError):
                raise Unavailable(f"the data dir {self._path} cannot be written: {error}") from error
            raise
        self._process = process

    async def _until_healthy(self, process: ServerProcess, port: int) -> str:
        """The monitor URL of `process`, once it listens and says that it is healthy."""
        try:
            async with asyncio.timeout(limits.SERVER_START_MS_MAX / 1000):
                while (ports := read_ports(self._path / "ports", process.pid)) is None:
                    if process.exited.done():
                        raise process.exit_error(port)
                    await asyncio.sleep(0.002)
                monitor_url = ports.monitoring[0]
                while await health_problem(monitor_url) is not None:
                    if process.exited.done():
                        raise process.exit_error(port)
                    await asyncio.sleep(0.01)
                return monitor_url
        except TimeoutError:
            raise Unavailable(f"nats-server was not ready within {limits.SERVER_START_MS_MAX} ms") from None

    async def _keep_alive(self) -> None:
        """Launch the server again each time it is gone, until it is gone too often."""
        deaths_ms: list[int] = []
        not_launched: str | None = None
        while True:
            reason = not_launched or await self._until_gone()
            deaths_ms = [*deaths_ms[-limits.SERVER_RESTARTS_MAX :], time.monotonic_ns() // 1_000_000]
            delay_ms = restart_delay_ms(deaths_ms, deaths_ms[-1])
            if delay_ms is None:
                self._give_up(reason)
                return
            log.warning("nats-server is gone and will be started again", reason=reason, delay_ms=delay_ms)
            await asyncio.sleep(delay_ms / 1000)
            while disk_bytes(self._path).free < limits.SERVER_FREE_BYTES_MIN:
                log.error("nats-server waits for free disk space", path=str(self._path))
                await asyncio.sleep(limits.SERVER_HEALTH_EVERY_MS / 1000)
            not_launched = await self._launch_again()

    async def _launch_again(self) -> str | None:
        """Why the server could not be launched; None if it runs."""
        try:
            await self._launch(self._port)
        except DagNatsError as error:
            return error.message
        log.info("nats-server is ready again", url=self.url, pid=self.pid)
        return None

    async def _until_gone(self) -> str:
        """Wait until the process has exited, or end it because it is unhealthy for too long; the reason."""
        process = self._process
        assert process is not None
        exited = asyncio.wrap_future(process.exited)
        unhealthy_since: float | None = None
        while True:
            await asyncio.wait((exited,), timeout=limits.SERVER_HEALTH_EVERY_MS / 1000)
            if exited.done():
                self._process = None
                return process.exit_error(self._port).message
            problem = await health_problem(self._monitor_url)
            if problem is None:
                unhealthy_since = None
                continue
            unhealthy_since = unhealthy_since or time.monotonic()
            unhealthy_ms = (time.monotonic() - unhealthy_since) * 1000
            free = disk_bytes(self._path).free
            log.warning(
                "nats-server is unhealthy", problem=problem, unhealthy_ms=round(unhealthy_ms), disk_free_bytes=free
            )
            if unhealthy_ms >= limits.SERVER_UNHEALTHY_MS_MAX and free >= limits.SERVER_FREE_BYTES_MIN:
                await _end(process, grace_ms=limits.SERVER_STOP_MS_MAX)
                self._process = None
                return f"unhealthy for {unhealthy_ms:.0f} ms: {problem}"

    def _give_up(self, reason: str) -> None:
        self._error = Unavailable(
            f"nats-server ended more than {limits.SERVER_RESTARTS_MAX} times within"
            f" {limits.SERVER_RESTARTS_WINDOW_MS} ms; the last time: {reason}"
        )
        self._gave_up.set()


async def _end(process: ServerProcess, *, grace_ms: int) -> None:
    """Ask the process to stop, kill it after `grace_ms`, and wait until it is gone."""
    exited = asyncio.wrap_future(process.exited)
    if grace_ms:
        process.signal(signal.SIGTERM)
        await asyncio.wait((exited,), timeout=grace_ms / 1000)
    process.signal(signal.SIGKILL)
    await exited


class DiskBytes(NamedTuple):
    """A file system's size, and what this user may still write."""

    size: int
    free: int


def disk_bytes(path: Path) -> DiskBytes:
    disk = os.statvfs(path)
    return DiskBytes(size=disk.f_blocks * disk.f_frsize, free=disk.f_bavail * disk.f_frsize)


async def health_problem(monitor_url: str) -> str | None:
    """None if the server at `monitor_url` says that it is healthy; else what it says, or why it is silent."""
    address = urlsplit(monitor_url)
    try:
        async with asyncio.timeout(limits.SERVER_HEALTH_MS_MAX / 1000):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        return f"no answer from /healthz: {error!r}"
    if head.split(b" ", 2)[1:2] == [b"200"]:
        return None
    return body.decode(errors="replace").strip()[:500] or "an empty answer from /healthz"
