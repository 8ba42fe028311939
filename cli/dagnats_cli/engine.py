"""`dagnats-engine`: the engine as a process of its own, on any nats-server. Any number of them share the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagnats_cli import settings

if TYPE_CHECKING:
    from dagnats_core.config import Config
    from dagnats_core.lifecycle import Stack

SUMMARY = "Run workflows: one of any number of engines of a site"


def main() -> None:
    settings.run_alone("dagnats-engine", SUMMARY, engine)


@settings.with_flags(settings.ENGINE, settings.ENGINE_DEFAULTS)
def engine(**flags: Any) -> int:
    """Run until a signal; the exit code."""
    from dagnats_cli.compose import run_program

    config = settings.load(flags, settings.ENGINE_DEFAULTS)
    return run_program(config, lambda stack: compose(stack, config))


async def compose(stack: Stack, config: Config) -> None:
    """Connection → streams and buckets → engine → probes → `ready`."""
    from dagnats_cli import compose as parts

    options = parts.connect_options(config, "dagnats-engine")
    connection, site = await parts.start_site(stack, config, options, parts.site_settings(config))
    await parts.start_engine(stack, connection, site)
    http = await parts.start_http(stack, connection, config, probes_only=True)
    parts.say_ready(config, connection, http)
