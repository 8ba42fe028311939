"""The one place where the system's parts meet in one process: `serve`, `dagnats-engine`, `dagnats-api` are made here.

Every part is a service of a `Stack`, which stops them in the reverse of their start. Modules are imported where their
part is started, so that a program loads only what it runs.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from dagnats_core.lifecycle import Stack, run
from dagnats_core.telemetry.logs import configure_logs
from dagnats_micro.process import Connected, loop_factory

if TYPE_CHECKING:
    from dagnats_core.bus.connection import Connection, ConnectOptions
    from dagnats_core.bus.setup import SiteInfo, SiteSettings
    from dagnats_core.config import Config
    from dagnats_gateway.app import HttpService

log = structlog.get_logger("dagnats")


def run_program(config: Config, compose: Callable[[Stack], Awaitable[None]]) -> int:
    """Be the program that `compose` puts together, until a signal; the exit code."""
    configure_logs(config.log_format, config.log_level)
    return run(compose, loop_factory=loop_factory())


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
    from dagnats_core.engine.service import EngineService

    await stack.start("engine", EngineService(connection, site, alone=alone))


async def start_api(stack: Stack, connection: Connection, site: SiteInfo, wanted: SiteSettings) -> None:
    from dagnats_micro.service import ApiService

    await stack.start("API", ApiService(connection, site, wanted))


async def start_http(stack: Stack, connection: Connection, config: Config) -> HttpService:
    """The REST gateway, answering "not ready" until `say_ready`."""
    from dagnats_gateway.app import HttpService
    from dagnats_micro.client import MicroClient

    client = MicroClient(connection, config.site)
    return await stack.start("HTTP", HttpService(client, connection, config.http_addr.host, config.http_addr.port))


def say_ready(config: Config, *, nats_url: str, http: HttpService | None, **facts: str) -> None:
    """Everything works: say so to probes, and in the one log line that others wait for."""
    if http is not None:
        http.set_ready(True)
    gc.collect()
    gc.freeze()  # what the start made stays for good: the collector need not walk it again
    http_url = http.url if http is not None else None
    log.info("ready", nats_url=nats_url, http_url=http_url, site=config.site, **facts)


def milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
