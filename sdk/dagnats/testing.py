"""For tests of your workflows: a real site in a process of its own, and one call that runs a workflow through it.

    async with dagnats.testing.site() as site:
        assert await dagnats.testing.run_workflow(site, wf, worker, {"path": "README.md"}) == ...

Nothing is simulated: it is `dagnats serve` on free ports, in a directory that is removed afterwards.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dagnats.client import Client, Connecting
from dagnats_core.errors import Unavailable

if TYPE_CHECKING:
    from dagnats.worker.worker import Worker
    from dagnats.workflow import Workflow

START_S_MAX = 60.0
STOP_S_MAX = 20.0
LOG_LINES_KEPT = 200


class Site:
    """A site that runs. `log` holds the last lines of its output."""

    def __init__(self, nats_url: str, http_url: str | None, name: str, data_dir: Path, log: deque[str]) -> None:
        self.nats_url = nats_url
        self.http_url = http_url
        self.name = name
        self.data_dir = data_dir
        self.log = log

    def client(self) -> Connecting:
        """Connect to it: `async with site.client() as client:`."""
        return Client.connect(self.nats_url, site=self.name)


@asynccontextmanager
async def site(
    *,
    http: bool = False,
    durability: Literal["always", "1s", "os"] = "os",
    data_dir: Path | None = None,
    nats_port: int = 0,
) -> AsyncIterator[Site]:
    """Start a site and stop it at the end of the block. With `data_dir` its data is kept, for the next one to go on.

    Raises Unavailable, with the end of its log, if it does not start within 60 s.
    """
    with tempfile.TemporaryDirectory(prefix="dagnats-test-", ignore_cleanup_errors=True) as directory:
        home = data_dir or Path(directory, "data")
        command = [sys.executable, "-m", "dagnats_cli.main", "serve", "--data-dir", str(home)]
        command += ["--nats-port", str(nats_port)]
        command += ["--http-addr", "127.0.0.1:0"] if http else ["--no-http"]
        command += ["--durability", durability, "--log-format", "json"]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        log: deque[str] = deque(maxlen=LOG_LINES_KEPT)
        ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        reading = asyncio.create_task(_read_log(process, log, ready))
        try:
            facts = await _wait_ready(ready, log)
            yield Site(facts["nats_url"], facts["http_url"], facts["site"], home, log)
        finally:
            await _stop(process)
            await reading


async def run_workflow(
    running: Site, workflow: Workflow | Mapping[str, Any], worker: Worker, input: Any = None, *, timeout: float = 30.0
) -> Any:
    """Register a workflow, run it once with `worker`, and return its output.

    The worker is started for this if it does not run. Raises RunFailed, RunCancelled or TimedOut.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(running.client())
        registered = await client.register(workflow)
        if not worker.running:
            worker.nats_url, worker.site = running.nats_url, running.name
            await stack.enter_async_context(worker)
        run = await client.start(registered.name, input)
        return await run.result(timeout=timeout)


async def _read_log(
    process: asyncio.subprocess.Process, log: deque[str], ready: asyncio.Future[dict[str, Any]]
) -> None:
    """Keep the process's lines; tell the facts of its `ready` line, or that it ended without one."""
    assert process.stderr is not None
    async for raw in process.stderr:
        line = raw.decode("utf-8", "replace").rstrip()
        log.append(line)
        if not ready.done() and '"ready"' in line:
            with suppress(ValueError):
                facts = json.loads(line)
                if facts.get("event") == "ready":
                    ready.set_result(facts)
    if not ready.done():
        ready.set_exception(Unavailable("the site ended before it was ready"))


async def _wait_ready(ready: asyncio.Future[dict[str, Any]], log: deque[str]) -> dict[str, Any]:
    try:
        return await asyncio.wait_for(ready, START_S_MAX)
    except (TimeoutError, Unavailable) as error:
        raise Unavailable("the site did not start; its log ends with:\n" + "\n".join(list(log)[-20:])) from error


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S_MAX)
    except TimeoutError:
        process.kill()
        await process.wait()
