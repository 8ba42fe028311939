"""`dagnats serve`: everything on one machine, in one process beside an embedded nats-server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagnats_cli import settings

if TYPE_CHECKING:
    from dagnats_core.config import Config
    from dagnats_core.lifecycle import Stack


@settings.with_flags(settings.SERVE)
def serve(**flags: Any) -> int:
    """Run until a signal; the exit code."""
    from dagnats_cli.compose import run_program

    config = settings.load(flags)
    return run_program(config, lambda stack: compose(stack, config))


async def compose(stack: Stack, config: Config) -> None:
    """Data dir → nats-server → connection → streams and buckets → engine → API → HTTP → `ready`.

    The engine comes before the API, so that at the stop the API drains while there is an engine to answer it.
    """
    from dagnats_cli import compose as parts
    from dagnats_core.server.supervisor import EmbeddedServer
    from dagnats_micro.process import ConnectOptions

    server = EmbeddedServer(config.data_dir, site=config.site, port=config.nats_port, durability=config.durability)
    await stack.start("nats-server", server)
    stack.watch(server.failed())
    options = ConnectOptions(urls=(server.url,), name="dagnats-serve")
    wanted = parts.site_settings(config, server.site_id)
    connection, site = await parts.start_site(stack, config, options, wanted)
    server.adopt(site.site_id)
    await parts.start_engine(stack, connection, site, alone=True)
    api = await parts.start_api(stack, connection, site, "serve", config.data_dir / "index")
    http = await parts.start_http(stack, connection, config)
    parts.say_ready(config, connection, http, api, data_dir=str(config.data_dir))
