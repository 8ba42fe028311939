"""`dagnats-gateway`: the gateway as a process of its own, in front of any site that a nats-server leads to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from dagnats_gateway.app import HttpService
from dagnats_micro import DagNatsError, __version__
from dagnats_micro.client import MicroClient, resolve_site
from dagnats_micro.process import (
    FIELDS,
    Config,
    Connected,
    ConnectOptions,
    Stack,
    configure_logs,
    load_config,
    loop_factory,
    run,
)

SETTINGS = ("nats_url", "site", "creds", "http_addr", "config", "log_format", "log_level")
DEFAULTS = {"http_addr": "127.0.0.1:8081"}
"""Where the gateway differs from the table of settings: `serve` may run on the same machine."""

log = structlog.get_logger(__name__)


def main() -> None:
    """The console script: exits 0 after a stop by signal, else with the code of the error's class."""
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: Sequence[str]) -> int:
    flags = vars(_parser().parse_args(arguments))
    try:
        config = load_config(flags, os.environ, Path.cwd(), DEFAULTS)
    except DagNatsError as error:
        problems = "".join(f"\n  {problem.path}: {problem.message}" for problem in error.problems)
        sys.stderr.write(f"dagnats-gateway: {error.message}{problems}\n")
        return error.error_class.exit_code
    configure_logs(config.log_format, config.log_level)
    return run(lambda stack: compose(stack, config), loop_factory=loop_factory())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dagnats-gateway", description="REST in front of DagNats.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    for name in SETTINGS:
        field = FIELDS[name]
        default = DEFAULTS.get(name, field.default) if name != "site" else None
        shown = f" (default: {default})" if default else ""
        parser.add_argument(field.flag, help=f"{field.help} [{field.env}]{shown}", metavar=field.kind.name.upper())
    return parser


async def compose(stack: Stack, config: Config) -> None:
    """Connection → site → HTTP. Without a site named anywhere, it is the one that the server leads to."""
    creds = str(config.creds) if config.creds else None
    urls = tuple(url.strip() for url in config.nats_url.split(","))
    options = ConnectOptions(urls=urls, name="dagnats-gateway", creds_file=creds)
    connection = (await stack.start("connection to NATS", Connected(options))).connection
    site = await resolve_site(connection, None if config.sources["site"] == "default" else config.site)
    http = HttpService(MicroClient(connection, site), connection, config.http_addr.host, config.http_addr.port)
    await stack.start("HTTP", http)
    http.set_ready(True)
    log.info("ready", nats_url=connection.url, http_url=http.url, site=site)
