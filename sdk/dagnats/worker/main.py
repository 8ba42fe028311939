"""A worker as a whole program: its command line, its log, its end. Imported only by `Worker.run`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
from collections.abc import Sequence

from dagnats.worker.worker import Worker
from dagnats_core.lifecycle import Stack, run
from dagnats_core.telemetry.logs import LogFormat, configure_logs

FORMATS = [str(each) for each in LogFormat]


def main(worker: Worker, argv: Sequence[str] | None) -> int:
    """Work until a signal comes; the exit code (docs/workers.md)."""
    arguments = _parser().parse_args(argv)
    configure_logs(LogFormat(arguments.log_format))
    worker.nats_url = arguments.nats_url or worker.nats_url
    worker.site = arguments.site or worker.site
    worker.creds = arguments.creds or worker.creds

    async def compose(stack: Stack) -> None:
        await stack.start("worker", worker)
        gc.collect()
        gc.freeze()  # what the start made is there to stay: the collector need not walk it again and again

    return run(compose, loop_factory=_new_event_loop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A DagNats worker: takes tasks, does them, reports.")
    parser.add_argument("--nats-url", metavar="URL", help="NATS servers, comma-separated [env: DAGNATS_NATS_URL]")
    parser.add_argument("--site", help="site to work for; found by itself if only one answers [env: DAGNATS_SITE]")
    parser.add_argument("--creds", metavar="FILE", help="credentials file [env: DAGNATS_CREDS]")
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default=os.environ.get("DAGNATS_LOG_FORMAT") or str(LogFormat.AUTO),
        help="how log lines look [env: DAGNATS_LOG_FORMAT] [default: auto]",
    )
    return parser


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
