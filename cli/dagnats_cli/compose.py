"""The one place where the system's parts meet in one process: `serve`, `dagnats-engine`, `dagnats-api` are made here.

Every part is a service of a `Stack`, which stops them in the reverse of their start. Modules are imported where their
part is started, so that a program loads only what it runs.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dagnats_core.lifecycle import Stack, run
from dagnats_core.telemetry.logs import configure_logs
from dagnats_micro.process import Connected, ConnectOptions, loop_factory

if TYPE_CHECKING:
    from dagnats_core.bus.connection import Connection
    from dagnats_core.bus.setup import SiteInfo, SiteSettings
    from dagnats_core.config import Config
    from dagnats_gateway.app import HttpService
    from dagnats_micro.service import ApiService

log = structlog.get_logger("dagnats")

COLLECT_EVERY = (100_000, 20, 50)
"""When the collector runs: runs in memory are many small objects without cycles, and walking them at the default rate
takes a quarter of the engine's time."""


def run_program(config: Config, compose: Callable[[Stack], Awaitable[None]]) -> int:
    """Be the program that `compose` puts together, until a signal; the exit code."""
    configure_logs(config.log_format, config.log_level)
    gc.disable()  # until `say_ready`: what a start makes is there to stay, and collecting it doubles the time it takes
    return run(compose, loop_factory=loop_factory())


def connect_options(config: Config, name: str) -> ConnectOptions:
    """How a program reaches the nats-server that it does not start itself."""
    urls = tuple(url.strip() for url in config.nats_url.split(","))
    return ConnectOptions(urls=urls, name=name, creds_file=str(config.creds) if config.creds else None)


def site_settings(config: Config, own_site_id: str | None = None) -> SiteSettings:
    """What the site is made with, or must be. `own_site_id`: what a store of the program's own calls its site."""
    from dagnats_core.bus.setup import SiteSettings

    retention_ms = config.archive_retention // timedelta(milliseconds=1)
    return SiteSettings(
        site_id=own_site_id,
        adopt=own_site_id is not None,
        durability=config.durability.value,
        retention_ms=retention_ms,
    )


async def start_site(
    stack: Stack, config: Config, options: ConnectOptions, wanted: SiteSettings
) -> tuple[Connection, SiteInfo]:
    """Connect, and make or check the site's streams and buckets."""
    from dagnats_core.bus.setup import ensure
    from dagnats_core.bus.topology import Topology

    connection = (await stack.start("connection to NATS", Connected(options))).connection
    stack.step = "start of streams and buckets"
    return connection, await ensure(connection, Topology(config.site), wanted)


async def start_engine(stack: Stack, connection: Connection, site: SiteInfo, *, alone: bool = False) -> None:
    """`alone`: no other engine can live, so its partitions need not run out first."""
    from dagnats_core.engine.service import EngineService

    await stack.start("engine", EngineService(connection, site, alone=alone))


async def start_api(
    stack: Stack, connection: Connection, site: SiteInfo, role: str, index_dir: Path | None = None
) -> ApiService:
    """`index_dir`: where the index of runs stays over restarts; None builds it anew."""
    from dagnats_micro.service import ApiService, ApiSettings

    return await stack.start("API", ApiService(connection, site, ApiSettings(index_dir=index_dir, role=role)))


async def start_http(
    stack: Stack, connection: Connection, config: Config, *, probes_only: bool = False
) -> HttpService | None:
    """The REST gateway, answering "not ready" until `say_ready`; None if it is not wanted."""
    if config.no_http:
        return None
    from dagnats_gateway.app import HttpService
    from dagnats_micro.client import MicroClient

    client, (host, port) = MicroClient(connection, config.site), config.http_addr
    return await stack.start("HTTP", HttpService(client, connection, host, port, probes_only=probes_only))


def say_ready(
    config: Config, connection: Connection, http: HttpService | None, api: ApiService | None = None, **facts: str
) -> None:
    """Everything works: say so to probes, in `system.info`, and in the one log line that others wait for."""
    http_url = http.url if http is not None else None
    if api is not None:
        api.set_http_url(http_url)
    if http is not None:
        http.set_ready(True)
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)
    gc.enable()
    log.info("ready", nats_url=connection.url, http_url=http_url, site=config.site, **facts)
