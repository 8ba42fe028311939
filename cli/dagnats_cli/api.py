"""`dagnats-api`: the micro service and the REST gateway as a process of their own, in any number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagnats_cli import settings

if TYPE_CHECKING:
    from dagnats_core.config import Config
    from dagnats_core.lifecycle import Stack

SUMMARY = "Answer a site's requests, over NATS and over HTTP: one of any number of replicas"


def main() -> None:
    settings.run_alone("dagnats-api", SUMMARY, api)


@settings.with_flags(settings.API, settings.API_DEFAULTS)
def api(**flags: Any) -> int:
    """Run until a signal; the exit code."""
    from dagnats_cli.compose import run_program

    config = settings.load(flags, settings.API_DEFAULTS)
    return run_program(config, lambda stack: compose(stack, config))


async def compose(stack: Stack, config: Config) -> None:
    """Connection → streams and buckets → API → HTTP → `ready`."""
    from dagnats_cli import compose as parts

    options = parts.connect_options(config, "dagnats-api")
    connection, site = await parts.start_site(stack, config, options, parts.site_settings(config))
    service = await parts.start_api(stack, connection, site, "api")
    http = await parts.start_http(stack, connection, config)
    parts.say_ready(config, connection, http, service)
