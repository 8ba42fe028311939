"""The quick start in one command: starts a server and a worker, runs the workflow on a file of yours, stops both.

python examples/quickstart/run.py [FILE]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from workflow import Report, Source, wf

from dagnats import Client, DagNatsError, RunHandle
from dagnats.testing import site

HERE = Path(__file__).parent
LOG = Path("quickstart-report", "worker.log")
WORKER_STOP_S_MAX = 20
BAR_CHARS = 32


async def main(file: Path) -> int:
    print("starting the server (dagnats serve) ...")
    async with site() as server:
        print(f"  NATS at {server.nats_url}, data in a temporary folder")
        print("starting the worker (examples/quickstart/worker.py) ...")
        async with worker(server.nats_url) as log, Client.connect(server.nats_url) as client:
            await client.register(wf)
            run = await client.start("quickstart", Source(path=str(file)))
            print(f"\nrun {run.run_id} of workflow quickstart on {file.name}")
            try:
                await show_steps(run)
                show(await run.result(timeout=60, type=Report))
            except DagNatsError as error:
                print(f"\nerror: {error.message}", file=sys.stderr)
                print(f"the worker's log is {log}", file=sys.stderr)
                return error.error_class.exit_code
        print("\nthe worker has stopped; stopping the server ...")
    print("done; nothing is left running")
    return 0


@asynccontextmanager
async def worker(nats_url: str) -> AsyncIterator[Path]:
    """The worker as a process of its own; it stops on SIGTERM once its tasks are done."""
    command = [sys.executable, str(HERE / "worker.py"), "--nats-url", nats_url, "--log-format", "json"]
    process = await asyncio.create_subprocess_exec(*command, stderr=new_log())
    try:
        yield LOG
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), WORKER_STOP_S_MAX)


def new_log() -> IO[bytes]:
    LOG.parent.mkdir(exist_ok=True)
    return LOG.open("wb")


async def show_steps(run: RunHandle) -> None:
    """Print each step as it ends, with how long it took."""
    async for event in run.events():
        match event.type:
            case "step_completed":
                print(f"  ✓ {event.step:<10} {event.duration_ms or 0:>6} ms")
            case "step_failed":
                cause = event.error.message if event.error else ""
                again = " (tried again)" if event.retry_at else ""
                print(f"  ✗ {event.step:<10} {event.duration_ms or 0:>6} ms  {cause}{again}")
            case "run_ended":
                print(f"  run {event.status}")


def show(report: Report) -> None:
    print(f"\n{report.name}: {report.words:,} words, {report.different:,} different, {report.lines:,} lines")
    most = max((sum(word.counts) for word in report.top), default=1)
    for word in report.top:
        total = sum(word.counts)
        print(f"  {word.word:>18} {'█' * max(1, total * BAR_CHARS // most)} {total:,}")
    print(f"\nchart: {report.chart}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(f"usage: {sys.argv[0]} [FILE]")
    file = Path(sys.argv[1] if len(sys.argv) == 2 else "README.md").expanduser().resolve()
    sys.exit(asyncio.run(main(file)))
